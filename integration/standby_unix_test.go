//go:build unix

package integration

import (
	"errors"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox"
)

// On a standby a snapshot does not list what is in flight. A node is not
// started there; one whose server becomes one waits until it is promoted.
func TestStandbyIsRefusedUntilItIsPromoted(t *testing.T) {
	c := own(t)
	db := c.New(t)
	items(t, db)
	pool := db.Pool(t)
	node, table := start(t, pool)
	changes := subscribe(t, table)
	db.Exec(t, "update items set v = 1 where id = 1")
	changes.upTo(rowOneIs(1))

	c.BecomeStandby(t)
	_, err := lockstep.Start(deadline(t), db.Pool(t), lockstep.Config{Logger: silent}, itemTable())
	if !errors.Is(err, outbox.ErrStandby) || !strings.Contains(err.Error(), "connect to the primary") {
		t.Errorf("a node started on a standby: %v", err)
	}
	until(t, "the node says that it has a standby before it", func() bool {
		s := node.Status()
		return s.State == lockstep.Stale && errors.Is(s.LastError, outbox.ErrStandby)
	})
	pool.Reset() // what it holds idle is not what is tested
	if _, err := table.Put(deadline(t), item{1, 5}); !errors.Is(err, lockstep.ErrNotCommitted) || !errors.Is(err, lockstep.ErrReadOnly) {
		t.Errorf("a write to a standby: %v", err)
	}
	if got, ok := table.Get(1); !ok || got.V != 1 {
		t.Errorf("before a standby the node answers %v, %v", got, ok)
	}

	db.Exec(t, "select pg_promote()")
	db.Exec(t, "update items set v = 2 where id = 1")
	wantEach(t, values(changes.upTo(rowOneIs(2))), 2, 2)
	if s := node.Status(); s.Resyncs+s.Reloads != 0 {
		t.Errorf("a promotion that lost nothing: %+v", s.Loads)
	}
}
