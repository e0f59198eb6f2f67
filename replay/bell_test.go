package replay

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// quiet lets the engine settle what the load has left open.
func (r *rig) quiet() {
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

func TestARingIsAnsweredAtOnce(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		at := time.Now()
		r.write(emp, 2, "two")
		synctest.Wait()
		r.want(r.emp, 2, "two")
		if d := time.Since(at); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

func TestALostRingCostsAtMostABeat(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		tx := r.db.begin()
		tx.put(emp, 2, "two")
		tx.commitSilently()
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		r.want(r.emp, 2, "two")
	})
}

func TestForgedRingsCostOneFetchEachAndAreCoalesced(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		idle := r.db.begin() // a gap that stands must not multiply them
		idle.put(emp, 9, "idle")
		r.quiet()
		r.quiet()
		before := r.fetches()
		for range 10 {
			r.db.ring()
			synctest.Wait()
		}
		if n := r.fetches() - before; n != 10 {
			t.Errorf("10 rings made %d fetches", n)
		}
		before = r.fetches()
		r.set(func(db *fakeDB) { db.delay = 50 * time.Millisecond })
		r.db.ring()
		synctest.Wait()
		for range 1000 {
			r.db.ring()
		}
		time.Sleep(99 * time.Millisecond)
		synctest.Wait()
		if n := r.fetches() - before; n != 2 {
			t.Errorf("1000 rings during a fetch made %d fetches, want the one under way and one more", n)
		}
		idle.abort()
	})
}

func TestWhoeverSkippedTheBellIsFoundByLookingAgain(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		ringer, silent := r.db.begin(), r.db.begin()
		ringer.put(emp, 2, "rang")
		silent.put(emp, 3, "saw another one ringing")
		ringer.commit()
		synctest.Wait()
		r.want(r.emp, 2, "rang")
		silent.commitSilently()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		r.want(r.emp, 3, "saw another one ringing")
	})
}

func TestARingThatCameBeforeItsCommitWasVisibleIsFollowedByLooks(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.bell = "wal" })
		long := r.db.begin()
		long.put(emp, 2, "in the log")
		r.quiet() // its number is an old gap by now
		r.quiet()
		r.db.ring()
		synctest.Wait()
		long.commitSilently()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		r.want(r.emp, 2, "in the log")
	})
}

func TestLookingAgainDoublesUpToTheBeat(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		idle := r.db.begin()
		idle.put(emp, 3, "idle")
		before := r.fetches()
		r.write(emp, 2, "two")
		at := time.Now()
		synctest.Wait()
		// The answer to the ring, then after 1, 2, 4 ... 128 ms, then at beats.
		for i, ms := range []int{0, 1, 3, 7, 15, 31, 63, 127, 255, 505, 755} {
			time.Sleep(time.Until(at.Add(time.Duration(ms) * time.Millisecond)))
			synctest.Wait()
			if n := r.fetches() - before; n != i+1 {
				t.Errorf("%d fetches %d ms after the ring, want %d", n, ms, i+1)
			}
		}
		idle.abort()
	})
}

func TestWithNothingUnaccountedForOnlyTheBeatFetches(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		before := r.fetches()
		time.Sleep(10 * r.eng.cfg.Beat)
		synctest.Wait()
		if n := r.fetches() - before; n != 10 {
			t.Errorf("%d fetches in 10 beats", n)
		}
	})
}

// A beat at which no number has been handed out fetches nothing, and the position stays; whatever is
// not so plain is fetched as ever.
func TestABeatThatFindsNoNewNumberFetchesNothing(t *testing.T) {
	const beats = 8
	live(t, Config{CatalogueEvery: time.Hour}, func(t *testing.T, r *rig) {
		r.quiet()
		r.set(func(db *fakeDB) { db.stills, db.deaf = true, true })
		was, fetches := r.eng.Status(), r.fetches()
		idle := r.db.begin() // draws an id and no number
		time.Sleep(beats * r.eng.cfg.Beat)
		synctest.Wait()
		st := r.wantState(Live)
		if n := st.Stills - was.Stills; n != beats || r.fetches() != fetches || st.Position.String() != was.Position.String() || st.Staleness >= r.eng.cfg.Beat {
			t.Errorf("%d of %d beats and %d fetches, position %v and before %v, %v stale", n, beats, r.fetches()-fetches, st.Position, was.Position, st.Staleness)
		}
		idle.abort()

		open := r.db.begin()
		open.put(emp, 3, "three") // its number is handed out, its event not to be seen
		time.Sleep(beats * r.eng.cfg.Beat)
		synctest.Wait()
		if n := r.fetches() - fetches; n < beats {
			t.Errorf("%d fetches in %d beats with a number that is not accounted for", n, beats)
		}
		open.commit()
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		r.want(r.emp, 3, "three")

		r.quiet()
		fetches = r.fetches()
		if err := r.eng.Barrier(t.Context()); err != nil || r.fetches() != fetches+1 {
			t.Errorf("a barrier took %d fetches: %v", r.fetches()-fetches, err)
		}
	})
}

func TestABeatThatFindsEventsNobodyRangForPollsQuickly(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		r.set(func(db *fakeDB) { db.deaf = true })
		r.write(emp, 2, "two")
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		if n := r.eng.Status().Unrung; n != 1 {
			t.Fatalf("%d beats found events that nobody rang for, want 1", n)
		}
		r.write(emp, 2, "three")
		time.Sleep(r.eng.cfg.QuickEvery)
		synctest.Wait()
		r.want(r.emp, 2, "three")
		// It ends once nothing more is found that way.
		time.Sleep(r.eng.cfg.QuickFor + r.eng.cfg.Beat)
		synctest.Wait()
		before := r.fetches()
		time.Sleep(4 * r.eng.cfg.Beat)
		synctest.Wait()
		if n := r.fetches() - before; n != 4 {
			t.Errorf("%d fetches in 4 beats after the quick polling", n)
		}
	})
}

func TestAPolledBellIsNotSuspected(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.deaf, db.bell = true, "poll" })
		r.quiet()
		r.write(emp, 2, "two")
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		r.want(r.emp, 2, "two")
		if n := r.eng.Status().Unrung; n != 0 {
			t.Errorf("%d beats were blamed on the bell", n)
		}
	})
}

func TestACommitDuringAFetchIsFoundByTheNext(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		late := r.db.begin()
		late.put(emp, 3, "behind the snapshot")
		r.set(func(db *fakeDB) { db.during = func() { late.commit() } })
		r.write(emp, 2, "two")
		synctest.Wait()
		r.want(r.emp, 2, "two")
		r.want(r.emp, 3, "behind the snapshot")
	})
}

func TestOneFetchAnswersEverythingThatCameBeforeIt(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		for range 10 { // of a ring and a barrier, either may be seen first
			ringAndBarrierDuringACut(t, r)
		}
	})
}

func ringAndBarrierDuringACut(t *testing.T, r *rig) {
	t.Helper()
	done := make(chan error, 1)
	during := func(CutInfo) {
		r.onCheck = nil
		r.db.ring()
		go func() { done <- r.eng.Barrier(t.Context()) }()
		for waiting := 0; waiting == 0; {
			runtime.Gosched()
			r.eng.mu.Lock()
			waiting = len(r.eng.waiters)
			r.eng.mu.Unlock()
		}
	}
	r.mu.Lock()
	r.onCheck = during
	r.mu.Unlock()
	before := r.fetches()
	r.write(emp, 2, "two")
	if err := <-done; err != nil {
		t.Error(err)
	}
	synctest.Wait()
	if n := r.fetches() - before; n != 2 {
		t.Errorf("%d fetches, want the one that made the cut and one for all that came meanwhile", n)
	}
}

// Writers at full speed, who ring at every commit, are followed some
// milliseconds behind and not with a fetch each; whoever asks is answered at once.
func TestAStormOfRingsIsAnsweredAtABoundedRate(t *testing.T) {
	live(t, Config{MaxFetchRate: 100}, func(t *testing.T, r *rig) {
		r.quiet()
		before := r.fetches()
		late := time.Duration(0)
		for i := range 5000 {
			r.write(emp, 2, fmt.Sprint(i))
			at := time.Now()
			for first := true; first || i%100 == 0 && content(r.emp)[2] != fmt.Sprint(i); first = false {
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			if i%100 == 0 {
				late = max(late, time.Since(at))
			}
		}
		if n := r.fetches() - before; n < 450 || n > 600 {
			t.Errorf("5,000 rings in 5 seconds made %d fetches, want about 100 a second", n)
		}
		if late == 0 || late > 11*time.Millisecond {
			t.Errorf("a commit became visible %v late at most, want up to 10 ms", late)
		}
		r.write(emp, 2, "asked for")
		at := time.Now()
		if err := r.eng.Barrier(t.Context()); err != nil || time.Since(at) > 0 {
			t.Errorf("a barrier in the storm took %v, %v", time.Since(at), err)
		}
		r.want(r.emp, 2, "asked for")
	})
}
