package replay

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// A fetch that brings an older snapshot answers nobody who waits; whoever waits makes
// the next one ask the server.
func TestWhoWaitsIsNotAnsweredByAnOlderSnapshot(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.relayed = true })
		time.Sleep(time.Second)
		r.write(emp, 1, "behind")
		time.Sleep(time.Second)
		r.want(r.emp, 1, "one") // nobody has asked the server
		if err := r.eng.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.want(r.emp, 1, "behind")
		mark := r.eng.Mark()
		r.settle()
		time.Sleep(time.Second) // fetches begin after the mark that do not see it
		token := outbox.Token{History: r.eng.History(), Xid: r.write(emp, 1, "since")}
		if err := r.eng.WaitForSince(t.Context(), token, mark); err != nil {
			t.Fatal(err)
		}
		r.want(r.emp, 1, "since")
		r.set(func(db *fakeDB) {
			asked := 0
			for _, req := range db.requests {
				if req.Now {
					asked++
				}
			}
			if asked != 2 {
				t.Errorf("the server was asked %d times", asked)
			}
		})
	})
}

// The age of what is served is that of the snapshot, whenever it was brought.
func TestAnOlderSnapshotMakesTheEngineStale(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.relayed = true })
		time.Sleep(2 * time.Second)
		r.wantState(Stale)
		if err := r.eng.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.wantState(Live)
	})
}

// A session that ends because another is to go on is no failure, unless that goes on and on.
func TestASessionThatIsToGoOnElsewhereIsNoFailure(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		before := r.eng.Status()
		r.set(func(db *fakeDB) { db.moved = 1 })
		r.write(emp, 1, "two")
		r.settle()
		r.want(r.emp, 1, "two")
		st := r.wantState(Live)
		if st.Failures != before.Failures || st.Sessions != before.Sessions+1 || st.Resyncs != 0 {
			t.Errorf("%d failures, %d sessions, %d resyncs", st.Failures, st.Sessions, st.Resyncs)
		}
		r.set(func(db *fakeDB) { db.moved = 1 << 30 })
		time.Sleep(time.Minute)
		st = r.wantState(Stale)
		if !errors.Is(st.LastError, outbox.ErrMoved) || st.Sessions > before.Sessions+60 {
			t.Errorf("%d sessions in a minute, the last error is %v", st.Sessions-before.Sessions, st.LastError)
		}
		r.set(func(db *fakeDB) { db.moved = 0 })
		r.heal()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.eng.Barrier(ctx); err != nil {
			t.Error(err)
		}
	})
}

// An engine that starts goes on with another session as one that runs does.
func TestAStartThatIsToGoOnElsewhereGoesOn(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, _ *place) {
		r.restart("e", "d")
		r.write(emp, 2, "two")
		r.set(func(db *fakeDB) { db.moved = 1 })
		r.start()
		r.settle()
		r.wantWarm(1)
		r.want(r.emp, 2, "two")
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.write(emp, 1, "one")
		r.set(func(db *fakeDB) { db.moved = 1 })
		r.start()
		r.settle()
		r.want(r.emp, 1, "one")
	})
}

// What a source keeps between two sessions ends with the engine.
func TestASourceIsClosedAfterItsLastSession(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.moved = 1 })
		r.settle()
		if err := r.eng.Close(t.Context()); err != nil {
			t.Error(err)
		}
		r.set(func(db *fakeDB) {
			if db.closed != 1 {
				t.Errorf("it was closed %d times", db.closed)
			}
		})
	})
}
