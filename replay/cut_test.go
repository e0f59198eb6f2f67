package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/outbox"
)

func TestEventsApplyInOrderOfTheirNumbers(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		// The later transaction id writes first: the row lock orders the
		// numbers, and neither ids nor commits do.
		a, b := r.db.begin(), r.db.begin()
		b.put(emp, 1, "from b")
		b.commitSilently()
		a.put(emp, 1, "from a, later")
		a.commit()
		r.settle()
		r.want(r.emp, 1, "from a, later")
	})
}

func TestACutIsPublishedInOneStepAcrossTables(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		cuts, revision := len(r.published()), r.store.Revision()
		tx := r.db.begin()
		tx.put(emp, 1, "moved")
		tx.put(dept, 1, "taken over")
		tx.del(dept, 1)
		tx.put(dept, 2, "new")
		tx.commit()
		r.settle()
		if n := len(r.published()) - cuts; n != 1 || r.store.Revision() != revision+1 {
			t.Errorf("one transaction made %d cuts and %d revisions", n, r.store.Revision()-revision)
		}
		r.want(r.dept, 2, "new")
	})
}

// Rows are stored some at a time, and yet subscribers are told of a transaction in its order.
func TestATransactionIsToldInItsOrderAcrossTables(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		var told []string
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for tx := range r.store.Changes(ctx) {
				for _, c := range tx.Changes {
					told = append(told, fmt.Sprint(c.Table, c.Key, c.Op))
				}
			}
		}()
		synctest.Wait()
		var want []string
		tx := r.db.begin()
		put := func(table string, k int) {
			tx.put(table, k, fmt.Sprint(len(want)))
			want = append(want, fmt.Sprint(table, k, cache.Insert))
		}
		for i := range 3 * putAtOnce {
			put(emp, 100+i)
		}
		put(dept, 100)
		put(emp, 1000)
		put(dept, 101)
		tx.del(emp, 1000)
		want = append(want, fmt.Sprint(emp, 1000, cache.Delete))
		put(emp, 1001)
		tx.commit()
		r.settle()
		stop()
		<-done
		if !slices.Equal(told, want) {
			t.Errorf("told %v\nwant %v", told, want)
		}
	})
}

// Rows of a fetch that fails, or is made again, are not stored by a later one.
func TestRowsOfACutThatIsGivenUpAreForgotten(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		before := r.store.Revision()
		c := newCut(&loop{e: r.eng, cfg: &r.eng.cfg}, &plan{tables: make([]tablePlan, len(r.eng.tables))})
		if err := c.put(0, cache.Origin{}, fakeRow{v: rec{77, "given up"}}); err != nil {
			t.Fatal(err)
		}
		c.abort()
		r.write(emp, 1, "later")
		r.settle()
		if _, there := r.emp.Get(77); there || r.store.Revision() != before+1 {
			t.Errorf("a row that was given up is there: %v, revision %d after %d", there, r.store.Revision(), before)
		}
	})
}

func TestAnEmptyFetchPublishesNothingButIsNotForgotten(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		slow := r.db.begin()
		r.write(emp, 2, "two")
		r.settle()
		if r.eng.Position().Covers(slow.xid) {
			t.Fatalf("the position %v covers a transaction in flight", r.eng.Position())
		}
		cuts, revision, fetched := len(r.published()), r.store.Revision(), r.eng.Status().LastFetch
		slow.abort()
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		st := r.wantState(Live)
		if len(r.published()) != cuts || r.store.Revision() != revision {
			t.Error("an empty fetch has published")
		}
		if !st.LastFetch.After(fetched) || !st.Position.Covers(slow.xid) {
			t.Errorf("an empty fetch at %v has left no trace: position %v", st.LastFetch, st.Position)
		}
	})
}

func TestAnEventThatThePositionCoversIsSkipped(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.write(emp, 1, "first")
		r.settle()
		before := r.eng.Status()
		r.set(func(db *fakeDB) { db.twice = true })
		r.write(emp, 2, "second")
		r.settle()
		st := r.eng.Status()
		if st.Events != before.Events+1 || st.Skipped == 0 {
			t.Errorf("%d events applied and %d skipped, want 1 applied and the others skipped", st.Events-before.Events, st.Skipped)
		}
	})
}

func TestAnEventOfATransactionThatIsNotInTheSnapshotIsRefused(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		// A subscription has filled the outbox: the id is another server's.
		before := r.eng.Position()
		r.set(func(db *fakeDB) {
			db.commits[9000] = 1
			db.seq++
			db.outbox = append(db.outbox, fakeEvent{Event: outbox.Event{Seq: db.seq, Xid: 9000, Table: emp, Op: outbox.Update}, row: &rec{1, "forged"}})
			db.rewind = func(s outbox.Position) outbox.Position { return s }
		})
		// The fake hides what its snapshot does not cover, so show it a wider
		// one and give the engine the true one.
		r.set(func(db *fakeDB) {
			truth := db.snapshot()
			db.ended = 9001
			db.rewind = func(outbox.Position) outbox.Position { return truth }
		})
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		st := r.wantState(Stale)
		var e *Error
		if !errors.Is(st.LastError, ErrForeign) || !errors.As(st.LastError, &e) || e.Table != emp || e.Seq == 0 || e.Hint == "" {
			t.Errorf("the engine says %v, want ErrForeign with table, event and a hint", st.LastError)
		}
		r.want(r.emp, 1, "one")
		if !st.Position.Equal(before) {
			t.Errorf("the position has moved from %v to %v", before, st.Position)
		}
	})
}

func TestThePositionIsKeptTight(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		slow := r.db.begin()
		for range 5 {
			r.db.begin().abort() // ids that nobody can notice the loss of
		}
		last := r.write(emp, 2, "two")
		after := r.db.begin()
		r.db.begin().abort()
		r.settle()
		pos := r.eng.Position()
		if pos.Xmax() != last+1 {
			t.Errorf("the floor of %v is not one above %d, the highest transaction applied", pos, last)
		}
		if xip := pos.Xip(); !slices.Equal(xip, []uint64{slow.xid}) {
			t.Errorf("in flight: %v, want %d alone", xip, slow.xid)
		}
		for _, tx := range []*fakeTx{slow, after} {
			tx.put(emp, int(tx.xid), "late")
			tx.commit()
			r.settle()
			r.want(r.emp, int(tx.xid), "late")
		}
	})
}

func TestAFirstLoadOfAnEmptyOutboxStartsAtTheBottom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.start()
		if pos := r.eng.Position(); pos.IsZero() || pos.Xmax() != 1 {
			t.Errorf("position %v, want a floor of 1", pos)
		}
		r.write(emp, 1, "one")
		r.settle()
		r.want(r.emp, 1, "one")
	})
}

func TestEventsOfOtherTablesMoveThePositionAndNothingElse(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		before := r.eng.Status()
		tx := r.db.begin()
		tx.foreign("public.unheard_of")
		tx.commit()
		r.settle()
		st := r.eng.Status()
		if st.Events != before.Events || st.Passed != before.Passed+1 || !st.Position.Covers(tx.xid) || st.Gaps.Open != 0 {
			t.Errorf("events %d, passed %d, position %v, open gaps %d", st.Events, st.Passed, st.Position, st.Gaps.Open)
		}
	})
}

func TestASourceThatMixesUpTheOrderIsRefused(t *testing.T) {
	for name, mix := range map[string]func(first, last *outbox.Event){
		"two events of one number": func(first, last *outbox.Event) { last.Seq = first.Seq },
		"a list without its first": func(_, last *outbox.Event) { last.Part = 1 },
		"a list with a hole":       func(first, last *outbox.Event) { last.Seq, last.Part = first.Seq, 2 },
	} {
		t.Run(name, func(t *testing.T) {
			live(t, Config{}, func(t *testing.T, r *rig) {
				tx := r.db.begin()
				tx.put(emp, 2, "a")
				tx.put(emp, 3, "b")
				r.set(func(db *fakeDB) {
					mix(&db.outbox[len(db.outbox)-2].Event, &db.outbox[len(db.outbox)-1].Event)
				})
				tx.commit()
				r.settle()
				if st := r.wantState(Stale); !errors.Is(st.LastError, ErrSource) {
					t.Errorf("the engine says %v, want ErrSource", st.LastError)
				}
				if _, ok := r.emp.Get(2); ok {
					t.Error("half a cut was published")
				}
			})
		})
	}
}

func TestTheEventsOfOneRowOfTheOutboxAreOneNumber(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		before := r.eng.Status()
		tx := r.db.begin()
		tx.put(emp, 2, "a")
		tx.put(emp, 3, "b")
		tx.put(emp, 2, "c")
		r.set(func(db *fakeDB) {
			list := db.outbox[len(db.outbox)-3:]
			for i := range list {
				list[i].Seq, list[i].Part = list[2].Seq, i
			}
		})
		tx.commit()
		r.settle()
		r.want(r.emp, 2, "c")
		r.want(r.emp, 3, "b")
		// The two numbers that nobody used are the gap.
		if st := r.wantState(Live); st.Events != before.Events+3 || st.AppliedSeq != before.AppliedSeq+3 {
			t.Errorf("events %d, applied %d after %d and %d", st.Events, st.AppliedSeq, before.Events, before.AppliedSeq)
		}
	})
}
