package replay

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/outbox"
)

func TestAPassedHorizonLeadsToALoadThatSaysSo(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.cutOff()
		var last uint64
		for i := range 5 {
			last = r.write(emp, 10+i, "while away")
		}
		r.db.trim(last)
		r.cameBack()
		r.heal()
		st := r.eng.Status()
		if l := r.lastLoad(); l.Reason != Trimmed || st.Resyncs != 1 || l.Detail == "" {
			t.Errorf("%d resyncs, the last load is %+v, want one because of trimming", st.Resyncs, l)
		}
		if info := r.published(); info[len(info)-1].Reason != Trimmed {
			t.Errorf("the published cut says %q", info[len(info)-1].Reason)
		}
	})
}

func TestAHorizonThatPassesATransactionInFlightCounts(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		slow := r.db.begin()
		slow.put(emp, 5, "slow")
		last := r.write(emp, 2, "two")
		r.settle()
		r.cutOff()
		slow.commit()
		r.db.trim(last) // above slow, below the floor
		r.cameBack()
		r.heal()
		if l := r.lastLoad(); l.Reason != Trimmed {
			t.Errorf("the last load is %+v, want one because of trimming", l)
		}
		r.want(r.emp, 5, "slow")
	})
}

func TestAHorizonAtThePositionIsNotPassed(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		last := r.write(emp, 2, "two")
		r.settle()
		r.db.trim(last)
		r.settle()
		r.quiet()
		if st := r.wantState(Live); st.Resyncs != 0 {
			t.Errorf("%d resyncs", st.Resyncs)
		}
	})
}

func TestAnOutboxTrimmedToTheLastRowIsLoadedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.db.trim(r.write(emp, 1, "one") + 1)
		r.start()
		r.quiet()
		r.write(emp, 2, "two")
		r.settle()
		if st := r.wantState(Live); st.Resyncs != 0 {
			t.Errorf("%d resyncs", st.Resyncs)
		}
		r.want(r.emp, 2, "two")
	})
}

func TestAnotherHistoryLeadsToALoadThatSaysSo(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		old := r.eng.History()
		r.db.newHistory()
		r.heal()
		st := r.eng.Status()
		if l := r.lastLoad(); l.Reason != HistoryChanged || st.Resyncs != 1 {
			t.Errorf("%d resyncs, the last load is %+v", st.Resyncs, l)
		}
		if st.History == old || st.History != r.eng.History() {
			t.Errorf("the engine follows %v, before it was %v", st.History, old)
		}
		r.write(emp, 5, "goes on")
		r.settle()
		r.want(r.emp, 5, "goes on")
	})
}

func TestASnapshotThatGoesBackLeadsToALoad(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.write(emp, 2, "two")
		r.settle()
		r.set(func(db *fakeDB) {
			db.rewind = func(s outbox.Position) outbox.Position { return outbox.NewPosition(s.Xmax()-1, nil) }
		})
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		if l := r.lastLoad(); l.Reason != HistoryChanged {
			t.Errorf("the last load is %+v", l)
		}
		r.set(func(db *fakeDB) { db.rewind = nil })
	})
}

// Trimming only moves forward. A server on which it went back has lost what
// came after it, and with that perhaps commits whose events were trimmed: no
// anchor names those.
func TestAHorizonThatWentBackLeadsToALoadThatSaysSo(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		for i := range 5 {
			r.write(emp, i, "a row")
		}
		r.settle()
		horizon := r.eng.Position().Xmin() - 1
		r.db.trim(horizon)
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		if st := r.eng.Status(); st.Resyncs != 0 {
			t.Fatalf("trimming alone led to %+v", st.Loads)
		}
		r.set(func(db *fakeDB) { db.horizon = horizon - 1 })
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		if l := r.lastLoad(); l.Reason != HistoryChanged || !strings.Contains(l.Detail, "went back") {
			t.Errorf("the last load is %+v", l)
		}
		time.Sleep(10 * r.eng.cfg.Beat)
		synctest.Wait()
		if st := r.eng.Status(); st.Resyncs != 1 {
			t.Errorf("%d resyncs, want one", st.Resyncs)
		}
	})
}

func TestASourceThatAsksForResyncsWithoutEndIsMetWithPatience(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.horizon = 1 << 40 })
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := r.eng.Status().Resyncs; n < 2 || n > 40 {
			t.Errorf("%d resyncs in a minute, want them further and further apart", n)
		}
	})
}

func TestAResyncIsADifference(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		for i := range 20 {
			r.write(emp, i, "same")
		}
		r.settle()
		ctx, cancel := context.WithCancel(t.Context())
		var changes []cache.Change[int, rec]
		done := make(chan struct{})
		go func() {
			defer close(done)
			for c, err := range r.emp.Changes(ctx) {
				if err != nil {
					return
				}
				if c.Op != cache.Current && c.Op != cache.Live {
					changes = append(changes, c)
				}
			}
		}()
		synctest.Wait()
		r.cutOff()
		r.write(emp, 3, "other")
		tx := r.db.begin()
		tx.del(emp, 4)
		tx.commit()
		r.db.newHistory()
		r.cameBack()
		r.heal()
		cancel()
		<-done
		var keys []int
		for _, c := range changes {
			keys = append(keys, c.Key)
			if !c.Resync {
				t.Errorf("the change of %d is not marked as found by a resync", c.Key)
			}
		}
		slices.Sort(keys)
		if !slices.Equal(keys, []int{3, 4}) {
			t.Errorf("the subscriber was told of %v, want the two rows that differ", keys)
		}
	})
}

func TestReadersAreServedTheOldStateWhileALoadIsUnderWay(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		for i := range 20 {
			r.write(emp, i, "old")
		}
		r.settle()
		r.cutOff()
		for i := range 20 {
			r.write(emp, i, "new")
		}
		r.db.newHistory()
		r.cameBack()
		r.set(func(db *fakeDB) { db.trickle = time.Second })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.wantState(Resyncing)
		for i := range 20 {
			r.want(r.emp, i, "old")
		}
		r.set(func(db *fakeDB) { db.trickle = 0 })
		time.Sleep(30 * time.Second)
		r.heal()
		for i := range 20 {
			r.want(r.emp, i, "new")
		}
	})
}

func TestALoadThatFailsIsTriedAgainAndLeavesTheOldState(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.cutOff()
		r.db.newHistory()
		r.write(emp, 1, "new")
		r.set(func(db *fakeDB) {
			db.down, db.stays = nil, true
			db.failAt = db.points + 6 // Open, Missing, Fetch, its header; Fetch, its header: then the rows
		})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		reached := false
		r.set(func(db *fakeDB) { reached = db.points >= db.failAt })
		if st := r.eng.Status(); !reached || st.State == Live {
			t.Fatalf("the place that fails was reached: %v; %+v", reached, st)
		}
		r.want(r.emp, 1, "one")
		r.set(func(db *fakeDB) { db.down, db.stays = nil, false })
		r.heal()
		r.want(r.emp, 1, "new")
	})
}
