package replay

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/outbox"
)

// requested returns the requests made since it was last called.
func (r *rig) requested() (all []outbox.Request) {
	r.set(func(db *fakeDB) { all, db.requests = db.requests, nil })
	return all
}

func TestARowThatAnEventCouldNotCarryIsReadInTheCutsOwnSnapshot(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		r.requested()
		tx := r.db.begin()
		tx.put(dept, 2, "beside it")
		tx.putUncarried(emp, 1, version{v: "too large"}, true)
		tx.putUncarried(emp, 2, version{gone: true}, true)
		tx.put(emp, 3, "after it")
		tx.commit()
		synctest.Wait()
		r.want(r.emp, 1, "too large")
		r.want(r.emp, 3, "after it")
		reqs := r.requested()
		if len(reqs) != 2 || !slices.Equal(reqs[1].Reread, []int{0}) || len(reqs[0].Reread)+len(reqs[0].Reload)+len(reqs[1].Reload) != 0 {
			t.Errorf("requests %+v, want one and then one that reads table 0 again by key", reqs)
		}
		if st := r.wantState(Live); st.Rereads != 1 || st.Reloads != 0 || st.Events != 4 {
			t.Errorf("%d rereads, %d reloads, %d events", st.Rereads, st.Reloads, st.Events)
		}
	})
}

func TestATableThatAnEventCouldNotCarryIsLoadedInTheCut(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		r.requested()
		cuts := len(r.published())
		tx := r.db.begin()
		tx.put(emp, 1, "before it")
		tx.put(dept, 1, "beside it")
		tx.putUncarried(emp, 2, version{v: "uncarried"}, false)
		tx.putUncarried(emp, 4, version{v: "uncarried too"}, true)
		tx.put(emp, 3, "after it")
		tx.commit()
		synctest.Wait()
		r.want(r.emp, 2, "uncarried")
		r.want(r.emp, 3, "after it")
		if reqs := r.requested(); len(reqs) != 2 || !slices.Equal(reqs[1].Reload, []int{0}) || len(reqs[1].Reread) != 0 {
			t.Errorf("requests %+v, want one and then one that loads table 0", reqs)
		}
		st := r.wantState(Live)
		if l := r.lastLoad(); l.Reason != ReloadEvent || !slices.Equal(l.Tables, []string{emp}) || st.Reloads != 1 || st.Resyncs != 0 {
			t.Errorf("%d reloads, the last is %+v", st.Reloads, l)
		}
		if n := len(r.published()) - cuts; n != 1 {
			t.Errorf("it took %d published cuts, want one", n)
		}
		// All else is accounted for as ever.
		if st.Gaps.Open != 0 || !st.Position.Covers(tx.xid) {
			t.Errorf("gaps %+v, position %v", st.Gaps, st.Position)
		}
	})
}

func TestAnEventThatCannotBeReadLoadsItsTable(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		tx := r.db.begin()
		tx.putBad(emp, 2, "unreadable")
		tx.put(dept, 2, "readable")
		tx.commit()
		r.settle()
		r.want(r.emp, 2, "unreadable")
		r.want(r.dept, 2, "readable")
		r.wantState(Live)
		if l := r.lastLoad(); l.Reason != Unreadable || !slices.Equal(l.Tables, []string{emp}) || !strings.Contains(l.Detail, "event ") {
			t.Errorf("the last load is %+v, want one of %s with the event's number", l, emp)
		}
	})
}

func TestATableWhoseRowsCannotBeReadIsBrokenAndTheOthersGoOn(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.quiet()
		r.leaveOut(emp, true)
		r.set(func(db *fakeDB) { db.badRows = map[int]bool{0: true} })
		r.requested()
		tx := r.db.begin()
		tx.putBad(emp, 1, "unreadable")
		tx.put(dept, 2, "readable")
		tx.commit()
		synctest.Wait()
		if n := len(r.requested()); n != 3 {
			t.Errorf("%d fetches to find out, want one, one that loads, and one without the table", n)
		}
		r.want(r.dept, 2, "readable")
		r.want(r.emp, 1, "one") // what was there is still served
		st := r.wantState(Stale)
		for _, ts := range st.Tables {
			if broken := ts.Name == emp; ts.Live == broken || (ts.Problem != nil) != broken {
				t.Errorf("table status %+v", ts)
			}
		}
		if !strings.Contains(st.Reason, emp) || !errors.Is(st.Tables[0].Problem, ErrTable) {
			t.Errorf("the reason %q does not name the table, or its problem is not ErrTable: %v", st.Reason, st.Tables[0].Problem)
		}
		// Events for it are passed by, and nothing spins.
		r.requested()
		r.write(emp, 1, "unseen")
		r.write(dept, 3, "seen")
		time.Sleep(time.Second)
		synctest.Wait()
		r.want(r.dept, 3, "seen")
		r.want(r.emp, 1, "one")
		if n := len(r.requested()); n > 40 {
			t.Errorf("%d fetches in a second with a broken table", n)
		}
	})
}

func TestABrokenTableIsTriedAgainEverMoreSlowly(t *testing.T) {
	live(t, Config{RetryMin: time.Second, RetryMax: 8 * time.Second}, func(t *testing.T, r *rig) {
		r.leaveOut(emp, true)
		r.set(func(db *fakeDB) { db.badRows = map[int]bool{0: true} })
		tx := r.db.begin()
		tx.putBad(emp, 1, "unreadable")
		tx.commit()
		r.settle()
		r.requested()
		time.Sleep(time.Minute)
		synctest.Wait()
		tries := 0
		for _, req := range r.requested() {
			tries += len(req.Reload)
		}
		if tries < 5 || tries > 12 {
			t.Errorf("%d tries in a minute, want them 1, 2, 4, 8, 8 ... s apart", tries)
		}
		r.leaveOut(emp, false)
		r.set(func(db *fakeDB) { db.badRows = nil })
		time.Sleep(9 * time.Second)
		synctest.Wait()
		r.wantState(Live)
		r.want(r.emp, 1, "unreadable")
		if l := r.lastLoad(); l.Reason != Retry {
			t.Errorf("the last load is %+v", l)
		}
	})
}

func TestABrokenTableIsTriedAtOnceWhenItsCatalogueEntriesChange(t *testing.T) {
	live(t, Config{RetryMin: time.Hour, RetryMax: time.Hour}, func(t *testing.T, r *rig) {
		r.leaveOut(emp, true)
		r.set(func(db *fakeDB) { db.problems = map[int]error{0: errors.New("column salary is missing")} })
		r.db.alter(emp, func(v string) string { return v })
		time.Sleep(r.eng.cfg.CatalogueEvery + r.eng.cfg.Beat)
		synctest.Wait()
		if st := r.wantState(Stale); !strings.Contains(st.Reason, "salary") {
			t.Errorf("the reason is %q", st.Reason)
		}
		time.Sleep(time.Minute) // the same fingerprint: no reason to try
		synctest.Wait()
		r.wantState(Stale)
		r.leaveOut(emp, false)
		r.set(func(db *fakeDB) { db.problems = nil })
		r.db.alter(emp, strings.ToUpper)
		time.Sleep(r.eng.cfg.CatalogueEvery + r.eng.cfg.Beat)
		synctest.Wait()
		r.wantState(Live)
		r.want(r.emp, 1, "ONE")
	})
}

func TestATableThatDriftedIntoUnreadableRowsIsBroken(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.leaveOut(emp, true)
		r.set(func(db *fakeDB) { db.badRows = map[int]bool{0: true} })
		r.db.alter(emp, strings.ToUpper)
		time.Sleep(r.eng.cfg.CatalogueEvery + r.eng.cfg.Beat)
		synctest.Wait()
		r.requested()
		r.write(dept, 2, "goes on")
		r.settle()
		r.want(r.dept, 2, "goes on")
		if st := r.wantState(Stale); st.Tables[0].Problem == nil || !st.Tables[1].Live {
			t.Errorf("tables %+v", st.Tables)
		}
		if n := len(r.requested()); n > 10 {
			t.Errorf("%d fetches for one event", n)
		}
	})
}

func TestAProblemWithARereadBreaksTheTable(t *testing.T) {
	live(t, Config{RetryMin: time.Second}, func(t *testing.T, r *rig) {
		r.leaveOut(emp, true)
		r.set(func(db *fakeDB) { db.problems = map[int]error{0: errors.New("its lock was not to be had")} })
		tx := r.db.begin()
		tx.putUncarried(emp, 1, version{v: "too large"}, true)
		tx.put(dept, 2, "beside it")
		tx.commit()
		r.settle()
		r.want(r.dept, 2, "beside it")
		r.wantState(Stale)
		r.leaveOut(emp, false)
		r.set(func(db *fakeDB) { db.problems = nil })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.wantState(Live)
		r.want(r.emp, 1, "too large")
	})
}

func TestRowsThatCannotBeReadByKeyAreLoadedWithTheirTable(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.noReread = errors.New("the key is none any more") })
		tx := r.db.begin()
		tx.putUncarried(emp, 1, version{v: "too large"}, true)
		tx.commit()
		r.settle()
		r.wantState(Stale)
		r.heal()
		r.want(r.emp, 1, "too large")
		if st := r.eng.Status(); st.Failures != 2 || r.lastLoad().Reason != ReloadEvent {
			t.Errorf("%d failures, the last load is %+v", st.Failures, r.lastLoad())
		}
	})
}

func TestADriftedTableIsLoadedAgain(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.db.alter(emp, strings.ToUpper)
		time.Sleep(r.eng.cfg.CatalogueEvery + r.eng.cfg.Beat)
		synctest.Wait()
		r.want(r.emp, 1, "ONE")
		st := r.wantState(Live)
		if l := r.lastLoad(); l.Reason != Drift || !slices.Equal(l.Tables, []string{emp}) || st.Resyncs != 0 {
			t.Errorf("the last load is %+v, %d resyncs", l, st.Resyncs)
		}
		loads := len(st.Loads)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(r.eng.Status().Loads) - loads; n != 0 {
			t.Errorf("%d more loads although nothing has changed", n)
		}
	})
}

func TestTheCatalogueIsComparedEveryFewSeconds(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.requested()
		time.Sleep(10 * r.eng.cfg.CatalogueEvery)
		synctest.Wait()
		n := 0
		for _, req := range r.requested() {
			if req.Catalogue {
				n++
			}
		}
		if n < 9 || n > 10 {
			t.Errorf("%d comparisons in ten intervals", n)
		}
	})
}

func TestTruncateEmptiesTheTableInItsPlaceAmongTheEvents(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		tx := r.db.begin()
		tx.put(emp, 2, "before")
		tx.truncate(emp)
		tx.put(emp, 3, "after")
		tx.commit()
		r.settle()
		if got := content(r.emp); len(got) != 1 || got[3] != "after" {
			t.Errorf("the table holds %v", got)
		}
		r.want(r.dept, 1, "first")
	})
}

func TestAnOperationOfALaterVersionLoadsTheTable(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		tx := r.db.begin()
		tx.put(emp, 2, "two")
		r.set(func(db *fakeDB) { db.outbox[len(db.outbox)-1].Op = 'X' })
		tx.commit()
		r.settle()
		r.want(r.emp, 2, "two")
		if l := r.lastLoad(); l.Reason != Unreadable {
			t.Errorf("the last load is %+v", l)
		}
	})
}

func TestStartJoinsTheProblemsOfAllTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.write(dept, 1, "first")
		r.set(func(db *fakeDB) {
			db.problems = map[int]error{0: errors.New("no primary key")}
			db.badRows = map[int]bool{1: true}
		})
		err := r.eng.Start(t.Context())
		if !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), emp) || !strings.Contains(err.Error(), "no primary key") || !strings.Contains(err.Error(), dept) {
			t.Errorf("Start returns %v, want the problems of both tables", err)
		}
		if r.store.Revision() != 0 {
			t.Error("a part of the first load was published")
		}
		r.wantState(Closed)
	})
}

func TestALoadOrACutThatTakesTooMuchMemoryIsRefusedByName(t *testing.T) {
	t.Run("first load", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Config{MaxBytes: 1000})
			for i := range 100 {
				r.write(dept, i, "a department")
			}
			err := r.eng.Start(t.Context())
			var e *Error
			if !errors.Is(err, ErrMaxBytes) || !errors.As(err, &e) || e.Table != dept {
				t.Errorf("Start returns %v, want ErrMaxBytes for %s", err, dept)
			}
			if r.store.Revision() != 0 || r.store.Bytes() != 0 {
				t.Errorf("the cache holds %d bytes", r.store.Bytes())
			}
		})
	})
	t.Run("cut", func(t *testing.T) {
		live(t, Config{MaxBytes: 10_000}, func(t *testing.T, r *rig) {
			bytes, revision := r.store.Bytes(), r.store.Revision()
			tx := r.db.begin()
			tx.put(emp, 1, strings.Repeat("x", 100_000))
			tx.commit()
			time.Sleep(time.Minute)
			synctest.Wait()
			var e *Error
			if st := r.eng.Status(); st.State == Live || !errors.Is(st.LastError, ErrMaxBytes) || !errors.As(st.LastError, &e) || e.Table != emp {
				t.Errorf("the engine is %v and says %v", st.State, st.LastError)
			}
			if r.store.Bytes() != bytes || r.store.Revision() != revision {
				t.Errorf("the cache has changed: %d bytes at revision %d", r.store.Bytes(), r.store.Revision())
			}
			r.want(r.emp, 1, "one")
			r.write(emp, 1, "small again")
			r.heal()
			r.want(r.emp, 1, "small again")
		})
	})
}

// A row that could be read in part only leaves nothing to the next one, which has other columns.
func TestARowThatCannotBeReadLeavesNothingToTheNext(t *testing.T) {
	table := cache.NewTable[int, rec]("t")
	store, err := cache.NewStore(cache.Options{}, table)
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("not a number")
	b := &Binding[int, rec]{Table: table, Key: func(r rec) int { return r.K }, Row: func(row pgx.CollectableRow, into *rec) error {
		if row == nil {
			into.V = "half read"
			return bad
		}
		into.K = 1
		return nil
	}}
	w := store.Begin()
	if err := b.Put(w, cache.Origin{}, nil); !errors.Is(err, bad) {
		t.Fatal(err)
	}
	if err := b.Put(w, cache.Origin{}, otherRow{}); err != nil {
		t.Fatal(err)
	}
	b.Flush(w)
	w.Publish(nil)
	if got, ok := table.Get(1); !ok || got.V != "" || table.Len() != 1 {
		t.Errorf("the row is %+v, of %d", got, table.Len())
	}
}

// otherRow is a row that hands over no Go value.
type otherRow struct{ pgx.CollectableRow }
