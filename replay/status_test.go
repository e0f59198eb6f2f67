package replay

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/cache"
)

func TestTheStatesFollowWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.write(emp, 1, "one")
		r.set(func(db *fakeDB) { db.delay = 100 * time.Millisecond })
		r.wantState(Loading)
		started := make(chan error, 1)
		go func() { started <- r.eng.Start(t.Context()) }()
		synctest.Wait()
		if st := r.wantState(Loading); st.Staleness != 0 {
			t.Errorf("staleness %v before anything was loaded", st.Staleness)
		}
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		r.wantState(Live)

		r.set(func(db *fakeDB) { db.delay = 0 })
		r.settle()
		r.cutOff()
		down := time.Now()
		st := r.wantState(Stale)
		if !strings.Contains(st.Reason, ErrBellLost.Error()[len("replay: "):]) || st.LastErrorAt.IsZero() {
			t.Errorf("the reason is %q", st.Reason)
		}
		time.Sleep(time.Minute)
		st = r.wantState(Stale)
		if !st.Since.Equal(down) || !strings.Contains(st.Reason, errPulled.Error()) {
			t.Errorf("stale since %v because of %q, want since %v and the newest reason", st.Since, st.Reason, down)
		}
		if st.Staleness < time.Minute || st.Staleness > time.Minute+r.eng.cfg.Beat {
			t.Errorf("staleness %v", st.Staleness)
		}

		r.cameBack()
		r.set(func(db *fakeDB) { db.delay = 6 * time.Second })
		time.Sleep(6 * time.Second)
		r.wantState(CatchingUp)
		r.set(func(db *fakeDB) { db.delay = 0 })
		r.heal()
		if st := r.wantState(Live); st.Reason != "" {
			t.Errorf("live, because of %q", st.Reason)
		}

		r.set(func(db *fakeDB) { db.trickle = time.Second })
		r.db.newHistory()
		time.Sleep(700 * time.Millisecond)
		synctest.Wait()
		if st := r.wantState(Resyncing); !strings.Contains(st.Reason, string(HistoryChanged)) {
			t.Errorf("resyncing because of %q", st.Reason)
		}
		r.set(func(db *fakeDB) { db.trickle = 0 })
		r.heal()
		if err := r.eng.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.wantState(Closed)
	})
}

func TestLiveIsSaidOnlyWhileTheLastFetchIsYoung(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		r.set(func(db *fakeDB) { db.delay = 5 * time.Second })
		// Nothing fails and nothing happens: the clock alone makes it stale.
		last := r.eng.Status().LastFetch
		time.Sleep(time.Until(last.Add(r.eng.cfg.MaxStale)))
		r.wantState(Live)
		time.Sleep(time.Nanosecond)
		if st := r.wantState(Stale); !st.Since.Equal(last.Add(r.eng.cfg.MaxStale)) || st.Reason == "" {
			t.Errorf("stale since %v because of %q", st.Since, st.Reason)
		}
		for _, ts := range r.eng.Status().Tables {
			if ts.Live {
				t.Errorf("table %s is called live", ts.Name)
			}
		}
		// A fetch that took five seconds began five seconds ago: still stale.
		time.Sleep(time.Until(last.Add(r.eng.cfg.Beat + 5*time.Second)))
		synctest.Wait()
		r.wantState(Stale)
		r.set(func(db *fakeDB) { db.delay = 0 })
		time.Sleep(6 * time.Second)
		synctest.Wait()
		r.wantState(Live)
	})
}

func TestFailingAgainWhileCatchingUpDoesNotMakeStalenessYounger(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.cutOff()
		down := time.Now()
		time.Sleep(10 * time.Second)
		r.cameBack()
		r.set(func(db *fakeDB) { db.delay = time.Hour })
		time.Sleep(10 * time.Second)
		r.wantState(CatchingUp)
		r.cutOff()
		r.set(func(db *fakeDB) { db.delay = 0 })
		time.Sleep(time.Minute)
		if st := r.wantState(Stale); !st.Since.Equal(down) {
			t.Errorf("stale since %v, want since %v", st.Since, down)
		}
		r.cameBack()
		r.heal()
	})
}

func TestTheStatusIsTheCallersOwn(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		st := r.eng.Status()
		st.Tables[0].Name, st.Loads[0].Reason = "changed", "changed"
		if again := r.eng.Status(); again.Tables[0].Name != emp || again.Loads[0].Reason != FirstLoad {
			t.Error("a caller has changed the engine's own status")
		}
	})
}

func TestOnlyTheLastLoadsAreRemembered(t *testing.T) {
	live(t, Config{KeepLoads: 3}, func(t *testing.T, r *rig) {
		for range 5 {
			if err := r.eng.Reload(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		st := r.eng.Status()
		if len(st.Loads) != 3 || st.Reloads != 5 || st.Loads[2].Rows != 1 || !slices.Equal(st.Loads[2].Tables, []string{dept}) {
			t.Errorf("%d reloads, remembered: %+v", st.Reloads, st.Loads)
		}
	})
}

func TestTheStatusCanBePrintedAsJSON(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		b, err := json.Marshal(r.eng.Status())
		if err != nil || !strings.Contains(string(b), `"State":"live"`) {
			t.Errorf("%s, %v", b, err)
		}
	})
}

func TestDeclarationsAreCheckedTogether(t *testing.T) {
	tab := cache.NewTable[int, rec](emp)
	store, err := cache.NewStore(cache.Options{}, tab)
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(store, newFakeDB(), []Table{binding(tab), nil, binding(tab)}, Config{Beat: -1, MaxGaps: -1, MaxBytes: -1, BackoffMin: time.Minute, BackoffMax: time.Second, RetryMin: 2, RetryMax: 1, MaxStale: 1})
	for _, want := range []string{"Beat", "MaxGaps", "MaxBytes", "BackoffMax", "RetryMax", "table 1 is nil", emp + " is given twice"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	if _, err := New(nil, nil, nil, Config{}); err == nil {
		t.Error("an engine without store and source was made")
	}
	if _, err := New(store, newFakeDB(), nil, Config{MaxStale: 100 * time.Millisecond}); err == nil {
		t.Error("MaxStale below Beat was accepted")
	}
}

func TestAnErrorIsOneLineWithItsPlace(t *testing.T) {
	err := &Error{Op: "apply", Table: emp, Seq: 7, Err: ErrForeign, Hint: "begin a new history"}
	if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, emp) || !strings.Contains(s, "event 7") ||
		!strings.Contains(s, "begin a new history") || strings.Count(s, "replay: ") != 1 || !errors.Is(err, ErrForeign) {
		t.Errorf("%q", s)
	}
}
