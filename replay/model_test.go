package replay

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRandomHistories lets random transactions run against random faults. The
// rig compares every published state with the tables in the same snapshot.
func TestRandomHistories(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for name, faults := range map[string]bool{"without faults": false, "with faults": true} {
		t.Run(name, func(t *testing.T) {
			var sum Status
			for seed := range seeds {
				st := history(t, seed, faults)
				sum.Cuts += st.Cuts
				sum.Stills += st.Stills
				sum.Events += st.Events
				sum.OutOfOrder += st.OutOfOrder
				sum.Replays += st.Replays
				sum.Resyncs += st.Resyncs
				sum.Reloads += st.Reloads
				sum.Rereads += st.Rereads
				sum.Gaps.Void += st.Gaps.Void
				sum.Gaps.Late += st.Gaps.Late
				sum.Loads = append(sum.Loads, st.Loads...)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			reasons := map[Reason]int{}
			for _, l := range sum.Loads {
				reasons[l.Reason]++
			}
			t.Logf("%d cuts, %d events, %d of them below an applied number, %d replays, %d fetches done again, gaps %d late and %d void, loads %v",
				sum.Cuts, sum.Events, sum.OutOfOrder, sum.Replays, sum.Rereads, sum.Gaps.Late, sum.Gaps.Void, reasons)
			// What did not happen was not tested.
			if sum.OutOfOrder == 0 || sum.Stills == 0 || sum.Gaps.Void == 0 || sum.Gaps.Late == 0 || sum.Rereads == 0 || reasons[Unreadable] == 0 || reasons[ReloadEvent] == 0 {
				t.Error("the histories were too tame")
			}
			if faults && (sum.Replays == 0 || reasons[AnchorMissing] == 0 || reasons[Trimmed] == 0 || reasons[HistoryChanged] == 0 || reasons[Drift] == 0) {
				t.Error("the faults were too tame")
			}
		})
	}
}

func FuzzRandomHistories(f *testing.F) {
	f.Add(uint64(1), false)
	f.Add(uint64(1), true)
	f.Fuzz(func(t *testing.T, seed uint64, faults bool) { history(t, seed, faults) })
}

// world drives the fake server at random.
type world struct {
	*rig
	rnd  *rand.Rand
	open []*fakeTx
	n    int
	off  bool // no engine runs
}

// history runs one random history and returns the engine's last word on it.
func history(t *testing.T, seed uint64, faults bool) (st Status) {
	return historyWith(t, seed, faults, nil)
}

// historyWith is history with restarts now and then, if the tally of them is given.
func historyWith(t *testing.T, seed uint64, faults bool, again *restarts) (st Status) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{rig: newRig(t, Config{KeepLoads: 1000, CatalogueEvery: 300 * time.Millisecond}), rnd: rand.New(rand.NewPCG(seed, 0))}
		if again != nil {
			w.cfg.Checkpoints, w.cfg.CheckpointEvery = &again.place, 500*time.Millisecond
			again.done = nil
			w.store.Close()
			w.renew("e", "d")
		}
		w.db.stills = seed%2 == 0
		for range 10 {
			w.step()
		}
		w.start()
		before := w.committed()
		for range 120 {
			w.step()
			if faults && w.rnd.IntN(12) == 0 {
				w.fault()
			}
			if again != nil && w.rnd.IntN(20) == 0 {
				w.again(again)
			}
			w.idle()
		}
		w.quieten()
		st = w.eng.Status()
		if g := st.Gaps; g.Open != 0 || g.Misjudged != 0 {
			t.Errorf("gaps after all transactions have ended: %+v", g)
		}
		if n := w.committed() - before; !faults && st.Events+st.Passed != n {
			t.Errorf("%d events applied and %d passed by, but %d were committed", st.Events, st.Passed, n)
		}
	})
	return st
}

// committed counts the events of committed transactions in the outbox.
func (w *world) committed() (n uint64) {
	w.set(func(db *fakeDB) {
		snap := db.snapshot()
		for _, e := range db.outbox {
			if db.visible(snap, e.Xid) {
				n++
			}
		}
	})
	return n
}

func (w *world) idle() {
	switch w.rnd.IntN(10) {
	case 0:
		time.Sleep(time.Duration(w.rnd.IntN(400)) * time.Millisecond)
	case 1, 2, 3, 4:
		time.Sleep(time.Duration(w.rnd.IntN(4000)) * time.Microsecond)
	case 5:
		synctest.Wait()
	}
}

// step lets one transaction do something.
func (w *world) step() {
	if len(w.open) == 0 || len(w.open) < 6 && w.rnd.IntN(3) == 0 {
		w.open = append(w.open, w.db.begin())
	}
	i := w.rnd.IntN(len(w.open))
	tx := w.open[i]
	switch w.rnd.IntN(10) {
	case 0:
		tx.abort()
	case 1:
		tx.record() // visible later
		w.idle()
		tx.commit()
	case 2:
		tx.commitSilently()
	case 3:
		tx.commit()
	default:
		w.write(tx)
		return
	}
	w.open = append(w.open[:i], w.open[i+1:]...)
}

func (w *world) write(tx *fakeTx) {
	table, k := []string{emp, dept}[w.rnd.IntN(2)], w.rnd.IntN(8)
	w.n++
	v := fmt.Sprint("v", w.n)
	switch w.rnd.IntN(24) {
	case 0:
		tx.truncate(table)
	case 1:
		tx.putUncarried(table, k, version{v: v}, true)
	case 2:
		tx.putUncarried(table, k, version{gone: true}, true)
	case 3:
		tx.putUncarried(table, k, version{v: v}, false)
	case 4:
		tx.putBad(table, k, v)
	case 5, 6:
		tx.foreign("public.elsewhere")
	case 7, 8, 9, 10:
		tx.del(table, k)
	default:
		tx.put(table, k, v)
	}
}

// fault makes something go wrong.
func (w *world) fault() {
	switch w.rnd.IntN(9) {
	case 0:
		w.set(func(db *fakeDB) { db.failAt = db.points + 1 + w.rnd.IntN(20) })
	case 1:
		w.set(func(db *fakeDB) { db.cutOff() })
	case 2:
		w.set(func(db *fakeDB) { db.down = errPulled; db.cutOff() })
	case 3:
		w.set(func(db *fakeDB) { db.deaf = !db.deaf })
	case 4:
		w.set(func(db *fakeDB) { db.delay = time.Duration(w.rnd.IntN(30)) * time.Millisecond })
	case 5:
		w.crash()
	case 6:
		// Never past what may still be written, never the newest.
		var xmin uint64
		w.set(func(db *fakeDB) {
			xmin = db.snapshot().Xmin()
			if n := len(db.outbox); n > 0 {
				xmin = min(xmin, db.outbox[n-1].Xid)
			}
		})
		w.db.trim(xmin)
	case 7:
		if w.rnd.IntN(3) == 0 {
			w.db.newHistory()
		}
	case 8:
		w.alter()
	}
	if w.rnd.IntN(2) == 0 {
		w.cameBack()
	}
}

// crash restarts the server and loses some of the end of its log.
func (w *world) crash() {
	var place int
	w.set(func(db *fakeDB) { place = max(db.kept, db.wal-w.rnd.IntN(12)) })
	w.db.crash(place)
	w.open = nil
}

// alter changes rows without events. Nobody can know of it before the
// catalogue is compared, so the table is not compared until then.
func (w *world) alter() {
	table := []string{emp, dept}[w.rnd.IntN(2)]
	if w.off {
		w.db.alter(table, func(v string) string { return v + "'" })
		return
	}
	w.leaveOut(table, true)
	w.db.alter(table, func(v string) string { return v + "'" })
	w.cameBack()
	w.set(func(db *fakeDB) { db.delay, db.failAt = 0, 0 })
	w.heal()
	time.Sleep(time.Second)
	synctest.Wait()
	w.leaveOut(table, false)
}

// quieten ends all transactions and faults, and compares what is left.
func (w *world) quieten() {
	w.Helper()
	for _, tx := range w.open {
		tx.commitSilently()
	}
	w.set(func(db *fakeDB) { db.down, db.failAt, db.delay = nil, 0, 0 })
	w.heal()
	time.Sleep(3 * time.Second)
	if err := w.eng.Barrier(w.Context()); err != nil {
		w.Error(err)
	}
	w.set(func(db *fakeDB) {
		snap := db.snapshot()
		for name, got := range map[string]rows{emp: content(w.emp), dept: content(w.dept)} {
			if want := db.at(name, snap); !maps.Equal(got, want) {
				w.Errorf("in the end table %s holds %v, want %v", strings.TrimPrefix(name, "public."), got, want)
			}
		}
	})
	w.wantState(Live)
}
