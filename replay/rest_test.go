package replay

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// crowdFor commits for a time, so often that a WAL bell is to rest, and returns how late the slowest commit became visible.
func (r *rig) crowdFor(d time.Duration) (late time.Duration) {
	const step = time.Millisecond / 4
	seen, n := 0, 0
	var at []time.Time
	for began := time.Now(); time.Since(began) < d; {
		r.write(emp, 2, strconv.Itoa(n))
		at = append(at, time.Now())
		n++
		time.Sleep(step)
		synctest.Wait()
		now, _ := strconv.Atoi(content(r.emp)[2])
		for ; seen <= now; seen++ {
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

// In a crowd nobody waits for a bell that rests, nor for a beat; after it the bell hangs, and rings are answered at once.
func TestABellRestsInACrowdAndHangsAfterIt(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.stills, db.bell = true, "wal" })
		r.quiet()
		if late := r.crowdFor(3 * time.Second); late > 13*time.Millisecond {
			t.Errorf("a commit became visible %v late", late)
		}
		if n, st := r.rests(), r.eng.Status(); n != 1 || st.Bell != "poll" || st.Unrung != 0 {
			t.Errorf("the bell rested %d times in one crowd, it is %s, and %d events were found that nobody had rung for", n, st.Bell, st.Unrung)
		}
		for began := time.Now(); time.Since(began) < restsFor-100*time.Millisecond; time.Sleep(100 * time.Millisecond) {
			at := time.Now()
			r.write(emp, 2, "after it")
			time.Sleep(13 * time.Millisecond)
			synctest.Wait()
			r.want(r.emp, 2, "after it")
			r.write(emp, 2, "and again")
			if bell := r.eng.Status().Bell; bell != "poll" {
				t.Fatalf("the bell is %s %v after the crowd", bell, time.Since(at))
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if bell := r.eng.Status().Bell; bell != "wal" {
			t.Fatalf("the bell is %s", bell)
		}
		before := r.fetches()
		time.Sleep(10 * time.Second)
		if n := r.fetches() - before; n > 10 {
			t.Errorf("%d fetches in ten quiet seconds", n)
		}
		r.write(emp, 2, "rung")
		synctest.Wait()
		r.want(r.emp, 2, "rung")
	})
}

// The slot waits for whoever writes, which may be for long: that delays commits by a look, and after a minute by a beat.
func TestABellThatDoesNotComeBackIsDoneWithout(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.stills, db.bell = true, "wal" })
		r.quiet()
		r.crowdFor(time.Second)
		r.set(func(db *fakeDB) { db.inFlight = true })
		time.Sleep(restsFor + hangsWithin - 10*time.Second)
		synctest.Wait()
		r.write(emp, 2, "within the minute")
		time.Sleep(13 * time.Millisecond)
		synctest.Wait()
		r.want(r.emp, 2, "within the minute")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		before := r.fetches()
		time.Sleep(10 * r.eng.cfg.Beat)
		synctest.Wait()
		if n := r.fetches() - before; n > 1 {
			t.Errorf("%d fetches in ten quiet beats", n)
		}
		r.write(emp, 2, "after it")
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		r.want(r.emp, 2, "after it")
	})
}

// What does not last, or is not a crowd, leaves the bell where it hangs; so does one that has no price.
func TestABellThatNeedNotRestIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		bell  string
		every time.Duration
		burst time.Duration
	}{
		"a short crowd":       {"wal", time.Millisecond / 4, 150 * time.Millisecond},
		"many commits":        {"wal", time.Millisecond, 2 * time.Second},
		"a bell that is free": {"notify", time.Millisecond / 4, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			live(t, Config{}, func(t *testing.T, r *rig) {
				r.set(func(db *fakeDB) { db.stills, db.bell = true, c.bell })
				r.quiet()
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
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.stills, db.bell = true, "wal" })
		r.quiet()
		r.crowdFor(time.Second)
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
