package replay

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestALoadThatFindsNoTurnWaitsForOneAndSaysForWhom(t *testing.T) {
	live(t, Config{MaxLoads: 3}, func(t *testing.T, r *rig) {
		for _, req := range r.db.requests[1:] {
			if req.MaxLoads != 0 {
				t.Errorf("a fetch that loads nothing takes a turn: %+v", req)
			}
		}
		r.set(func(db *fakeDB) { db.busy = 20 })
		r.db.newHistory()
		r.write(emp, 2, "two")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		st := r.wantState(Resyncing)
		if !strings.Contains(st.Reason, "waiting for a turn to load") || !strings.Contains(st.Reason, "web-7") || st.Failures != 0 {
			t.Errorf("%q, %d failures", st.Reason, st.Failures)
		}
		r.want(r.emp, 1, "one") // readers are served
		time.Sleep(time.Minute)
		st = r.wantState(Live)
		if st.Resyncs != 1 || st.Failures != 0 {
			t.Errorf("%d resyncs, %d failures", st.Resyncs, st.Failures)
		}
		r.want(r.emp, 2, "two")
		r.set(func(db *fakeDB) {
			if req := db.requests[0]; req.MaxLoads != 3 {
				t.Errorf("the first load is asked for by %+v", req)
			}
		})
	})
}

func TestAStartThatWaitsForItsTurnSaysSoWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{MaxLoads: 1})
		r.set(func(db *fakeDB) { db.busy = 1000 })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := r.eng.Start(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "web-7") {
			t.Errorf("Start: %v", err)
		}
		if n := r.fetches(); n < 5 || n > 40 {
			t.Errorf("it asked %d times in 10 s", n)
		}
	})
}

func TestABellThatIsLostEndsTheWaitForATurn(t *testing.T) {
	live(t, Config{MaxLoads: 1}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.busy = 5 })
		r.db.newHistory()
		time.Sleep(time.Second)
		r.set(func(db *fakeDB) { db.cutOff() })
		synctest.Wait()
		r.heal()
		if st := r.wantState(Live); st.Sessions < 2 || st.Resyncs != 1 {
			t.Errorf("%d sessions, %d resyncs", st.Sessions, st.Resyncs)
		}
	})
}
