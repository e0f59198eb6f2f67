package replay

import (
	"cmp"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// At this rate of fetches a commit in each crowdStep is a crowd, in which one is seen within crowdPace.
const (
	crowdRate = 50
	crowdStep = 2 * time.Millisecond
	crowdPace = crowdShare * time.Second / crowdRate
)

// crowdFor commits for a time, so often that a WAL bell is to rest, and returns how late the slowest commit became visible.
func (r *rig) crowdFor(d time.Duration) (late time.Duration) {
	at := map[int]time.Time{} // those that are not visible yet
	first, _ := strconv.Atoi(content(r.emp)[2])
	seen := first + 1
	for n, began := seen, time.Now(); time.Since(began) < d; n++ {
		r.write(emp, 2, strconv.Itoa(n))
		at[n] = time.Now()
		time.Sleep(crowdStep)
		synctest.Wait()
		for now, _ := strconv.Atoi(content(r.emp)[2]); seen <= now; seen++ {
			late = max(late, time.Since(at[seen]))
		}
	}
	return late
}

func (r *rig) rests() int {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	return len(r.db.rests)
}

// rest lets the bell rest in a crowd of two seconds, and returns when that was over.
func (r *rig) rest() time.Time {
	r.Helper()
	before := r.rests()
	r.crowdFor(2 * time.Second)
	if n, bell := r.rests()-before, r.eng.Status().Bell; n != 1 || bell != "poll" {
		r.Fatalf("the bell rested %d times in a crowd, and is %s", n, bell)
	}
	return time.Now()
}

// hung waits for the bell to hang again, and returns how long that took.
func (r *rig) hung(since time.Time) time.Duration {
	r.Helper()
	for r.eng.Status().Bell != "wal" {
		if time.Since(since) > 10*time.Minute {
			r.Fatal("the bell does not come back")
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(since)
}

// visible commits, and checks that it is seen within a time, and not much before.
func (r *rig) visible(within time.Duration) {
	r.Helper()
	v := time.Now().String()
	r.write(emp, 3, v)
	time.Sleep(within)
	synctest.Wait()
	r.want(r.emp, 3, v)
}

// withWAL is live on a server with the WAL bell.
func withWAL(t *testing.T, cfg Config, f func(t *testing.T, r *rig)) {
	t.Helper()
	cfg.MaxFetchRate = cmp.Or(cfg.MaxFetchRate, crowdRate)
	live(t, cfg, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.stills, db.bell = true, "wal" })
		r.quiet()
		f(t, r)
	})
}

// In a crowd nobody waits for a bell that rests, nor for a beat; after it the bell hangs, and rings are answered at once.
func TestABellRestsInACrowdAndHangsAfterIt(t *testing.T) {
	withWAL(t, Config{}, func(t *testing.T, r *rig) {
		if late := r.crowdFor(4 * time.Second); late > crowdPace+crowdStep {
			t.Errorf("a commit became visible %v late", late)
		}
		over := time.Now()
		if n, st := r.rests(), r.eng.Status(); n != 1 || st.Bell != "poll" || st.Unrung != 0 {
			t.Errorf("the bell rested %d times in one crowd, it is %s, and %d events were found that nobody had rung for", n, st.Bell, st.Unrung)
		}
		for time.Since(over) < restsFor-2*restWindow {
			r.visible(crowdPace + crowdStep)
			time.Sleep(100 * time.Millisecond)
		}
		if took := r.hung(over); took < restsFor-restWindow || took > restsFor+restsFor/4+restWindow {
			t.Errorf("the bell came back %v after the crowd", took)
		}
		before := r.fetches()
		time.Sleep(10 * time.Second)
		if n := r.fetches() - before; n > 10 {
			t.Errorf("%d fetches in ten quiet seconds", n)
		}
		r.visible(0)
		if n := r.rests(); n != 1 {
			t.Errorf("the bell rested %d times", n)
		}
	})
}

// What comes now and then after a crowd is none, however fast the few are.
func TestSmallBurstsAfterACrowdDoNotKeepTheBellDown(t *testing.T) {
	withWAL(t, Config{}, func(t *testing.T, r *rig) {
		over := r.rest()
		for r.eng.Status().Bell != "wal" && time.Since(over) < time.Minute {
			for i := range 100 {
				r.write(emp, 2, fmt.Sprint("burst ", i))
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if took := r.hung(over); took > restsFor+restsFor/4+2*restWindow {
			t.Errorf("the bell came back %v after the crowd", took)
		}
	})
}

// Crowds that come again and again have the bell rest for longer each time, and not be hung for each of them.
func TestABellThatIsTakenDownAgainAndAgainRestsForLonger(t *testing.T) {
	withWAL(t, Config{}, func(t *testing.T, r *rig) {
		var last time.Duration
		for i := range 5 {
			took := r.hung(r.rest())
			if i > 0 && took < last*3/2 {
				t.Errorf("rest %d was of %v, the one before of %v", i, took, last)
			}
			last = took
		}
		if last > restsLongest+restsLongest/4+2*restWindow {
			t.Errorf("it rested for %v", last)
		}
		time.Sleep(10 * time.Minute)
		if took := r.hung(r.rest()); took > restsFor+restsFor/4+restWindow {
			t.Errorf("ten minutes later it rested for %v", took)
		}
	})
}

// The slot waits for whoever writes, which may be for long: that delays commits by a look as in a crowd, and after a minute by one that
// comes less often.
func TestABellThatDoesNotComeBackIsDoneWithout(t *testing.T) {
	withWAL(t, Config{}, func(t *testing.T, r *rig) {
		r.rest()
		r.set(func(db *fakeDB) { db.inFlight = true })
		time.Sleep(restsFor + restsFor/4 + restWindow)
		synctest.Wait()
		before := r.fetches()
		time.Sleep(hangsWithin / 2)
		synctest.Wait()
		if n := r.fetches() - before; n > int(hangsWithin/2/r.eng.cfg.CatalogueEvery)+1 {
			t.Errorf("%d fetches in quiet looks", n) // beyond those that compare the catalogue
		}
		r.visible(crowdPace + crowdStep)
		time.Sleep(hangsWithin)
		synctest.Wait()
		for range 10 {
			r.visible(aloneEvery)
		}
		r.wantState(Live)
		r.set(func(db *fakeDB) { db.inFlight = false })
		time.Sleep(aloneEvery)
		synctest.Wait()
		r.visible(0)
	})
}

// A crowd that comes while the slot is waited for is followed as any other, and the bell asked for anew after it.
func TestACrowdThatComesBeforeTheBellIsBackIsFollowedAsWell(t *testing.T) {
	withWAL(t, Config{}, func(t *testing.T, r *rig) {
		r.rest()
		r.set(func(db *fakeDB) { db.inFlight = true })
		time.Sleep(restsFor + restsFor/4 + restWindow + hangsWithin - 5*time.Second)
		synctest.Wait()
		if late := r.crowdFor(15 * time.Second); late > crowdPace+crowdStep {
			t.Errorf("a commit became visible %v late", late)
		}
		if n := r.rests(); n != 2 {
			t.Errorf("the bell rested %d times", n)
		}
		r.set(func(db *fakeDB) { db.inFlight = false })
		r.hung(time.Now())
		r.visible(0)
	})
}

// What does not last, or is not a crowd, leaves the bell where it hangs; so does one that has no price, and a
// transaction for which a new slot would have to wait.
func TestABellThatNeedNotRestIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		bell  string
		every time.Duration
		burst time.Duration
		old   bool
	}{
		"short crowds":              {"wal", crowdStep, 300 * time.Millisecond, false},
		"many commits":              {"wal", 2 * crowdStep, 4 * time.Second, false},
		"a bell that is free":       {"notify", crowdStep, 4 * time.Second, false},
		"a transaction that writes": {"wal", crowdStep, 4 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, Config{MaxFetchRate: crowdRate}, func(t *testing.T, r *rig) {
				r.set(func(db *fakeDB) { db.stills, db.bell = true, c.bell })
				r.quiet()
				if c.old {
					old := r.db.begin()
					old.put(dept, 9, "all the while")
					defer old.abort()
				}
				for range 4 {
					r.writeFor(c.burst, c.every)
					time.Sleep(time.Second)
				}
				if n, bell := r.rests(), r.eng.Status().Bell; n != 0 || bell != c.bell {
					t.Errorf("the bell rested %d times, and is %s", n, bell)
				}
			})
		})
	}
}

// The next session has a bell of its own, which has not rested.
func TestARestEndsWithItsSession(t *testing.T) {
	withWAL(t, Config{}, func(t *testing.T, r *rig) {
		r.rest()
		r.cutOff()
		r.cameBack()
		r.heal()
		if n, bell := r.rests(), r.eng.Status().Bell; n != 1 || bell != "wal" {
			t.Errorf("the bell rested %d times, and is %s", n, bell)
		}
		before := r.fetches()
		time.Sleep(10 * time.Second)
		if n := r.fetches() - before; n > 10 {
			t.Errorf("%d fetches in ten quiet seconds", n)
		}
	})
}

// Where a look as in a crowd would come no sooner than the beat, the rest ends all the same, though nothing is fetched.
func TestARestEndsAtALowRateOfFetches(t *testing.T) {
	withWAL(t, Config{MaxFetchRate: 10, CatalogueEvery: time.Hour}, func(t *testing.T, r *rig) {
		over := r.rest()
		if took := r.hung(over); took > restsFor+restsFor/4+2*restWindow {
			t.Errorf("the bell came back %v after the crowd", took)
		}
		r.visible(0)
	})
}
