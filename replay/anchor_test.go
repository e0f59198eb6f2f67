package replay

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

func (r *rig) wal() int {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	return r.db.wal
}

// lastLoad is what the engine says about its last load.
func (r *rig) lastLoad() Load {
	r.Helper()
	loads := r.eng.Status().Loads
	if len(loads) == 0 {
		r.Fatal("nothing was loaded")
	}
	return loads[len(loads)-1]
}

func TestTheAnchorIsCheckedOnEverySessionBeforeAnythingIsApplied(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.write(emp, 2, "two")
		r.settle()
		for range 3 {
			r.set(func(db *fakeDB) { db.asked, db.requests = nil, nil })
			r.cutOff()
			r.cameBack()
			r.set(func(db *fakeDB) { db.down = nil })
			tx := r.db.begin()
			tx.put(emp, 3, "missed")
			tx.commitSilently()
			fetched := -1
			r.set(func(db *fakeDB) {
				db.during = func() {
					db.mu.Lock()
					defer db.mu.Unlock()
					fetched = len(db.asked)
				}
			})
			r.heal()
			if fetched != 1 {
				t.Errorf("the anchor was asked for %d times before the first fetch, want once", fetched)
			}
		}
		if st := r.eng.Status(); st.Replays != 3 || st.Resyncs != 0 {
			t.Errorf("%d replays and %d resyncs", st.Replays, st.Resyncs)
		}
	})
}

// lostBehindASurvivor brings about what the anchor's release rule is for: a
// fast asynchronous commit is applied, then a slow one with a lower number is,
// and a crash loses the first and keeps the second.
func lostBehindASurvivor(r *rig) (lost uint64) {
	slow := r.db.begin()
	slow.put(emp, 2, "slow")
	// Its commit stands in the log here, but it waits for a standby and
	// becomes visible only after another one.
	slow.record()
	place := r.wal()
	fast := r.db.begin()
	fast.put(emp, 3, "fast")
	fast.commit()
	r.settle()
	r.want(r.emp, 3, "fast")
	slow.commit()
	r.settle()
	r.want(r.emp, 2, "slow")
	r.db.crash(place)
	return fast.xid
}

func TestATransactionLostBehindASurvivorIsMissed(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		// The rule that would not do: ask for the last cut alone.
		var lastCut []outbox.Anchor
		lost := lostBehindASurvivor(r)
		r.set(func(db *fakeDB) {
			e := db.outbox[len(db.outbox)-1]
			lastCut = []outbox.Anchor{{Xid: e.Xid, Seq: e.Seq, At: e.At}}
		})
		if missing := r.db.missing(lastCut); len(missing) != 0 {
			t.Fatalf("the last cut alone shows %v: this test no longer shows what it is for", missing)
		}
		if r.eng.Position().Xmax() <= lost {
			t.Fatalf("the position %v does not cover the lost transaction %d", r.eng.Position(), lost)
		}
		// Its id is given out again, and the position would hide it.
		again := r.db.begin()
		if again.xid != lost {
			t.Fatalf("the crash gave out %d again, want %d", again.xid, lost)
		}
		again.put(emp, 4, "under the lost one's id")
		again.commit()
		r.heal()
		r.want(r.emp, 3, "")
		r.want(r.emp, 4, "under the lost one's id")
		st := r.eng.Status()
		if l := r.lastLoad(); l.Reason != AnchorMissing || st.Resyncs != 1 {
			t.Errorf("%d resyncs, the last load is %+v, want one for a missing anchor", st.Resyncs, l)
		}
	})
}

func TestACutLeavesTheAnchorOnceALaterNumberWasApplied(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		ask := func() map[uint64]bool {
			r.set(func(db *fakeDB) { db.asked = nil })
			r.cutOff()
			r.cameBack()
			r.heal()
			out := map[uint64]bool{}
			r.set(func(db *fakeDB) {
				for _, a := range db.asked[0] {
					out[a.Xid] = true
				}
			})
			return out
		}
		slow := r.db.begin()
		slow.put(emp, 2, "slow")
		fast := r.write(emp, 3, "fast")
		r.settle()
		slow.commit() // its number lies below what had been handed out with fast's cut
		r.settle()
		if got := ask(); !got[fast] || !got[slow.xid] {
			t.Errorf("the anchor is %v, want %d and %d in it", got, fast, slow.xid)
		}
		later := r.write(emp, 4, "later")
		r.settle()
		if got := ask(); got[fast] || got[slow.xid] || !got[later] {
			t.Errorf("the anchor is %v, want %d alone", got, later)
		}
	})
}

func TestALoadIsAnchoredInWhatItHasSeen(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		// Nothing has been applied since the load; what it saw is lost.
		r.db.crash(0)
		r.heal()
		if l := r.lastLoad(); l.Reason != AnchorMissing {
			t.Errorf("the last load is %+v, want one for a missing anchor", l)
		}
		r.want(r.emp, 1, "")
	})
}

func TestAnAnchorWithTheSameIdAndAnotherTimeIsMissing(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.write(emp, 2, "two")
		r.settle()
		r.set(func(db *fakeDB) {
			e := &db.outbox[len(db.outbox)-1]
			e.At = e.At.Add(time.Microsecond)
			db.cutOff()
		})
		r.heal()
		if l := r.lastLoad(); l.Reason != AnchorMissing {
			t.Errorf("the last load is %+v, want one for a missing anchor", l)
		}
	})
}

func TestAnAnchorThatIsNotWholeProvesNothing(t *testing.T) {
	live(t, Config{MaxAnchors: 10}, func(t *testing.T, r *rig) {
		r.cutOff()
		for i := range 11 {
			r.write(emp, i, fmt.Sprint("many ", i))
		}
		r.cameBack()
		r.heal()
		if st := r.eng.Status(); st.Replays != 1 || st.Resyncs != 0 {
			t.Fatalf("%d replays, %d resyncs after catching up with many transactions", st.Replays, st.Resyncs)
		}
		r.cutOff()
		r.cameBack()
		r.heal()
		if st := r.eng.Status(); st.Resyncs != 1 || r.lastLoad().Reason != AnchorMissing {
			t.Errorf("%d resyncs although the anchor had left transactions out", st.Resyncs)
		}
		// The next event vouches for the cut: all is as before.
		for range 2 {
			r.write(emp, 1, "one more")
			r.settle()
			r.cutOff()
			r.cameBack()
			r.heal()
		}
		if st := r.eng.Status(); st.Resyncs != 1 {
			t.Errorf("%d resyncs, want no further one", st.Resyncs)
		}
	})
}

// reconnects cuts the engine off and heals it, and wants so many resyncs by then.
func (r *rig) reconnects(resyncs uint64) {
	r.Helper()
	r.cutOff()
	r.cameBack()
	r.heal()
	if st := r.eng.Status(); st.Resyncs != resyncs {
		r.Errorf("%d resyncs, want %d: %+v", st.Resyncs, resyncs, st.Loads)
	}
}

// A load that has seen more transactions than it can ask for again knows of no
// proof that all of them are there, until an event from after it is applied.
func TestALoadThatHasSeenMoreThanItsAnchorIsProvedByTheNextEvent(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.older = true })
		r.reconnects(0) // the first load's anchor was all there is
		if err := r.eng.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.reconnects(0) // it asked for one table, from a position
		r.db.crash(0)
		r.reconnects(1)
		r.reconnects(2)
		if l := r.lastLoad(); l.Reason != AnchorMissing || !strings.Contains(l.Detail, "since the load") {
			t.Errorf("the last load is %+v", l)
		}
		r.write(emp, 1, "one more")
		r.settle()
		r.reconnects(2)
	})
}

// Where nothing is written any more, the node's own row is the proof, as long as
// the server has one that was written after the load.
func TestALoadOnAQuietServerIsProvedByTheNodesOwnRow(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		told := func() { r.eng.Attest(r.eng.Attesting(), r.db.beat(), false) }
		attest := func() { told(); time.Sleep(time.Second) } // until a fetch has shown that the server lives
		attest()                                             // nobody needs it
		r.set(func(db *fakeDB) { db.older = true })
		r.write(emp, 1, "kept")
		r.settle()
		r.db.crash(0)
		r.reconnects(1)
		r.db.beat() // nobody has told the engine of it
		r.reconnects(2)
		attest()
		place := r.wal()
		r.reconnects(2)
		time.Sleep(time.Second) // on the bubble's clock: the next row has another time
		attest()
		r.reconnects(2)
		r.db.crash(place) // loses the last row, and keeps one that is enough
		r.reconnects(2)
		r.db.crash(place - 1) // loses all of them
		r.reconnects(3)
		r.reconnects(4)
		began := r.eng.Attesting()
		r.reconnects(5)
		r.eng.Attest(began, r.db.beat(), false)
		r.reconnects(6) // a row begun before the load proves nothing
		attest()
		r.reconnects(6)
		r.db.newHistory()
		r.reconnects(7)
		r.reconnects(8) // nor does the one that has proved another load
		attest()
		r.reconnects(8)
		place = r.wal()
		attest()
		r.cutOff()
		r.db.crash(place - 1) // takes the row that was kept
		told()                // written after the crash, on a connection that the engine knows nothing of
		r.cameBack()
		r.heal()
		if st := r.eng.Status(); st.Resyncs != 9 {
			t.Errorf("%d resyncs, want 9: %+v", st.Resyncs, st.Loads)
		}
	})
}

// A row that was written in the life of the server that the session follows needs no question to the server, only a
// session whose anchor was found.
func TestARowOfTheSessionsOwnLifeIsAProofWithoutAQuestion(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		told := func() { r.eng.Attest(r.eng.Attesting(), r.db.beat(), true) }
		r.set(func(db *fakeDB) { db.older = true })
		r.write(emp, 1, "kept")
		r.settle()
		r.db.crash(0)
		r.reconnects(1) // what this load has seen is more than can be asked for
		r.set(func(db *fakeDB) { db.relayed, db.requests = true, nil })
		told()
		time.Sleep(time.Second)
		synctest.Wait()
		r.set(func(db *fakeDB) {
			if len(db.requests) == 0 {
				t.Error("nothing was fetched")
			}
			for _, req := range db.requests {
				if req.Now {
					t.Error("the server is asked for a row that was written in the session's own life")
				}
			}
		})
		place := r.wal()
		r.reconnects(1)
		r.cutOff()
		r.db.crash(place - 1) // takes the row
		told()                // written after the crash, in the life that the next session follows, whose anchor is not found yet
		r.cameBack()
		r.heal()
		if st := r.eng.Status(); st.Resyncs != 2 {
			t.Errorf("%d resyncs, want 2: %+v", st.Resyncs, st.Loads)
		}
	})
}

func TestTheAnchorOfABusyServerStaysSmall(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		for i := range 500 {
			r.write(emp, i%7, fmt.Sprint(i))
			synctest.Wait()
		}
		r.set(func(db *fakeDB) { db.asked = nil })
		r.cutOff()
		r.cameBack()
		r.heal()
		r.set(func(db *fakeDB) {
			if n := len(db.asked[0]); n == 0 || n > 2 {
				t.Errorf("the anchor has %d transactions after 500 cuts of one", n)
			}
		})
	})
}

func TestTheCapCountsAllCutsTogether(t *testing.T) {
	a := &anchor{max: 10}
	for i := range uint64(3) {
		a.add(100, int64(i)+1, &anchorTxs{list: make([]outbox.Anchor, 4)})
	}
	if txs, partial := a.all(); partial == "" || len(txs) > 10 {
		t.Errorf("%d transactions kept, left out: %q", len(txs), partial)
	}
	a.add(102, 101, &anchorTxs{list: make([]outbox.Anchor, 1)})
	if txs, partial := a.all(); partial != "" || len(txs) != 1 {
		t.Errorf("%d transactions kept after the release, left out: %q", len(txs), partial)
	}
}
