package replay

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// a gap is a number that was handed out and is not accounted for.

func TestAGapIsClosedByItsLateEvent(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		slow := r.db.begin()
		slow.put(emp, 7, "late")
		r.write(emp, 2, "two")
		r.settle()
		if g := r.eng.Status().Gaps; g.Open != 1 || g.Late != 0 {
			t.Fatalf("%+v while one number is in flight", g)
		}
		slow.commit()
		r.settle()
		st := r.eng.Status()
		if g := st.Gaps; g.Open != 0 || g.Late != 1 || g.Void != 0 {
			t.Errorf("%+v after the late event", g)
		}
		if st.OutOfOrder != 1 {
			t.Errorf("%d events below an applied number, want 1", st.OutOfOrder)
		}
	})
}

func TestAGapOfARolledBackTransactionIsVoidByEvidence(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		tx := r.db.begin()
		tx.put(emp, 7, "never")
		tx.put(emp, 8, "never")
		r.write(emp, 2, "two")
		r.settle()
		tx.abort()
		time.Sleep(2 * r.eng.cfg.Beat)
		synctest.Wait()
		if g := r.eng.Status().Gaps; g.Open != 0 || g.Void != 2 || g.Late != 0 {
			t.Errorf("%+v after two numbers were rolled back", g)
		}
	})
}

func TestNoTimeClosesAGap(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		idle := r.db.begin()
		idle.put(emp, 7, "an hour later")
		r.write(emp, 2, "two")
		time.Sleep(time.Hour)
		synctest.Wait()
		if g := r.wantState(Live).Gaps; g.Open != 1 || g.Void != 0 {
			t.Errorf("%+v while the transaction is idle", g)
		}
		idle.commit()
		r.settle()
		if g := r.eng.Status().Gaps; g.Open != 0 || g.Late != 1 || g.Misjudged != 0 {
			t.Errorf("%+v after it has committed", g)
		}
		r.want(r.emp, 7, "an hour later")
	})
}

func TestAGapClosedByAReconnectCountsAsReplayed(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		slow := r.db.begin()
		slow.put(emp, 7, "while away")
		r.write(emp, 2, "two")
		r.settle()
		r.cutOff()
		slow.commit()
		r.cameBack()
		r.heal()
		if g := r.eng.Status().Gaps; g.Open != 0 || g.Replayed != 1 || g.Late != 0 {
			t.Errorf("%+v after the reconnect", g)
		}
	})
}

func TestTheNumbersThatACrashSkipsAreVoid(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.write(emp, 2, "two")
		r.settle()
		r.db.mu.Lock()
		end := r.db.wal
		r.db.mu.Unlock()
		r.db.crash(end)
		r.heal()
		time.Sleep(2 * r.eng.cfg.Beat)
		synctest.Wait()
		st := r.eng.Status()
		if st.Gaps.Void == 0 || st.Gaps.Open != 0 {
			t.Errorf("%+v after the sequence has jumped", st.Gaps)
		}
		if st.Resyncs != 0 || st.Replays != 1 {
			t.Errorf("a crash that lost nothing caused %d resyncs and %d replays", st.Resyncs, st.Replays)
		}
	})
}

func TestOpenGapsAreAccountedForByAResync(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		slow := r.db.begin()
		slow.put(emp, 7, "late")
		r.write(emp, 2, "two")
		r.settle()
		r.db.newHistory()
		r.heal()
		if g := r.eng.Status().Gaps; g.Open != 0 || g.Reloaded != 1 {
			t.Errorf("%+v after the resync", g)
		}
		slow.put(emp, 8, "later")
		slow.commit()
		r.settle()
		if g := r.eng.Status().Gaps; g.Open != 0 || g.Misjudged != 0 {
			t.Errorf("%+v after the transaction that was in flight has ended", g)
		}
		r.want(r.emp, 7, "late")
	})
}

func TestATransactionIdIsDrawnAtMostOnceABeatAndOnlyForGaps(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		time.Sleep(time.Second) // the load's own question is settled
		drawn := func() (n int) {
			r.set(func(db *fakeDB) {
				for _, req := range db.requests {
					if req.DrawXid {
						n++
					}
				}
				db.requests = nil
			})
			return n
		}
		drawn()
		for range 40 {
			r.write(emp, 2, "two")
			time.Sleep(50 * time.Millisecond)
		}
		if n := drawn(); n != 0 {
			t.Errorf("%d ids drawn in two seconds without a gap", n)
		}
		for i := range 40 {
			tx := r.db.begin()
			tx.put(emp, 100+i, "never")
			tx.abort()
			r.write(emp, 2, "two")
			time.Sleep(50 * time.Millisecond)
		}
		if n := drawn(); n == 0 || n > 8 {
			t.Errorf("%d ids drawn in eight beats with gaps", n)
		}
	})
}

// TestTheAccountAgreesWithASet compares the account with a plain set of
// numbers, of which some come late, some are void, and the server now and then
// loses the end of what it had handed out.
func TestTheAccountAgreesWithASet(t *testing.T) {
	for seed := range uint64(300) {
		checkAccount(t, rand.New(rand.NewPCG(seed, 1)))
	}
}

type numbered struct {
	seq  int64
	xid  uint64
	fate int // 0: comes in the end, 1: never
}

func checkAccount(t *testing.T, rnd *rand.Rand) {
	t.Helper()
	g := &gaps{max: 1 << 16}
	var (
		seq     int64
		xid     uint64
		pending []numbered
		seen    = map[int64]bool{} // accounted for by an event
		came    int64
	)
	for range 60 {
		for range rnd.IntN(6) {
			seq, xid = seq+1, xid+1
			pending = append(pending, numbered{seq, xid, rnd.IntN(3) / 2})
		}
		c := g.begin()
		kept, xmin := pending[:0:0], xid+1
		for _, n := range pending {
			if rnd.IntN(3) > 0 {
				kept = append(kept, n)
				xmin = min(xmin, n.xid)
				continue
			}
			if n.fate == 0 {
				c.event(n.seq)
				seen[n.seq] = true
				came++
			}
		}
		pending = kept
		var drawn uint64
		if rnd.IntN(2) == 0 {
			xid++
			drawn = xid
		}
		c.settle(seq, xmin, drawn, false)
		compareAccount(t, g, seq, seen, pending)
		if t.Failed() {
			return
		}
	}
	if g.Misjudged != 0 {
		t.Errorf("%d numbers were called void and came", g.Misjudged)
	}
	if in := int64(g.Late) + int64(g.Void) + g.Open; in > seq || int64(g.Void)+g.Open+came != seq {
		t.Errorf("%+v and %d events do not add up to %d numbers", g.GapStats, came, seq)
	}
}

func compareAccount(t *testing.T, g *gaps, seq int64, seen map[int64]bool, pending []numbered) {
	t.Helper()
	open := map[int64]bool{}
	last, total := int64(0), int64(0)
	for _, s := range g.open {
		if s.lo <= last || s.hi < s.lo || s.hi > seq {
			t.Fatalf("spans out of order: %v", g.open)
		}
		last = s.hi
		for n := s.lo; n <= s.hi; n++ {
			open[n] = true
			total++
			if seen[n] {
				t.Fatalf("%d is called open although its event has come", n)
			}
		}
	}
	if total != g.Open {
		t.Fatalf("%d numbers are open, the account says %d", total, g.Open)
	}
	for _, n := range pending {
		if !open[n.seq] {
			t.Fatalf("%d is in flight and not called open", n.seq)
		}
	}
}

func TestTooManyGapsAreJoinedAndStillClosed(t *testing.T) {
	g := &gaps{max: 8}
	c := g.begin()
	for seq := int64(2); seq <= 200; seq += 2 {
		c.event(seq)
	}
	c.settle(200, 1, 0, false)
	if len(g.open) > 8 || g.Open < 100 {
		t.Fatalf("%d spans of %d numbers, want at most 8 spans and no open number forgotten", len(g.open), g.Open)
	}
	c = g.begin()
	c.event(3)
	c.settle(200, 10, 50, false)
	c = g.begin()
	c.settle(200, 51, 0, false)
	if len(g.open) != 0 || g.Open != 0 || g.Late != 1 {
		t.Errorf("%v open, %+v after the evidence", g.open, g.GapStats)
	}
}

func TestNumbersThatTheServerLostAreHandedOutAgain(t *testing.T) {
	g := &gaps{max: 100}
	c := g.begin()
	c.event(1)
	c.event(5)
	c.settle(40, 1, 0, false) // 2-4 and 6-40 are open
	c = g.begin()
	c.settle(10, 1, 0, false) // a server that has handed out ten
	if g.known != 10 || g.Open != 3+5 || g.Void != 30 {
		t.Errorf("known %d, %+v", g.known, g.GapStats)
	}
	c = g.begin()
	c.event(11)
	c.settle(11, 1, 0, false)
	if g.Misjudged != 0 || g.Open != 8 {
		t.Errorf("%+v after a number was handed out again", g.GapStats)
	}
}

func TestAnIdDrawnInTheFetchThatFirstSawAGapProvesNothing(t *testing.T) {
	g := &gaps{max: 100}
	c := g.begin()
	c.settle(3, 40, 50, false) // the id may have been drawn before the number was read
	c = g.begin()
	c.settle(3, 51, 60, false)
	if g.Open != 3 || g.Void != 0 {
		t.Errorf("%+v, want the gaps open", g.GapStats)
	}
	c = g.begin()
	c.settle(3, 60, 0, false)
	if g.Open != 3 {
		t.Errorf("%+v while the transaction that was drawn may run", g.GapStats)
	}
	c = g.begin()
	c.settle(3, 61, 0, false)
	if g.Open != 0 || g.Void != 3 {
		t.Errorf("%+v after xmin has passed an id drawn later", g.GapStats)
	}
}
