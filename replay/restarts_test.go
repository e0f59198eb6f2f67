package replay

import (
	"strings"
	"testing"
)

// restarts is the tally of engines that ended and began again.
type restarts struct {
	place
	warm, mixed, cold, older int
	reasons                  map[string]int
}

// again ends the engine and begins another one, from the checkpoint of Close
// or, as after a kill, from the one before it. The server goes on meanwhile.
func (w *world) again(tally *restarts) {
	w.Helper()
	w.cameBack()
	shape := []string{"e", "e", "e", "e", "e2", ""}[w.rnd.IntN(6)]
	w.restart(shape, "d")
	if n := len(tally.done); n > 1 && w.rnd.IntN(3) == 0 {
		tally.done = tally.done[:n-1]
		tally.older++
	}
	w.off = true
	for range w.rnd.IntN(12) {
		w.step()
		if w.rnd.IntN(8) == 0 {
			w.fault()
		}
	}
	w.off = false
	for {
		w.cameBack()
		w.set(func(db *fakeDB) { db.failAt, db.delay = 0, 0 })
		if w.eng.Start(w.Context()) == nil {
			break
		}
		w.restart(shape, "d") // the session of before was still being cut off
	}
	st := w.eng.Status()
	switch c := st.Checkpoint; {
	case c.Restored && st.Reloads == 0:
		tally.warm++
	case c.Restored:
		tally.mixed++
	default:
		tally.cold++
		why, _, _ := strings.Cut(c.Refused, ":")
		tally.reasons[why]++
	}
}

// TestRandomHistoriesWithRestarts is TestRandomHistories with engines that
// begin from checkpoints: of Close, of some time before a kill, of other
// tables, and of servers that have crashed, trimmed or changed since.
func TestRandomHistoriesWithRestarts(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	tally := &restarts{reasons: map[string]int{}}
	for seed := range seeds {
		if historyWith(t, seed, true, tally); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d starts from a checkpoint, %d more with tables loaded beside it, %d cold %v, %d from a checkpoint before the last", tally.warm, tally.mixed, tally.cold, tally.reasons, tally.older)
	for _, why := range []Reason{HistoryChanged, Trimmed, AnchorMissing} {
		if tally.reasons[string(why)] == 0 {
			t.Errorf("none was refused because of %s", why)
		}
	}
	if tally.warm == 0 || tally.mixed == 0 || tally.older == 0 {
		t.Error("the histories were too tame")
	}
}
