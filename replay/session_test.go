package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestAFailureAtAnyCallIsRecoveredFrom runs one and the same story, once for
// every place at which a call of the source can fail: opening, checking the
// anchor, the fetch, its header, and each event and row in it.
func TestAFailureAtAnyCallIsRecoveredFrom(t *testing.T) {
	for n := 1; ; n++ {
		reached := false
		t.Run(fmt.Sprint("place ", n), func(t *testing.T) {
			live(t, Config{}, func(t *testing.T, r *rig) {
				r.set(func(db *fakeDB) { db.failAt = db.points + n })
				story(r)
				r.heal()
				if err := r.eng.Barrier(t.Context()); err != nil {
					t.Error(err)
				}
				st := r.wantState(Live)
				r.want(r.emp, 2, "two, once more")
				r.want(r.emp, 3, "uncarried")
				r.want(r.dept, 1, "missed")
				if n := len(content(r.emp)); n != 3 {
					t.Errorf("%d rows, want 3", n)
				}
				if st.Resyncs != 1 {
					t.Errorf("%d resyncs, want the one that the story asks for", st.Resyncs)
				}
				r.set(func(db *fakeDB) { reached = db.points >= db.failAt })
			})
		})
		if t.Failed() {
			return
		}
		if !reached {
			t.Logf("the story has %d places", n-1)
			if n < 60 {
				t.Errorf("the story has only %d places: it has lost a part", n-1)
			}
			return
		}
	}
}

// story has live cuts, R events, a reload, an outage with a catch-up, another
// one with a resync, and live cuts again. It goes on whatever fails.
func story(r *rig) {
	r.write(emp, 2, "two")
	r.settle()
	tx := r.db.begin()
	tx.putUncarried(emp, 3, version{v: "uncarried"}, true)
	tx.commit()
	r.settle()
	if err := r.eng.Reload(r.Context(), 1); err != nil {
		r.Error("Reload:", err)
	}
	r.cutOff()
	r.write(dept, 1, "missed")
	r.cameBack()
	r.heal()
	r.cutOff()
	r.db.newHistory()
	r.cameBack()
	r.heal()
	r.write(emp, 2, "two, once more")
	r.settle()
	// Run on, so that the last places are in calls at rest.
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

func TestAnOutageIsHealedByReplay(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.cutOff()
		for i := range 50 {
			r.write(emp, i%5, fmt.Sprint("while away ", i))
		}
		r.want(r.emp, 1, "one") // reads go on
		r.cameBack()
		r.heal()
		st := r.eng.Status()
		if st.Replays != 1 || st.EventsReplayed != 50 || st.Resyncs != 0 || len(st.Loads) != 1 {
			t.Errorf("%d replays of %d events, %d resyncs, loads %+v", st.Replays, st.EventsReplayed, st.Resyncs, st.Loads)
		}
		cuts := r.published()
		if last := cuts[len(cuts)-1]; !last.Replay || last.Events != 50 {
			t.Errorf("the last cut is %+v", last)
		}
	})
}

func TestALostBellEndsTheSession(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.cutOff() })
		synctest.Wait()
		if st := r.wantState(Stale); !errors.Is(st.LastError, ErrBellLost) {
			t.Errorf("the engine says %v", st.LastError)
		}
		r.heal()
		if st := r.eng.Status(); st.Sessions != 2 || st.Replays != 1 {
			t.Errorf("%d sessions, %d replays", st.Sessions, st.Replays)
		}
	})
}

func TestBackoffGrowsAndIsResetByAFetch(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		tries := func(d time.Duration) int {
			before, after := 0, 0
			r.set(func(db *fakeDB) { before = db.points })
			time.Sleep(d)
			synctest.Wait()
			r.set(func(db *fakeDB) { after = db.points })
			return after - before
		}
		for range 2 {
			r.cutOff()
			if n := tries(700 * time.Millisecond); n < 2 || n > 5 {
				t.Errorf("%d tries in the first 0.7 s, want about 100, 200, 400 ms between them", n)
			}
			tries(time.Minute)
			if n := tries(100 * time.Second); n < 20 || n > 40 {
				t.Errorf("%d tries in 100 s of a long outage, want one every 2.5 to 5 s", n)
			}
			r.cameBack()
			r.heal()
		}
	})
}

func TestAFetchWithoutProgressIsGivenUp(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.delay = time.Hour })
		time.Sleep(12 * time.Second)
		synctest.Wait()
		if st := r.wantState(CatchingUp); !errors.Is(st.LastError, ErrStalled) {
			t.Errorf("the engine says %v, want ErrStalled", st.LastError)
		}
		r.set(func(db *fakeDB) { db.delay = 0 })
		time.Sleep(20 * time.Second)
		r.heal()
	})
}

func TestALongLoadThatMakesProgressIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		for i := range 100 {
			r.write(emp, i, "row")
		}
		r.set(func(db *fakeDB) { db.trickle = 5 * time.Second })
		r.start()
		if n := len(content(r.emp)); n != 100 {
			t.Errorf("%d rows", n)
		}
		r.set(func(db *fakeDB) { db.trickle = 0 })
	})
}

func TestACatchUpThatTakesLongToBeginGetsThereInTheEnd(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.cutOff()
		r.write(emp, 2, "missed")
		r.cameBack()
		r.set(func(db *fakeDB) { db.delay = time.Minute }) // six times FetchTimeout
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		r.want(r.emp, 2, "missed")
		// From then on FetchTimeout is what it was. A call that is under way was
		// begun while the source was slow: it ends after its minute, or is given
		// up after its time, which is 16 times FetchTimeout at the most.
		r.set(func(db *fakeDB) { db.delay = 0 })
		time.Sleep(16*r.eng.cfg.FetchTimeout + r.eng.cfg.BackoffMax)
		synctest.Wait()
		r.heal()
		r.set(func(db *fakeDB) { db.delay = time.Hour })
		at := time.Now()
		time.Sleep(r.eng.cfg.Beat + r.eng.cfg.FetchTimeout + time.Second)
		synctest.Wait()
		if st := r.eng.Status(); st.LastErrorAt.Before(at) {
			t.Errorf("the last error is of %v, want one after %v", st.LastErrorAt, at)
		}
		r.set(func(db *fakeDB) { db.delay = 0 })
	})
}

func TestStartFailsFastAndLeavesNothingBehind(t *testing.T) {
	for n := 1; n <= 5; n++ { // Open, Fetch, its header, its two rows
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Config{})
			r.write(emp, 1, "one")
			r.write(dept, 1, "first")
			r.set(func(db *fakeDB) { db.failAt = n })
			if err := r.eng.Start(t.Context()); !errors.Is(err, errPulled) {
				t.Errorf("place %d: Start returns %v", n, err)
			}
			if st := r.wantState(Closed); st.LastError == nil || r.store.Revision() != 0 {
				t.Errorf("place %d: last error %v, revision %d", n, st.LastError, r.store.Revision())
			}
			if err := r.eng.Start(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("a second Start returns %v", err)
			}
			if n := r.fetches(); n > 1 {
				t.Errorf("%d fetches after a failure", n)
			}
		})
	}
}

func TestTheContextBoundsStartOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		if err := r.eng.Start(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		r.write(emp, 1, "one")
		r.settle()
		r.want(r.emp, 1, "one")
		r.wantState(Live)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.set(func(db *fakeDB) { db.delay = time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.eng.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start returns %v", err)
		}
		r.wantState(Closed)
	})
}

func TestCloseEndsWhateverIsUnderWay(t *testing.T) {
	for name, prepare := range map[string]func(*rig){
		"at rest":    func(*rig) {},
		"in a fetch": func(r *rig) { r.set(func(db *fakeDB) { db.delay = time.Hour }); r.db.ring(); synctest.Wait() },
		"in a pause": func(r *rig) { r.cutOff(); time.Sleep(time.Minute) },
		"in a load": func(r *rig) {
			r.set(func(db *fakeDB) { db.trickle = time.Minute })
			r.db.newHistory()
			r.db.ring()
			synctest.Wait()
		},
		"once closed": func(r *rig) { r.eng.Close(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			live(t, Config{}, func(t *testing.T, r *rig) {
				prepare(r)
				at := time.Now()
				if err := r.eng.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if d := time.Since(at); d != 0 {
					t.Errorf("Close took %v", d)
				}
				r.wantState(Closed)
				r.want(r.emp, 1, "one")
			})
		})
	}
}

// TestManyStartAndStop is about what is left behind.
func TestManyStartAndStop(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Config{})
			r.write(emp, 1, "one")
			n := rnd.IntN(20)
			r.set(func(db *fakeDB) { db.failAt = n })
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(3))*time.Millisecond)
			defer cancel()
			started := make(chan error, 1)
			go func() { started <- r.eng.Start(ctx) }()
			time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
			if err := r.eng.Close(t.Context()); err != nil {
				t.Error(err)
			}
			<-started
		})
	}
}
