package cache

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// What a reader that was overtaken on its way to a pin must not do: hold what the writer has given back.
func TestASupersededVersionCannotBePinned(t *testing.T) {
	s, tab := newNotes(t, Options{})
	put(s, tab, "a", "1")
	first := s.cur.Load()
	put(s, tab, "a", "2")
	if first.tryPin() || first.refs.Load() != 0 {
		t.Errorf("revision %d is pinned %d times after it was given back", first.num, first.refs.Load())
	}
	if second := s.cur.Load(); !second.tryPin() || second.refs.Load() != 1 {
		t.Error("the published version cannot be pinned")
	}
}

// One key that is always there, staged over and over, published and aborted, as fast as it goes: every
// reader is now and then overtaken between two of its steps. Whatever it finds then, the row is there and
// not older than before.
func TestAReaderOvertakenByTheWriterStartsAgain(t *testing.T) {
	const rounds = 30_000
	tab := NewTable[int, uint64]("hot")
	x := NewIndex(tab, func(uint64) int { return 7 })
	s, err := NewStore(Options{}, tab)
	if err != nil {
		t.Fatal(err)
	}
	w := s.Begin()
	tab.Put(w, Origin{}, 1, 1)
	w.Publish(nil)

	var done atomic.Bool
	var wg sync.WaitGroup
	reader := func(what string, read func() (row, from uint64)) {
		wg.Go(func() {
			var last uint64
			for !done.Load() {
				row, from := read()
				if row < max(last, from) || row == 0 {
					t.Errorf("%s: row %d, after %d at revision %d", what, row, last, from)
					return
				}
				last = row
			}
		})
	}
	reader("Get", func() (row, from uint64) {
		from = s.Revision()
		row, _ = tab.Get(1)
		return row, from
	})
	reader("All", func() (row, from uint64) {
		from = s.Revision()
		for _, row = range tab.All() {
		}
		return row, from
	})
	reader("Index", func() (row, from uint64) {
		from = s.Revision()
		for _, row = range x.All(7) {
		}
		return row, from
	})
	reader("View", func() (row, from uint64) {
		s.View(func(v *View) {
			from = v.Revision()
			row, _ = tab.At(v).Get(1)
		})
		return row, from
	})
	r := rand.New(rand.NewPCG(3, 4))
	for range rounds {
		w := s.Begin()
		for range r.IntN(6) {
			tab.Put(w, Origin{}, 1, w.num)
		}
		if r.IntN(3) == 0 {
			w.Abort()
			continue
		}
		tab.Put(w, Origin{}, 1, w.num)
		w.Publish(nil)
	}
	done.Store(true)
	wg.Wait()
}

// A cut published between joining the log and looking at the rows is in both; it must be given once.
func TestACutThatTheCurrentRowsHoldIsNotGivenAgain(t *testing.T) {
	s, tab := newNotes(t, Options{})
	var lines, txs []string
	f := follower[string, note]{t: tab, s: s, ctx: t.Context(), cur: tab.feed.join(),
		yield: func(c Change[string, note], _ error) bool { lines = append(lines, line(c)); return true }}
	defer tab.feed.leave(f.cur)
	all := txFollower{s: s, ctx: t.Context(), cur: s.txs.join(),
		yield: func(tx Tx, _ error) bool { txs = append(txs, short(tx)); return true }}
	defer s.txs.leave(all.cur)
	put(s, tab, "a", "1")
	if !f.current() || !f.next() || !all.reset() || !all.next() {
		t.Fatal("a subscription has ended")
	}
	wantLines(t, lines, "current a >1 @1", "live  > @1")
	wantLines(t, txs, "xid 0 seq 0 @1 meta 1 reset")
}

// A reader that is walking over a small set meets each key that stays exactly once, and so after the
// writer has taken others out and put new ones in.
func TestASmallKeySetDoesNotChangeUnderAReader(t *testing.T) {
	var s *keySet[int]
	for k := range 5 {
		s, _ = s.with(k)
	}
	met := make(map[int]int)
	s.each(func(k int) bool {
		if k == 0 {
			next, _ := s.without(0)
			next, _ = next.with(9)
			next.without(1)
		}
		met[k]++
		return true
	})
	for k := range 5 {
		if met[k] != 1 {
			t.Errorf("key %d is met %d times", k, met[k])
		}
	}
}
