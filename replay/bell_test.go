package replay

import (
	"fmt"
	"runtime"
	"strconv"
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

// Those who ask in a storm have a fetch each, and do not use up what rings may cause: once they stop, a node is
// as quick and as live as before.
func TestAsksInAStormLeaveNothingBehind(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		for range 2000 { // ten seconds
			for range crowd {
				r.write(emp, 2, "in the storm")
			}
			if err := r.eng.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		r.write(emp, 2, "after it")
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		r.want(r.emp, 2, "after it")
		time.Sleep(2 * r.eng.cfg.MaxStale)
		synctest.Wait()
		r.wantState(Live)
	})
}

// A rate so low that its pause is longer than a beat delays what rings, and not the beat.
func TestALowRateOfFetchesLeavesANodeLive(t *testing.T) {
	live(t, Config{MaxFetchRate: 1}, func(t *testing.T, r *rig) {
		r.quiet()
		for range 1000 { // ten seconds
			r.write(emp, 2, "in the storm")
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			r.wantState(Live)
		}
	})
}

// Where nothing happens for long and the bell rings, a node looks less often, and as often as ever once something does.
func TestANodeThatIsIdleForLongLooksLessOften(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		bell string
		want time.Duration // between two looks
	}{
		"under a bell":             {Config{}, "notify", 500 * time.Millisecond},
		"under the WAL bell":       {Config{}, "wal", 500 * time.Millisecond},
		"with little time to miss": {Config{MaxStale: 800 * time.Millisecond}, "notify", 400 * time.Millisecond},
		"with no time to miss":     {Config{MaxStale: 300 * time.Millisecond}, "notify", 250 * time.Millisecond},
		"at polling":               {Config{}, "poll", 250 * time.Millisecond},
		"over a stream":            {Config{}, "stream", 250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.CatalogueEvery = time.Hour
			live(t, c.cfg, func(t *testing.T, r *rig) {
				r.quiet()
				r.set(func(db *fakeDB) { db.stills, db.bell = true, c.bell })
				time.Sleep((calmAfter + 1) * r.eng.cfg.Beat)
				if got := r.between(); got != c.want {
					t.Errorf("%v between two looks, want %v", got, c.want)
				}
				r.write(emp, 3, "three")
				time.Sleep(2 * r.eng.cfg.Beat)
				if got := r.between(); got != r.eng.cfg.Beat {
					t.Errorf("%v between two looks after a commit, want %v", got, r.eng.cfg.Beat)
				}
				r.wantState(Live)
			})
		})
	}
}

// between is the time between the next two looks.
func (r *rig) between() time.Duration {
	var at []time.Time
	for last := r.eng.Status().LastFetch; len(at) < 2; {
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if now := r.eng.Status().LastFetch; now.After(last) {
			at, last = append(at, now), now
		}
	}
	return at[1].Sub(at[0])
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
// milliseconds behind and not with a fetch each, and with a third of the fetches where each brings many commits; whoever
// asks is answered at once.
func TestAStormOfRingsIsAnsweredAtABoundedRate(t *testing.T) {
	for name, storm := range map[string]struct {
		every time.Duration // a commit
		most  time.Duration // until it is visible
		least int           // fetches in five seconds
	}{
		"some commits in each cut": {2 * time.Millisecond, 10 * time.Millisecond, 450},
		"many commits in each cut": {time.Millisecond, 30 * time.Millisecond, 150},
	} {
		t.Run(name, func(t *testing.T) { testStorm(t, storm.every, storm.most, storm.least) })
	}
}

// How fast rings are answered is a matter of what comes now: after a storm writers who are half as fast as those that a third
// of the rate is for find the whole of it.
func TestAfterAStormRingsAreAnsweredAsBefore(t *testing.T) {
	fetches := func(storm time.Duration) (n int) {
		live(t, Config{MaxFetchRate: 100}, func(t *testing.T, r *rig) {
			r.quiet()
			for began := time.Now(); time.Since(began) < storm; time.Sleep(time.Millisecond / 4) {
				r.write(emp, 2, "in the storm")
			}
			r.writeFor(time.Second, 2500*time.Microsecond) // until what the storm has left of the pace is gone
			before := r.fetches()
			r.writeFor(2*time.Second, 2500*time.Microsecond)
			n = r.fetches() - before
		})
		return n
	}
	if with, without := fetches(time.Second), fetches(0); with < without*9/10 || without < 180 {
		t.Errorf("%d fetches in two seconds after a storm, %d without one", with, without)
	}
}

// writeFor commits for a time, once in each pause.
func (r *rig) writeFor(d, every time.Duration) {
	for began := time.Now(); time.Since(began) < d; time.Sleep(every) {
		r.write(emp, 2, "after it")
	}
}

func testStorm(t *testing.T, every, most time.Duration, least int) {
	live(t, Config{MaxFetchRate: 100}, func(t *testing.T, r *rig) {
		r.quiet()
		before, began := r.fetches(), time.Now()
		late, awaited, at := time.Duration(0), 0, began
		for i := 1; time.Since(began) < 5*time.Second; i++ {
			r.write(emp, 2, fmt.Sprint(i))
			if awaited == 0 {
				awaited, at = i, time.Now()
			}
			time.Sleep(every)
			synctest.Wait()
			if seen, _ := strconv.Atoi(content(r.emp)[2]); seen >= awaited {
				late, awaited = max(late, time.Since(at)), 0
			}
		}
		if n := r.fetches() - before; n < least || n > least*4/3 {
			t.Errorf("a ring every %v, for 5 seconds, made %d fetches, want %d and a few more", every, n, least)
		}
		if late <= every || late > most+every { // seen at the end of a step
			t.Errorf("a commit became visible %v late at most, want up to %v", late, most)
		}
		r.write(emp, 2, "asked for")
		at = time.Now()
		if err := r.eng.Barrier(t.Context()); err != nil || time.Since(at) > 0 {
			t.Errorf("a barrier in the storm took %v, %v", time.Since(at), err)
		}
		r.want(r.emp, 2, "asked for")
	})
}
