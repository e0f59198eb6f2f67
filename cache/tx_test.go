package cache

import (
	"fmt"
	"iter"
	"strings"
	"testing"
)

// short is a transaction in short.
func short(tx Tx) string {
	var b strings.Builder
	fmt.Fprintf(&b, "xid %d seq %d @%d %v", tx.Xid, tx.Seq, tx.Revision, tx.Meta)
	for flag, on := range map[string]bool{" coalesced": tx.Coalesced, " reset": tx.Reset, " resync": tx.Resync} {
		if on {
			b.WriteString(flag)
		}
	}
	for _, c := range tx.Changes {
		fmt.Fprintf(&b, ", %v %s[%v] %v>%v", c.Op, c.Table, c.Key, c.Old, c.New)
	}
	return b.String()
}

func pullTx(t *testing.T, next func() (Tx, error, bool), n int) (lines []string) {
	t.Helper()
	for range n {
		tx, err, ok := next()
		if err != nil || !ok {
			t.Fatalf("after %q: %v %v", lines, err, ok)
		}
		lines = append(lines, short(tx))
	}
	return lines
}

func newPair(t *testing.T, opts Options) (*Store, *Table[int, string], *Table[string, int]) {
	t.Helper()
	a, b := NewTable[int, string]("a"), NewTable[string, int]("b")
	s, err := NewStore(opts, a, b)
	if err != nil {
		t.Fatal(err)
	}
	return s, a, b
}

func TestTransactionsComeWholeInTheOrderOfTheirLastEvent(t *testing.T) {
	s, a, b := newPair(t, Options{})
	next, stop := iter.Pull2(s.Changes(t.Context()))
	defer stop()
	wantLines(t, pullTx(t, next, 1), "xid 0 seq 0 @0 <nil> reset")
	w := s.Begin()
	a.Put(w, Origin{Xid: 7, Seq: 1}, 1, "x")
	b.Put(w, Origin{Xid: 5, Seq: 2}, "k", 1)
	b.Put(w, Origin{Xid: 7, Seq: 3}, "l", 2)
	a.Put(w, Origin{Xid: 5, Seq: 4}, 2, "y")
	a.Put(w, Origin{Xid: 6, Seq: 5}, 3, "z")
	a.Delete(w, Origin{Xid: 7, Seq: 6}, 1)
	w.Publish("m1")
	s.Begin().Publish("empty")
	wantLines(t, pullTx(t, next, 3),
		"xid 5 seq 4 @1 m1, insert b[k] <nil>>1, insert a[2] <nil>>y",
		"xid 6 seq 5 @1 m1, insert a[3] <nil>>z",
		"xid 7 seq 6 @1 m1, insert a[1] <nil>>x, insert b[l] <nil>>2, delete a[1] x><nil>")

	w = s.Begin()
	b.Put(w, Origin{Xid: 8, Seq: 7}, "k", 2)
	r := a.Replace(w, func(x, y string) bool { return x == y })
	if err := r.Put(2, "y"); err != nil {
		t.Fatal(err)
	}
	done(t, r)
	b.Put(w, Origin{Xid: 9, Seq: 8}, "k", 3)
	w.Publish("m3")
	wantLines(t, pullTx(t, next, 3),
		"xid 8 seq 7 @3 m3, update b[k] 1>2",
		"xid 0 seq 0 @3 m3 resync, delete a[3] z><nil>",
		"xid 9 seq 8 @3 m3, update b[k] 2>3")
}

// Two Replaces with an event between them are two transactions, or the event would be lost.
func TestAnEventBetweenTwoReplacesKeepsItsPlace(t *testing.T) {
	s, a, b := newPair(t, Options{})
	next, stop := iter.Pull2(s.Changes(t.Context()))
	defer stop()
	pullTx(t, next, 1)
	replace := func(w *Writer, row string) {
		r := a.Replace(w, nil)
		if err := r.Put(1, row); err != nil {
			t.Fatal(err)
		}
		done(t, r)
	}
	w := s.Begin()
	replace(w, "first")
	r := b.Replace(w, nil) // no event in between: the same transaction
	if err := r.Put("k", 1); err != nil {
		t.Fatal(err)
	}
	done(t, r)
	a.Put(w, Origin{Xid: 5, Seq: 3}, 1, "event")
	replace(w, "second")
	w.Publish(nil)
	wantLines(t, pullTx(t, next, 3),
		"xid 0 seq 0 @1 <nil> resync, insert a[1] <nil>>first, insert b[k] <nil>>1",
		"xid 5 seq 3 @1 <nil>, update a[1] first>event",
		"xid 0 seq 0 @1 <nil> resync, update a[1] event>second")
}

func TestTransactionsOfAStoreThatIsFarAheadAreCoalesced(t *testing.T) {
	s, a, b := newPair(t, Options{CoalesceAfter: 2, MaxLag: 6})
	next, stop := iter.Pull2(s.Changes(t.Context()))
	defer stop()
	pullTx(t, next, 1)
	for i := range 2 {
		w := s.Begin()
		a.Put(w, Origin{Xid: uint64(1 + i), Seq: int64(1 + i)}, 1, fmt.Sprint(i))
		b.Put(w, Origin{Xid: uint64(1 + i), Seq: int64(1 + i)}, "k", i)
		w.Publish(i)
	}
	wantLines(t, pullTx(t, next, 1), "xid 0 seq 0 @2 1 coalesced, insert a[1] <nil>>1, insert b[k] <nil>>1")
	for _, op := range []func(w *Writer){
		func(w *Writer) { a.Put(w, Origin{Xid: 9}, 2, "came") },
		func(w *Writer) { a.Delete(w, Origin{Xid: 9}, 2) },
		func(w *Writer) { b.Put(w, Origin{Xid: 9}, "came", 1) },
		func(w *Writer) { b.Delete(w, Origin{Xid: 9}, "came") },
	} {
		w := s.Begin()
		op(w)
		w.Publish(nil)
	}
	w := s.Begin() // what came and went makes no transaction
	b.Put(w, Origin{Xid: 10, Seq: 9}, "k", 5)
	w.Publish("m7")
	wantLines(t, pullTx(t, next, 1), "xid 0 seq 0 @7 m7 coalesced, update b[k] 1>5")
	for i := range 4 {
		w := s.Begin()
		a.Put(w, Origin{Xid: 11}, i, "x")
		b.Put(w, Origin{Xid: 11}, "k", i)
		w.Publish("m")
	}
	wantLines(t, pullTx(t, next, 1), "xid 0 seq 0 @11 m reset")
	w = s.Begin()
	for i := range 7 {
		a.Put(w, Origin{Xid: 12}, i, "y")
	}
	w.Publish("too large for the log")
	wantLines(t, pullTx(t, next, 1), "xid 0 seq 0 @12 too large for the log reset")
}

func TestTheLastTransactionOfACutSaysSoAndNoOther(t *testing.T) {
	s, a, b := newPair(t, Options{CoalesceAfter: 3})
	next, stop := iter.Pull2(s.Changes(t.Context()))
	defer stop()
	last := func(n int) (said []bool) {
		for range n {
			tx, err, ok := next()
			if err != nil || !ok {
				t.Fatal(err, ok)
			}
			said = append(said, tx.Last)
		}
		return said
	}
	want := func(got []bool, want ...bool) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	want(last(1), true) // the reset
	w := s.Begin()
	a.Put(w, Origin{Xid: 7, Seq: 1}, 1, "x")
	b.Put(w, Origin{Xid: 5, Seq: 2}, "k", 1)
	a.Put(w, Origin{Xid: 6, Seq: 3}, 2, "y")
	w.Publish(nil)
	want(last(3), false, false, true)
	for i := range 5 { // more than may be pending: one for all of them
		w := s.Begin()
		a.Put(w, Origin{Xid: 10 + uint64(i), Seq: 10 + int64(i)}, i, "z")
		w.Publish(nil)
	}
	want(last(1), true)
}

func done[K comparable, T any](t *testing.T, r *Replacer[K, T]) {
	t.Helper()
	if err := r.Done(); err != nil {
		t.Fatal(err)
	}
}
