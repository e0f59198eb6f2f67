package demo

import (
	"context"
	"io"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// What the nodes wait for before they are compared: had a snapshot that is
// older than the last write the token, one of two writes that end together
// could be missing where the other is the last.
func TestTheTokenOfTheTruthIsInNoSnapshotThatIsOlder(t *testing.T) {
	pool := pgtest.New(t).Pool(t)
	c := &cluster{Options: Options{DSN: pool.Config().ConnString()}, voice: newVoice(io.Discard, func(error) {}), book: newBook()}
	if err := c.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.clean(); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.traffic.bulkRaise(t.Context()); err != nil {
		t.Fatal(err)
	}
	var older string
	if err := pool.QueryRow(t.Context(), "select pg_current_snapshot()::text").Scan(&older); err != nil {
		t.Fatal(err)
	}
	token, rows, err := c.truth(context.Background())
	if err != nil || len(rows) != 429 {
		t.Fatalf("%d rows, %v; want 420 employees and 9 departments", len(rows), err)
	}
	var has bool
	if err := pool.QueryRow(t.Context(), "select pg_visible_in_snapshot($1::bigint::text::xid8, $2::text::pg_snapshot)", token.Xid, older).Scan(&has); err != nil {
		t.Fatal(err)
	}
	if has {
		t.Errorf("the snapshot %s has %s", older, token)
	}
}
