//go:build unix

package integration

import (
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox/wal"
	"github.com/pglockstep/lockstep/triggers"
)

// PgBouncer before 1.23 refuses replication connections, later ones pass them on.
func TestANodeThatReadsTheLogPollsBehindAPoolerThatRefusesIt(t *testing.T) {
	c := decoded(t)
	db := c.New(t)
	items(t, db)
	rings(t, db, triggers.BellWAL)
	pool := poolAt(t, pooled(t, db))
	table := itemTable()
	node := startNode(t, pool, lockstep.Config{WAL: wal.Bell{}}, table)
	switch s := node.Status(); {
	case s.Bell == "poll" && strings.Contains(s.WhyBell, "is there a pooler in front"):
	case s.Bell == "wal":
		t.Log("this PgBouncer passes replication connections on")
	default:
		t.Errorf("the bell is %s: %q", s.Bell, s.WhyBell)
	}
	changes := subscribe(t, table)
	for v := 1; v <= 5; v++ {
		db.Exec(t, "update items set v = v + 1 where id = 1")
		changes.upTo(rowOneIs(v))
	}
	wantSame(t, db, table)
}
