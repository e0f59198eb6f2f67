package cache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// line is a change in short: op, key, old>new, revision and flags.
func line(c Change[string, note]) string {
	s := fmt.Sprintf("%v %s %s>%s @%d", c.Op, c.Key, c.Old.Text, c.New.Text, c.Revision)
	if c.Coalesced {
		s += " coalesced"
	}
	if c.Resync {
		s += " resync"
	}
	return s
}

// pull takes n changes.
func pull(t *testing.T, next func() (Change[string, note], error, bool), n int) (lines []string) {
	t.Helper()
	for range n {
		c, err, ok := next()
		if err != nil || !ok {
			t.Fatalf("after %q: %v %v", lines, err, ok)
		}
		lines = append(lines, line(c))
	}
	return lines
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestASubscriberGetsCurrentRowsThenEveryChangeAsItWasMade(t *testing.T) {
	s, tab := newNotes(t, Options{})
	put(s, tab, "a", "1")
	next, stop := iter.Pull2(tab.Changes(t.Context()))
	defer stop()
	first := pull(t, next, 1)
	put(s, tab, "a", "2") // while the current rows are being given
	wantLines(t, append(first, pull(t, next, 2)...), "current a >1 @1", "live  > @1", "update a 1>2 @2")
	put(s, tab, "b", "1", "a", "3", "a", "", "a", "4", "c", "1", "c", "", "none", "")
	wantLines(t, pull(t, next, 6), "insert b >1 @3", "update a 2>3 @3", "delete a 3> @3", "insert a >4 @3",
		"insert c >1 @3", "delete c 1> @3")
	w := s.Begin()
	tab.Put(w, Origin{Xid: 9, Seq: 9}, "a", note{"lost"})
	w.Abort()
	w = s.Begin()
	tab.Clear(w, Origin{Xid: 7, Seq: 8})
	r := tab.Replace(w, nil)
	if err := r.Put("b", note{"2"}); err != nil {
		t.Fatal(err)
	}
	done(t, r)
	w.Publish(nil)
	got := pull(t, next, 2)
	slices.Sort(got)
	wantLines(t, got, "delete a 4> @4", "delete b 1> @4")
	c, _, _ := next()
	wantLines(t, []string{line(c)}, "insert b >2 @4 resync")
	if c.Origin != (Origin{}) {
		t.Errorf("a Replace has origin %v", c.Origin)
	}
}

func TestASubscriberThatFallsBehindGetsOneChangePerKey(t *testing.T) {
	s, tab := newNotes(t, Options{CoalesceAfter: 3})
	put(s, tab, "a", "1", "gone", "1")
	next, stop := iter.Pull2(tab.Changes(t.Context()))
	defer stop()
	pull(t, next, 3)
	put(s, tab, "b", "1", "c", "1")
	put(s, tab, "a", "2")
	wantLines(t, pull(t, next, 3), "insert b >1 @2", "insert c >1 @2", "update a 1>2 @3")
	put(s, tab, "a", "3", "came", "1")
	put(s, tab, "a", "4", "gone", "", "b", "", "b", "2")
	put(s, tab, "a", "5", "came", "")
	wantLines(t, pull(t, next, 3), "update a 2>5 @6 coalesced", "delete gone 1> @5 coalesced", "update b 1>2 @5 coalesced")
	put(s, tab, "a", "6", "b", "6", "c", "6", "d", "6", "e", "6") // one cut: nobody is behind
	wantLines(t, pull(t, next, 5), "update a 5>6 @7", "update b 2>6 @7", "update c 1>6 @7", "insert d >6 @7", "insert e >6 @7")
}

func TestASubscriberPastMaxLagStartsAgain(t *testing.T) {
	for name, fall := range map[string]func(s *Store, tab *Table[string, note]){
		"many cuts": func(s *Store, tab *Table[string, note]) {
			for i := range 9 {
				put(s, tab, "a", fmt.Sprint(2+i))
			}
		},
		"one cut too large for the log": func(s *Store, tab *Table[string, note]) {
			var pairs []string
			for i := range 9 {
				pairs = append(pairs, "a", fmt.Sprint(2+i))
			}
			put(s, tab, pairs...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, tab := newNotes(t, Options{MaxLag: 8})
			put(s, tab, "a", "1")
			next, stop := iter.Pull2(tab.Changes(t.Context()))
			defer stop()
			pull(t, next, 2)
			fall(s, tab)
			rev := s.Revision()
			wantLines(t, pull(t, next, 3), fmt.Sprintf("reset  > @%d", rev), fmt.Sprintf("current a >10 @%d", rev), fmt.Sprintf("live  > @%d", rev))
			put(s, tab, "a", "11")
			wantLines(t, pull(t, next, 1), fmt.Sprintf("update a 10>11 @%d", rev+1))
			if n := len(tab.feed.kept); n != 0 {
				t.Errorf("%d cuts are kept for nobody", n)
			}
		})
	}
}

// Each table has its own log: what happens elsewhere costs a subscriber nothing.
func TestABusyTableDoesNotResetSubscribersOfAQuietOne(t *testing.T) {
	quiet, busy := NewTable[string, note]("quiet"), NewTable[string, note]("busy")
	s, err := NewStore(Options{MaxLag: 8}, quiet, busy)
	if err != nil {
		t.Fatal(err)
	}
	next, stop := iter.Pull2(quiet.Changes(t.Context()))
	defer stop()
	pull(t, next, 1)
	put(s, quiet, "a", "1")
	for i := range 100 {
		put(s, busy, "a", fmt.Sprint(i))
	}
	wantLines(t, pull(t, next, 1), "insert a >1 @1")
}

func TestTheLogIsBoundedWhileSubscribersSleep(t *testing.T) {
	s, tab := newNotes(t, Options{MaxLag: 10})
	next, stop := iter.Pull2(tab.Changes(t.Context()))
	nextTx, stopTx := iter.Pull2(s.Changes(t.Context()))
	pull(t, next, 1)
	if tx, _, _ := nextTx(); !tx.Reset {
		t.Errorf("begins with %+v", tx)
	}
	for i := range 100 {
		put(s, tab, "a", fmt.Sprint(i), "b", fmt.Sprint(i))
		if n, m := len(tab.feed.kept), len(s.txs.kept); n > 5 || m > 5 {
			t.Fatalf("the logs hold %d and %d cuts of two changes", n, m)
		}
	}
	if n := len(s.old); n != 0 {
		t.Errorf("%d versions are pinned", n)
	}
	stop()
	stopTx()
	if len(tab.feed.kept)+len(s.txs.kept)+len(tab.feed.cursors)+len(s.txs.cursors)+tab.feed.atEnd+s.txs.atEnd != 0 {
		t.Error("something is kept for subscribers that have left")
	}
}

func TestSubscribersWaitAndAreWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tab := newNotes(t, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 10)
		go func() {
			for c, err := range tab.Changes(ctx) {
				if err != nil {
					got <- err.Error()
					continue // there is nothing after an error
				}
				got <- line(c)
			}
			close(got)
		}()
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			select {
			case l := <-got:
				if l != want {
					t.Errorf("got %q, want %q", l, want)
				}
			default:
				t.Errorf("got nothing, want %q", want)
			}
		}
		expect("live  > @0")
		time.Sleep(time.Hour) // of the bubble: nothing comes by itself
		put(s, tab, "a", "1")
		expect("insert a >1 @1")
		put(s, tab) // an empty cut is no news
		put(s, tab, "a", "2")
		expect("update a 1>2 @3")
		cancel()
		expect(context.Canceled.Error())
		if _, more := <-got; more {
			t.Error("more after an error")
		}
	})
}

func TestCloseAndContextEndSubscribers(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		end  func(*Store)
		want error
	}{
		"close":             {context.Background(), (*Store).Close, ErrClosed},
		"context":           {canceled, func(*Store) {}, context.Canceled},
		"close and context": {canceled, (*Store).Close, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, tab := newNotes(t, Options{})
				put(s, tab, "a", "1")
				errs := make(chan error, 2)
				go func() {
					for _, err := range tab.Changes(c.ctx) {
						if err != nil {
							errs <- err
						}
					}
				}()
				go func() {
					for _, err := range s.Changes(c.ctx) {
						if err != nil {
							errs <- err
						}
					}
				}()
				synctest.Wait()
				c.end(s)
				for range 2 {
					if err := <-errs; !errors.Is(err, c.want) {
						t.Errorf("ends with %v, want %v", err, c.want)
					}
				}
			})
		})
	}
}

func TestLeavingTheLoopEndsASubscription(t *testing.T) {
	s, tab := newNotes(t, Options{})
	put(s, tab, "a", "1", "b", "1")
	changes := tab.Changes(t.Context())
	for range 2 { // each range is a new subscription
		for c, err := range changes {
			if c.Op != Current || err != nil {
				t.Errorf("%+v %v", c, err)
			}
			break
		}
	}
	for tx := range s.Changes(t.Context()) {
		if !tx.Reset || tx.Revision != 1 || tx.Meta != "meta 1" {
			t.Errorf("%+v", tx)
		}
		break
	}
	if n := len(tab.feed.cursors) + len(s.txs.cursors); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	if n := s.cur.Load().refs.Load(); n != 0 {
		t.Errorf("%d pins are left", n)
	}
}

func TestOpsHaveNames(t *testing.T) {
	for op, want := range map[Op]string{Current: "current", Reset: "reset", 0: "op(0)", 99: "op(99)"} {
		if op.String() != want {
			t.Errorf("%s, want %s", op, want)
		}
	}
}
