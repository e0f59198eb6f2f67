package replay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/outbox"
)

func TestABarrierWaitsForAFetchThatBeginsAfterIt(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		r.set(func(db *fakeDB) { db.delay = 50 * time.Millisecond })
		r.db.ring()
		time.Sleep(10 * time.Millisecond) // a fetch is under way, its snapshot taken
		tx := r.db.begin()
		tx.put(emp, 2, "committed before the barrier")
		tx.commitSilently()
		before := r.fetches()
		if err := r.eng.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.want(r.emp, 2, "committed before the barrier")
		if n := r.fetches() - before; n != 1 {
			t.Errorf("it took %d further fetches", n)
		}
	})
}

func TestBarriersShareAFetch(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		r.set(func(db *fakeDB) { db.delay = 50 * time.Millisecond })
		before := r.fetches()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := r.eng.Barrier(t.Context()); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				time.Sleep(10 * time.Millisecond) // during the first ones' fetch
				if err := r.eng.Barrier(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		// The hundred may have come in just before or just after a fetch began.
		if n := r.fetches() - before; n < 2 || n > 3 {
			t.Errorf("200 barriers made %d fetches", n)
		}
	})
}

func TestABarrierSurvivesReconnects(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.cutOff()
		r.write(emp, 2, "missed")
		done := make(chan error, 1)
		go func() { done <- r.eng.Barrier(context.Background()) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("the barrier returned %v while the server was away", err)
		default:
		}
		r.cameBack()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.want(r.emp, 2, "missed")
	})
}

func TestABarrierThatGivesUpSaysWhatTheSourceSaid(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.cutOff()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := r.eng.Barrier(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errPulled) {
			t.Errorf("Barrier returns %v, want the deadline and the source's error", err)
		}
		r.eng.mu.Lock()
		defer r.eng.mu.Unlock()
		if n := len(r.eng.waiters); n != 0 {
			t.Errorf("%d waiters are left behind", n)
		}
	})
}

func TestABarrierSaysWhichTableIsNotKept(t *testing.T) {
	live(t, Config{RetryMin: time.Hour, RetryMax: time.Hour}, func(t *testing.T, r *rig) {
		r.leaveOut(emp, true)
		r.set(func(db *fakeDB) { db.problems = map[int]error{0: errors.New("dropped")} })
		if err := r.eng.Reload(t.Context(), 0); !errors.Is(err, ErrTable) {
			t.Errorf("Reload of the broken table returns %v", err)
		}
		if err := r.eng.Reload(t.Context(), 1); err != nil {
			t.Errorf("Reload of the other table returns %v", err)
		}
		tx := r.db.begin()
		tx.put(dept, 2, "two")
		tx.commitSilently()
		if err := r.eng.Barrier(t.Context()); !errors.Is(err, ErrTable) {
			t.Errorf("Barrier returns %v, want ErrTable", err)
		}
		r.want(r.dept, 2, "two")
	})
}

func TestWaitForReturnsOnceTheTransactionIsVisible(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		tx := r.db.begin()
		tx.put(emp, 2, "two")
		tok := outbox.Token{History: r.eng.History(), Xid: tx.xid}
		done := make(chan error, 1)
		go func() { done <- r.eng.WaitFor(t.Context(), tok) }()
		time.Sleep(time.Second)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("WaitFor returned %v before the commit", err)
		default:
		}
		tx.commit()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.want(r.emp, 2, "two")
		before := r.fetches()
		if err := r.eng.WaitFor(t.Context(), tok); err != nil || r.fetches() != before+1 {
			t.Errorf("asked again it returns %v after %d fetches, want one", err, r.fetches()-before)
		}
	})
}

func TestAFetchThatBeganAfterTheMarkAnswersAlthoughItIsOver(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		mark := r.eng.Mark()
		xid := r.write(emp, 2, "two")
		r.settle()
		before := r.fetches()
		tok := outbox.Token{History: r.eng.History(), Xid: xid}
		if err := r.eng.WaitForSince(t.Context(), tok, mark); err != nil || r.fetches() != before {
			t.Errorf("WaitForSince returns %v after %d fetches, want none", err, r.fetches()-before)
		}
	})
}

// Ids that had not reached the log are given out again after a crash. What was
// read before it covers them, and says nothing about who has them now.
func TestATokenIsNotAnsweredByWhatWasReadBeforeACrash(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.write(emp, 2, "two")
		place := r.wal()
		aborted := r.db.begin()
		aborted.abort()
		r.write(emp, 3, "lost by the crash")
		r.settle()
		r.db.crash(place)
		r.cutOff() // the node has not come back when the application already writes
		mark := r.eng.Mark()
		again := r.db.begin()
		if again.xid != aborted.xid {
			t.Fatalf("the crash gave out %d again, want %d", again.xid, aborted.xid)
		}
		again.put(emp, 4, "four")
		again.commitSilently()
		tok := outbox.Token{History: r.eng.History(), Xid: again.xid}
		done := make(chan error, 2)
		go func() { done <- r.eng.WaitFor(t.Context(), tok) }()
		go func() { done <- r.eng.WaitForSince(t.Context(), tok, mark) }()
		synctest.Wait()
		if len(done) > 0 {
			t.Error("a token was answered by a snapshot of before the crash")
		}
		r.cameBack()
		r.heal()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		r.want(r.emp, 4, "four")
	})
}

func TestATransactionWithoutEventsIsNotWaitedForForEver(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		for _, end := range []func(*fakeTx){(*fakeTx).commitSilently, (*fakeTx).abort} {
			tx := r.db.begin()
			tok := outbox.Token{History: r.eng.History(), Xid: tx.xid}
			done := make(chan error, 1)
			go func() { done <- r.eng.WaitFor(t.Context(), tok) }()
			time.Sleep(time.Second)
			end(tx)
			at := time.Now()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if d := time.Since(at); d > r.eng.cfg.Beat {
				t.Errorf("it took %v after the end of the transaction, want at most a beat", d)
			}
			if r.eng.Position().Covers(tx.xid) {
				t.Errorf("the position %v is not tight: this test no longer shows what it is for", r.eng.Position())
			}
		}
	})
}

func TestATokenOfAnotherHistoryIsRefused(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		if err := r.eng.WaitFor(t.Context(), outbox.Token{History: uuid.New(), Xid: 1}); !errors.Is(err, ErrHistory) {
			t.Errorf("WaitFor returns %v", err)
		}
		tx := r.db.begin()
		done := make(chan error, 1)
		go func() {
			done <- r.eng.WaitFor(t.Context(), outbox.Token{History: r.eng.History(), Xid: tx.xid})
		}()
		r.settle()
		r.db.newHistory()
		if err := <-done; !errors.Is(err, ErrHistory) {
			t.Errorf("WaitFor returns %v after the history has changed", err)
		}
		tx.abort()
	})
}

func TestReloadReadsAgainWhatNobodyAnnounced(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		edit := func() {
			r.set(func(db *fakeDB) {
				db.tables[emp][1][0].v += "!"
				db.tables[dept][1][0].v += "!"
			})
		}
		r.leaveOut(emp, true)
		edit()
		if err := r.eng.Reload(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		r.want(r.dept, 1, "first!")
		if l := r.lastLoad(); l.Reason != Requested || !slices.Equal(l.Tables, []string{dept}) {
			t.Errorf("the last load is %+v", l)
		}
		r.leaveOut(emp, false)
		if err := r.eng.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.want(r.emp, 1, "one!")
		if st := r.wantState(Live); st.Resyncs != 0 || st.Reloads != 2 {
			t.Errorf("%d resyncs, %d reloads", st.Resyncs, st.Reloads)
		}
		if err := r.eng.Reload(t.Context(), 2); err == nil {
			t.Error("a table that does not exist was loaded")
		}
	})
}

func TestAReloadThatIsAskedForDuringAFetchIsNotForgotten(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		r.set(func(db *fakeDB) { db.delay = 50 * time.Millisecond })
		r.requested()
		first := make(chan error, 1)
		go func() { first <- r.eng.Reload(t.Context(), 0) }()
		time.Sleep(10 * time.Millisecond)
		r.cutOff() // the first try will fail
		r.cameBack()
		if err := errors.Join(r.eng.Reload(t.Context(), 0, 1), <-first); err != nil {
			t.Fatal(err)
		}
		loaded := map[string]int{}
		for _, l := range r.eng.Status().Loads[1:] {
			for _, name := range l.Tables {
				loaded[name]++
			}
		}
		if loaded[emp] == 0 || loaded[dept] == 0 {
			t.Errorf("loaded: %v", loaded)
		}
	})
}

func TestWaitingNeedsARunningEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		if err := r.eng.Barrier(t.Context()); !errors.Is(err, ErrNotStarted) {
			t.Errorf("Barrier before Start returns %v", err)
		}
		r.start()
		r.cutOff()
		done := make(chan error, 2)
		go func() { done <- r.eng.Barrier(t.Context()) }()
		go func() { done <- r.eng.WaitFor(t.Context(), outbox.Token{History: r.eng.History(), Xid: 1 << 40}) }()
		synctest.Wait()
		if err := r.eng.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("a waiter got %v from Close", err)
			}
		}
		if err := r.eng.Reload(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Reload after Close returns %v", err)
		}
	})
}
