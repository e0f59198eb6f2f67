package appsql

import (
	"log/slog"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

var silent = slog.New(slog.DiscardHandler)

// What one run of a script finds must not hang on who else is at work: no autovacuum. A deadlock is
// found by the session that closes the circle first, within moments.
func TestMain(m *testing.M) {
	pgtest.Main(m, pgtest.With("max_prepared_transactions", "10"), pgtest.With("autovacuum", "off"),
		pgtest.With("wal_level", "logical"), pgtest.With("deadlock_timeout", "100ms"))
}
