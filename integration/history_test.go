package integration

import (
	"errors"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
	"github.com/pglockstep/lockstep/triggers"
)

// wantDifferences checks that a reload told a subscriber of these rows, each
// once, and of no others.
func wantDifferences(t *testing.T, got []lockstep.Change[int, item], want map[int]lockstep.Op) {
	t.Helper()
	seen := map[int]bool{}
	for _, c := range got {
		if c.Op != want[c.Key] || seen[c.Key] {
			t.Errorf("a subscriber was told %v of row %d (%v to %v)", c.Op, c.Key, c.Old, c.New)
		}
		seen[c.Key] = true
	}
	if len(seen) != len(want) {
		t.Errorf("a subscriber was told of %d rows, want %d: %v", len(seen), len(want), got)
	}
}

// What a node that was away has missed can be gone. It then loads again and
// says so; subscribers are told what really differs.
func TestTrimmingPastANodeThatIsAwayLeadsToALoadThatSaysSo(t *testing.T) {
	db := fresh(t)
	items(t, db)
	pool, proxy := proxied(t, db)
	node, table := start(t, pool)
	db.Exec(t, "update items set v = 1 where id = 1")
	barrier(t, node)
	changes := subscribe(t, table)

	proxy.Stop()
	db.Exec(t, "update items set v = 5 where id in (2, 3)")
	db.Exec(t, "update items set v = 6 where id = 3")
	db.Exec(t, "delete from items where id = 4")
	db.Exec(t, "insert into items values (200, 1)")
	db.Exec(t, "update items set v = 0 where id = 9") // no difference
	trimmed, err := outbox.Trim(deadline(t), db.Pool(t), outbox.TrimOptions{HardRows: 1, KeepNewest: 1})
	if err != nil || trimmed.Deleted == 0 {
		t.Fatalf("nothing was trimmed: %+v, %v", trimmed, err)
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	barrier(t, node)

	last := node.Status().Loads
	if s := node.Status(); s.Resyncs != 1 || len(last) != 2 || last[1].Reason != replay.Trimmed || s.State != lockstep.Live {
		t.Errorf("%v, %d resyncs, loads %+v", s.State, s.Resyncs, last)
	}
	wantSame(t, db, table)
	db.Exec(t, "update items set v = 99 where id = 1")
	got := changes.upTo(rowOneIs(99))
	wantDifferences(t, got[:len(got)-1], map[int]lockstep.Op{2: lockstep.OpUpdate, 3: lockstep.OpUpdate, 4: lockstep.OpDelete, 200: lockstep.OpInsert})
}

func TestTrimmingBehindANodeDisturbsNobody(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	pool := db.Pool(t)
	for v := 1; v <= 20; v++ {
		db.Exec(t, "update items set v = v + 1")
		barrier(t, node)
		if _, err := outbox.Trim(deadline(t), pool, outbox.TrimOptions{KeepRows: 1, KeepNewest: 1, Spare: -1}); err != nil {
			t.Fatal(err)
		}
	}
	barrier(t, node)
	wantSame(t, db, table)
	if s := node.Status(); s.Resyncs+s.Reloads != 0 {
		t.Errorf("%d resyncs, %d reloads: %+v", s.Resyncs, s.Reloads, s.Loads)
	}
	var left int
	if err := pool.QueryRow(t.Context(), "select count(*) from lockstep.outbox").Scan(&left); err != nil || left > 100 {
		t.Errorf("%d events are left, %v: nothing was trimmed", left, err)
	}
}

func TestNewHistoryLoadsAgainAndSaysSo(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	old, err := table.Put(deadline(t), item{7, 9})
	if err != nil {
		t.Fatal(err)
	}
	changes := subscribe(t, table)
	if err := triggers.NewHistory(t.Context(), db.Pool(t), triggers.Options{}); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "update items set v = 10 where id = 7")
	barrier(t, node)
	if s := node.Status(); s.Resyncs != 1 || s.Loads[len(s.Loads)-1].Reason != replay.HistoryChanged {
		t.Errorf("%d resyncs: %+v", s.Resyncs, s.Loads)
	}
	wantSame(t, db, table)
	if err := node.WaitFor(deadline(t), old); !errors.Is(err, lockstep.ErrHistory) {
		t.Errorf("a token of the old history: %v", err)
	}
	db.Exec(t, "update items set v = 99 where id = 1")
	got := changes.upTo(rowOneIs(99))
	wantDifferences(t, got[:len(got)-1], map[int]lockstep.Op{7: lockstep.OpUpdate})
}
