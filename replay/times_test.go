package replay

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
	"testing/synctest"
	"time"
)

// classOf is the class of the only duration that was counted since before.
func classOf(t *testing.T, before, after Times) (bound, sum time.Duration) {
	t.Helper()
	found := -1
	for i := range after.Counts {
		switch n := after.Counts[i] - before.Counts[i]; {
		case n > 1 || n == 1 && found >= 0:
			t.Fatalf("more than one was counted: %v, %v", before, after)
		case n == 1:
			found = i
		}
	}
	switch {
	case found < 0:
		t.Fatalf("none was counted: %v, %v", before, after)
	case found == len(TimeBounds):
		return 0, after.Sum - before.Sum
	}
	return TimeBounds[found], after.Sum - before.Sum
}

func TestHowLongATransactionTookToBeVisibleDoesNotDependOnTheServersClock(t *testing.T) {
	for _, skew := range []time.Duration{0, time.Hour, -time.Hour} {
		live(t, Config{}, func(t *testing.T, r *rig) {
			r.set(func(db *fakeDB) { db.skew, db.deaf, db.delay = skew, true, 100*time.Millisecond })
			r.settle()
			before, wrote := r.eng.Status(), time.Now()
			r.write(emp, 2, "two")
			time.Sleep(time.Second) // a beat finds it
			synctest.Wait()
			after := r.eng.Status()
			took := after.LastCut.Sub(wrote)
			bound, sum := classOf(t, before.VisibleTimes, after.VisibleTimes)
			if sum > took || sum < took-time.Microsecond || bound < took || took < 100*time.Millisecond {
				t.Errorf("skew %v: %v, at most %v, was counted for %v", skew, sum, bound, took)
			}
		})
	}
}

func TestATransactionIsCountedOnceWhateverItWroteAndAlsoAfterAnOutage(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		before := r.eng.Status()
		r.cutOff()
		tx := r.db.begin()
		for i := range 5 {
			tx.put(emp, 10+i, "x")
			tx.put(dept, 10+i, "x")
		}
		tx.commit()
		time.Sleep(2 * time.Minute)
		r.cameBack()
		r.heal()
		if bound, sum := classOf(t, before.VisibleTimes, r.eng.Status().VisibleTimes); bound != 0 || sum < 2*time.Minute {
			t.Errorf("%v, at most %v", sum, bound)
		}
	})
}

func TestEveryCompletedFetchIsTimed(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		r.set(func(db *fakeDB) { db.delay = 20 * time.Millisecond })
		time.Sleep(10 * time.Second)
		st := r.eng.Status()
		var n uint64
		for _, c := range st.FetchTimes.Counts {
			n += c
		}
		if n != st.Fetches || st.FetchTimes.Sum < time.Duration(n-10)*20*time.Millisecond || st.FetchTimes.Sum > time.Duration(n)*20*time.Millisecond {
			t.Errorf("%d of %d fetches, %v in all", n, st.Fetches, st.FetchTimes.Sum)
		}
	})
}

func TestLoadsAreCountedByReason(t *testing.T) {
	live(t, Config{KeepLoads: 1}, func(t *testing.T, r *rig) {
		for range 3 {
			if err := r.eng.Reload(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		st := r.eng.Status()
		if st.LoadsFor[FirstLoad] != 1 || st.LoadsFor[Requested] != 3 || len(st.LoadsFor) != 2 {
			t.Errorf("%v", st.LoadsFor)
		}
		clear(st.LoadsFor) // it is a copy
		if n := r.eng.Status().LoadsFor[Requested]; n != 3 {
			t.Errorf("%d", n)
		}
	})
}

func TestTheListOfReasonsIsComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "status.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok {
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Reason" {
				n++
			}
		}
		return true
	})
	if n != len(Reasons) {
		t.Errorf("there are %d reasons, and the list has %d", n, len(Reasons))
	}
}
