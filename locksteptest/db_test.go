package locksteptest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/locksteptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type acct struct {
	ID   int
	Cash int
	At   time.Time
	Tags []string
}

func accounts() *lockstep.Table[int, acct] {
	return lockstep.NewTable("bank.accounts", func(a acct) int { return a.ID })
}

// each runs a test on the real clock and in a bubble.
func each(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run("clock", f)
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, f) })
}

func TestCommitIsShownWhenItReturns(t *testing.T) {
	each(t, func(t *testing.T) {
		tab := accounts()
		db := locksteptest.New(t, locksteptest.With(tab, acct{ID: 1, Cash: 5}, acct{ID: 2}))
		if tab.Len() != 2 {
			t.Fatalf("it starts with %d rows, want 2", tab.Len())
		}
		for i := range 50 {
			tok := db.Commit(func(tx *locksteptest.Tx) {
				locksteptest.Put(tx, tab, acct{ID: 1, Cash: i}, acct{ID: 100 + i})
				locksteptest.Delete(tx, tab, 2, 99+i)
			})
			if a, _ := tab.Get(1); a.Cash != i || tab.Len() != 2 {
				t.Fatalf("after commit %d: %+v and %d rows", i, a, tab.Len())
			}
			if err := db.Node().WaitFor(t.Context(), tok); err != nil {
				t.Fatal(err)
			}
		}
		db.Commit(func(tx *locksteptest.Tx) { locksteptest.Truncate(tx, tab) })
		if tab.Len() != 0 {
			t.Errorf("%d rows after truncation", tab.Len())
		}
		if tok := db.Commit(func(*locksteptest.Tx) {}); tok != (lockstep.Token{}) {
			t.Errorf("a transaction that wrote nothing has token %v", tok)
		}
		if st := db.Node().Status(); st.State != lockstep.Live || len(st.Loads) != 1 {
			t.Errorf("the node is %v after %d loads", st.State, len(st.Loads))
		}
	})
}

func TestNoWaitReturnsWhileTheNodeIsCutOffOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := accounts()
		db := locksteptest.New(t, tab)
		tok := db.Commit(func(tx *locksteptest.Tx) { locksteptest.Put(tx, tab, acct{ID: 1}) }, locksteptest.NoWait)
		if err := db.Node().WaitFor(t.Context(), tok); err != nil || tab.Len() != 1 {
			t.Errorf("%d rows, %v", tab.Len(), err)
		}
	})
}

func TestNodesOwnWritesAreAppliedInMemory(t *testing.T) {
	each(t, func(t *testing.T) {
		ctx, tab := t.Context(), accounts()
		db := locksteptest.New(t, tab)
		tok, err := tab.Put(ctx, acct{ID: 1, Cash: 10})
		if a, ok := tab.Get(1); err != nil || !ok || a.Cash != 10 || tok == (lockstep.Token{}) {
			t.Errorf("after Put: %+v %v %v %v", a, ok, tok, err)
		}
		_, err = tab.Update(ctx, 1, func(a acct) (acct, error) { a.Cash++; return a, nil })
		if a, _ := tab.Get(1); err != nil || a.Cash != 11 {
			t.Errorf("after Update: %+v %v", a, err)
		}
		_, err = tab.Update(ctx, 1, func(a acct) (acct, error) { a.ID = 7; return a, nil })
		if _, ok := tab.Get(7); err != nil || !ok || tab.Len() != 1 {
			t.Errorf("after Update of the key: %v, %d rows, %v", ok, tab.Len(), err)
		}
		no := errors.New("no")
		_, err = tab.Update(ctx, 7, func(a acct) (acct, error) { return a, no })
		if !errors.Is(err, no) || !errors.Is(err, lockstep.ErrNotCommitted) {
			t.Error("fn's error:", err)
		}
		if _, err = tab.Delete(ctx, 7); err != nil || tab.Len() != 0 {
			t.Error("after Delete:", tab.Len(), err)
		}
		_, err = tab.Delete(ctx, 7)
		_, err2 := tab.Update(ctx, 7, func(a acct) (acct, error) { return a, nil })
		for _, err := range []error{err, err2} {
			if !errors.Is(err, lockstep.ErrNoRow) || !errors.Is(err, lockstep.ErrNotCommitted) {
				t.Error("no such row:", err)
			}
		}
		if _, err := db.Node().Tx(ctx, nil); !errors.Is(err, lockstep.ErrUnavailable) {
			t.Error("Tx:", err)
		}
	})
}

func TestConcurrentUpdatesOfARowWaitForEachOther(t *testing.T) {
	each(t, func(t *testing.T) {
		tab := accounts()
		locksteptest.New(t, locksteptest.With(tab, acct{ID: 1}))
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range 10 {
					if _, err := tab.Update(t.Context(), 1, func(a acct) (acct, error) { a.Cash++; return a, nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if a, _ := tab.Get(1); a.Cash != 200 {
			t.Errorf("%d of 200 updates are there", a.Cash)
		}
	})
}

func TestDisconnectedNodeServesOldRowsAndCatchesUp(t *testing.T) {
	each(t, func(t *testing.T) {
		tab := accounts()
		db := locksteptest.New(t, locksteptest.With(tab, acct{ID: 1}))
		for range 3 {
			db.Disconnect()
			db.Disconnect() // again does nothing
			if st := db.Node().Status(); st.State != lockstep.Stale {
				t.Fatalf("the node is %v", st.State)
			}
			a, _ := tab.Get(1)
			db.Commit(func(tx *locksteptest.Tx) { locksteptest.Put(tx, tab, acct{ID: 1, Cash: a.Cash + 1}) })
			if b, _ := tab.Get(1); b.Cash != a.Cash {
				t.Error("a node that is cut off shows what was committed behind its back")
			}
			if _, err := tab.Put(t.Context(), acct{ID: 2}); !errors.Is(err, lockstep.ErrUnavailable) || !errors.Is(err, lockstep.ErrNotCommitted) {
				t.Error("Put while cut off:", err)
			}
			db.Reconnect()
			if b, _ := tab.Get(1); b.Cash != a.Cash+1 || tab.Len() != 1 {
				t.Errorf("after Reconnect: %+v, %d rows", b, tab.Len())
			}
		}
		if st := db.Node().Status(); st.State != lockstep.Live || st.Replays != 3 || st.Resyncs != 0 {
			t.Errorf("%v after %d replays and %d resyncs", st.State, st.Replays, st.Resyncs)
		}
	})
}

func TestAnHourAwayEndsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := accounts()
		db := locksteptest.New(t, tab)
		db.Disconnect()
		time.Sleep(time.Hour)
		if st := db.Node().Status(); st.State != lockstep.Stale || st.Staleness < time.Hour {
			t.Errorf("%v since %v", st.State, st.Staleness)
		}
		db.Reconnect()
		if st := db.Node().Status(); st.State != lockstep.Live {
			t.Error(st.State)
		}
	})
}

func TestKeepWritesMakesWritesCommittedButNotVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := accounts()
		db := locksteptest.New(t, tab)
		db.Disconnect(locksteptest.KeepWrites)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tok, err := tab.Put(ctx, acct{ID: 1})
		var we *lockstep.WriteError
		if !errors.Is(err, lockstep.ErrNotVisible) || !errors.As(err, &we) || we.Token != tok || tok == (lockstep.Token{}) {
			t.Fatalf("%v %v", tok, err)
		}
		db.Reconnect()
		if err := db.Node().WaitFor(t.Context(), we.Token); err != nil || tab.Len() != 1 {
			t.Errorf("%d rows, %v", tab.Len(), err)
		}
	})
}

func TestReloadShowsOnlyWhatDiffers(t *testing.T) {
	each(t, func(t *testing.T) {
		now, tab := time.Now(), accounts()
		db := locksteptest.New(t, locksteptest.With(tab,
			acct{ID: 1, At: now, Tags: []string{"a"}}, acct{ID: 2}, acct{ID: 3, Tags: []string{"x"}}))
		db.Commit(func(tx *locksteptest.Tx) {
			locksteptest.Put(tx, tab, acct{ID: 1, At: now.In(time.FixedZone("", 3600)), Tags: []string{"a"}}) // the same
			locksteptest.Put(tx, tab, acct{ID: 3, Tags: []string{"y"}})
		}, locksteptest.NoEvents)
		if a, _ := tab.Get(3); a.Tags[0] != "x" {
			t.Fatal("a change without an event is shown")
		}
		before := db.Node().Status().Cuts
		changes := make(chan lockstep.Change[int, acct], 10)
		live := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for c, err := range tab.Changes(ctx) {
				switch {
				case err != nil:
					return
				case c.Op == lockstep.OpLive:
					close(live)
				case c.Op != lockstep.OpCurrent:
					changes <- c
				}
			}
		}()
		<-live
		db.Reload(tab)
		db.Commit(func(tx *locksteptest.Tx) { locksteptest.Delete(tx, tab, 2) })
		got := []string{}
		for range 2 {
			c := <-changes
			got = append(got, fmt.Sprint(c.Op, c.Key, c.Resync))
		}
		if want := []string{"update 3 true", "delete 2 false"}; !slices.Equal(got, want) {
			t.Errorf("changes %q, want %q", got, want)
		}
		if st := db.Node().Status(); st.Reloads != 1 || st.Cuts != before+2 {
			t.Errorf("%d reloads, %d cuts", st.Reloads, st.Cuts-before)
		}
		cancel()
		<-done
	})
}

func TestTrimmedOrChangedHistoryMakesTheNodeLoadAgain(t *testing.T) {
	each(t, func(t *testing.T) {
		tab := accounts()
		db := locksteptest.New(t, tab)
		put := func(id int) lockstep.Token {
			return db.Commit(func(tx *locksteptest.Tx) { locksteptest.Put(tx, tab, acct{ID: id}) })
		}
		put(1)
		db.Trim()
		tok := put(2)
		db.Disconnect()
		db.Reconnect()
		if st := db.Node().Status(); st.Resyncs != 0 {
			t.Errorf("a node that has missed nothing loads again: %+v", st.Loads)
		}
		db.Disconnect()
		put(3)
		db.Trim()
		db.Reconnect()
		db.NewHistory()
		db.Disconnect()
		put(4)
		db.NewHistory()
		db.Reconnect()
		var why []string
		for _, l := range db.Node().Status().Loads[1:] {
			why = append(why, string(l.Reason))
		}
		if want := []string{"trimmed", "history changed", "history changed"}; !slices.Equal(why, want) {
			t.Errorf("loads for %q, want %q", why, want)
		}
		if tab.Len() != 4 {
			t.Errorf("%d rows, want 4", tab.Len())
		}
		if err := db.Node().WaitFor(t.Context(), tok); !errors.Is(err, lockstep.ErrHistory) {
			t.Error("a token of the old history:", err)
		}
		put(5)
		if tab.Len() != 5 {
			t.Error("the node does not follow the new history")
		}
	})
}

func TestMistakesFailTheStart(t *testing.T) {
	nameless := lockstep.NewTable("", func(a acct) int { return a.ID })
	keyless := lockstep.NewTable[int, acct]("a.b", nil)
	_, err := locksteptest.Start(lockstep.Config{}, nameless, locksteptest.With(keyless, acct{}))
	for _, want := range []string{"no name", "key function is nil"} {
		if err == nil || !contains(err, want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	tab := accounts()
	db := locksteptest.New(t, tab)
	if _, err := locksteptest.Start(lockstep.Config{}, tab); err == nil || !contains(err, "another node") {
		t.Error("a table of another node:", err)
	}
	db.Close()
	if _, err := tab.Put(t.Context(), acct{}); !errors.Is(err, lockstep.ErrClosed) || !errors.Is(err, lockstep.ErrNotCommitted) {
		t.Error("Put after Close:", err)
	}
}

// failing is a test that fails.
type failing struct {
	*testing.T
	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f.said) // ends what it was called by, as the real one does
}

func TestNewNamesATableThatItWasNotGiven(t *testing.T) {
	f := &failing{T: t}
	tab, other := accounts(), lockstep.NewTable("bank.other", func(a acct) int { return a.ID })
	db := locksteptest.New(f, tab)
	func() {
		defer func() { _ = recover() }()
		db.Commit(func(tx *locksteptest.Tx) { locksteptest.Put(tx, other, acct{}) })
	}()
	if !strings.Contains(f.said, "bank.other") {
		t.Errorf("said %q", f.said)
	}
}

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }
