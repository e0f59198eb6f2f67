package pgtest_test

import (
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, pgtest.With("max_prepared_transactions", "20")) }

func TestEveryTestHasADatabaseOfItsOwn(t *testing.T) {
	a, b := pgtest.New(t), pgtest.New(t)
	a.Exec(t, "CREATE TABLE only_here (n int)")
	var there bool
	err := b.Conn(t).QueryRow(t.Context(), "SELECT to_regclass('only_here') IS NOT NULL").Scan(&there)
	if err != nil {
		t.Fatal(err)
	}
	if there {
		t.Error("a table made in one database is in the other")
	}
}
