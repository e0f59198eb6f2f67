package lockstep_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// quiet is the configuration of most tests. A node in a test has no reason to
// write to the register.
var quiet = lockstep.Config{Name: "test", Register: -1, Logger: slog.New(slog.DiscardHandler), DetectMutation: true}

// deadline bounds a test that waits for what never comes.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// database makes a database with this schema and puts capture on the tables.
func database(t *testing.T, schema string, tables ...string) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, schema)
	install(t, db, tables...)
	return db
}

func install(t *testing.T, db *pgtest.DB, tables ...string) {
	t.Helper()
	if err := triggers.Install(deadline(t), db.Conn(t), triggers.Options{Logger: quiet.Logger}, tables...); err != nil {
		t.Fatal(err)
	}
}

// start starts a node that ends with the test.
func start(t *testing.T, pool *pgxpool.Pool, tables ...lockstep.AnyTable) *lockstep.Node {
	t.Helper()
	return startWith(t, pool, quiet, tables...)
}

func startWith(t *testing.T, pool *pgxpool.Pool, cfg lockstep.Config, tables ...lockstep.AnyTable) *lockstep.Node {
	t.Helper()
	node, err := lockstep.Start(deadline(t), pool, cfg, tables...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return node
}

// one reads one value as the superuser.
func one[V any](t *testing.T, db *pgtest.DB, sql string, args ...any) (v V) {
	t.Helper()
	conn := db.Conn(t)
	if err := conn.QueryRow(deadline(t), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v
}

// row is a table's row as text, "" where it is not there.
func row(t *testing.T, db *pgtest.DB, table, where string) string {
	t.Helper()
	return one[string](t, db, "select coalesce((select t::text from "+table+" t where "+where+"), '')")
}

// wantWrite checks that an error is a *WriteError of exactly this outcome, and
// that it matches the causes.
func wantWrite(t *testing.T, err, outcome error, causes ...error) *lockstep.WriteError {
	t.Helper()
	var we *lockstep.WriteError
	if !errors.As(err, &we) {
		t.Fatalf("the error is %T %v, want a *WriteError", err, err)
	}
	for _, o := range []error{lockstep.ErrNotCommitted, lockstep.ErrOutcomeUnknown, lockstep.ErrNotVisible} {
		if errors.Is(err, o) != (o == outcome) {
			t.Errorf("the error %q: is it %q? %v", err, o, errors.Is(err, o))
		}
	}
	for _, c := range causes {
		if !errors.Is(err, c) {
			t.Errorf("the error %q does not match %q", err, c)
		}
	}
	return we
}

// code is the SQLSTATE of an error, "" where it has none.
func code(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
