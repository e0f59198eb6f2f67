package integration

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// quiet starts a node that writes nothing itself: a commit of its own would
// bring to disk what a test wants to be lost.
func quiet(t *testing.T, pool *pgxpool.Pool) (*lockstep.Node, *lockstep.Table[int, item]) {
	t.Helper()
	table := itemTable()
	return startNode(t, pool, lockstep.Config{Register: -1, Retention: -1}, table), table
}

// The transactions of these tests move amounts between items, so that in every
// state of the database the sum is 0.
const moveSQL = "update items set v = v + case id when $1 then $3::int else - $3::int end where id in ($1, $2)"

func move(t *testing.T, conn *pgx.Conn, from, to, amount int) {
	t.Helper()
	if _, err := conn.Exec(deadline(t), moveSQL, from, to, amount); err != nil {
		t.Fatal(err)
	}
}

// readers read a node until the test ends: no view may ever show anything but
// a state that the database was in.
func readers(t *testing.T, node *lockstep.Node, table *lockstep.Table[int, item]) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var reads atomic.Int64
	for range 2 {
		wg.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for ; ctx.Err() == nil; <-tick.C {
				sum, first := 0, 0
				node.View(func(v *lockstep.View) {
					for id, i := range table.At(v).All() {
						sum += i.V
						if id <= 100 {
							first++
						}
					}
				})
				if sum != 0 || first != 100 {
					t.Errorf("a reader found %d of the first 100 items and a sum of %d", first, sum)
					return
				}
				reads.Add(1)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if reads.Load() == 0 {
			t.Error("nobody has read anything")
		}
	})
}

// mark inserts an item that tells a subscriber that nothing before it is to come.
func (f *feed[K, T]) mark(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, "insert into items values (1000000, 0)")
}

func isMark(c lockstep.Change[int, item]) bool { return c.Key == 1_000_000 }

// differences are the items of which a subscriber is to be told when what it
// has becomes what there is.
func differences(had, has map[int]item) map[int]lockstep.Op {
	want := map[int]lockstep.Op{}
	for id, i := range had {
		now, ok := has[id]
		switch {
		case !ok:
			want[id] = lockstep.OpDelete
		case now != i:
			want[id] = lockstep.OpUpdate
		}
	}
	for id := range has {
		if _, ok := had[id]; !ok {
			want[id] = lockstep.OpInsert
		}
	}
	return want
}

// held are the items that a node has.
func held(table *lockstep.Table[int, item]) map[int]item { return maps.Collect(table.All()) }
