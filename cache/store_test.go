package cache

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// newNotes is a store of one table of notes.
func newNotes(t testing.TB, opts Options) (*Store, *Table[string, note]) {
	t.Helper()
	tab := NewTable[string, note]("notes")
	s, err := NewStore(opts, tab)
	if err != nil {
		t.Fatal(err)
	}
	return s, tab
}

// put publishes one cut of notes; an empty text deletes.
func put(s *Store, tab *Table[string, note], pairs ...string) uint64 {
	w := s.Begin()
	for i := 0; i < len(pairs); i += 2 {
		o := Origin{Xid: 100 + w.num, Seq: int64(w.num)*1000 + int64(i)}
		if pairs[i+1] == "" {
			tab.Delete(w, o, pairs[i])
		} else {
			tab.Put(w, o, pairs[i], note{pairs[i+1]})
		}
	}
	return w.Publish(fmt.Sprint("meta ", w.num))
}

// mustPanic runs fn and checks what it says.
func mustPanic(t *testing.T, want string, fn func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
			t.Errorf("panic %q, want %q in it", got, want)
		}
	}()
	fn()
}

func TestNewStoreReportsEveryMistakeAtOnceAndAttachesNothing(t *testing.T) {
	taken := NewTable[int, int]("taken")
	if _, err := NewStore(Options{}, taken); err != nil {
		t.Fatal(err)
	}
	a, twin, nameless := NewTable[int, int]("a"), NewTable[string, int]("a"), NewTable[int, int]("")
	NewIndex[int](a, nil)
	_, err := NewStore(Options{MaxLag: -1, CoalesceAfter: -1}, a, twin, nameless, nil, a, taken)
	for _, want := range []string{
		"MaxLag is negative", "CoalesceAfter is negative", "two tables are named a", "table 2 has no name",
		"table 3 is nil", "table a is given twice", "table taken belongs to a store already", "table a: an index has no function",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
	if _, err := NewStore(Options{}, twin, nil); err == nil {
		t.Error("nil table accepted")
	}
	if _, err := NewStore(Options{}, twin); err != nil {
		t.Errorf("a table is attached after an error: %v", err)
	}
}

func TestADetachedTableFindsNothing(t *testing.T) {
	tab := NewTable[int, account]("accounts")
	x := NewIndex(tab, func(a account) string { return a.Owner })
	_, ok := tab.Get(1)
	_, _, ok2 := tab.GetRevision(1)
	if ok || ok2 || tab.Len() != 0 || tab.Bytes() != 0 || x.Len("ann") != 0 || len(maps.Collect(tab.All())) != 0 {
		t.Error("a detached table finds something")
	}
	s, _ := newNotes(t, Options{})
	s.View(func(v *View) {
		if _, ok := tab.At(v).Get(1); ok || tab.At(v).Len() != 0 || x.At(v).Len("ann") != 0 ||
			len(maps.Collect(tab.At(v).All())) != 0 {
			t.Error("a detached table finds something in a view")
		}
	})
	for _, err := range tab.Changes(t.Context()) {
		if err != ErrDetached {
			t.Errorf("Changes of a detached table: %v", err)
		}
	}
}

func TestAViewUsedAfterItsEndSaysSo(t *testing.T) {
	s, tab := newNotes(t, Options{})
	put(s, tab, "a", "1")
	const want = "View used after it was closed"
	var leaked *View
	var rows TableView[string, note]
	s.View(func(v *View) { leaked, rows = v, tab.At(v) })
	mustPanic(t, want, func() { tab.At(leaked) })
	mustPanic(t, want, func() { rows.Get("a") })
	mustPanic(t, want, func() { leaked.Revision() })

	v := s.OpenView()
	rows = tab.At(v)
	v.Close()
	v.Close()
	other := s.OpenView() // of the same version: does not revive the closed one
	defer other.Close()
	mustPanic(t, want, func() { rows.Get("a") })
	mustPanic(t, want, func() { rows.Len() })
	mustPanic(t, want, func() {
		for range rows.All() {
			t.Error("a row from a closed view")
		}
	})
	if n := s.cur.Load().refs.Load(); n != 1 {
		t.Errorf("%d pins, want that of the open view", n)
	}
	v = s.OpenView()
	mustPanic(t, want, func() {
		put(s, tab, "b", "2")
		for range s.mustAt(tab, v).All() {
			v.Close()
		}
		s.mustAt(tab, v)
	})
}

// mustAt is At, named so that the loop above reads well.
func (s *Store) mustAt(tab *Table[string, note], v *View) TableView[string, note] { return tab.At(v) }

func TestAViewThatPanicsIsClosed(t *testing.T) {
	s, _ := newNotes(t, Options{})
	mustPanic(t, "oops", func() { s.View(func(*View) { panic("oops") }) })
	if n := s.cur.Load().refs.Load(); n != 0 {
		t.Errorf("%d pins are left", n)
	}
}

func TestThingsOfAnotherStoreAreRefused(t *testing.T) {
	s, tab := newNotes(t, Options{})
	s2, tab2 := newNotes(t, Options{})
	w := s.Begin()
	mustPanic(t, "not in the Writer's store", func() { tab2.Put(w, Origin{}, "a", note{}) })
	w.Abort()
	mustPanic(t, "after Publish or Abort", func() { tab.Put(w, Origin{}, "a", note{}) })
	mustPanic(t, "after Publish or Abort", func() { w.Publish(nil) })
	s2.View(func(v *View) { mustPanic(t, "View of another store", func() { tab.At(v) }) })
}

func TestTheNextWriterWaitsForTheFirst(t *testing.T) {
	s, tab := newNotes(t, Options{})
	w := s.Begin()
	got := make(chan uint64)
	go func() { got <- put(s, tab, "a", "2") }()
	tab.Put(w, Origin{}, "a", note{"1"})
	w.Publish(nil)
	if n := <-got; n != 2 {
		t.Errorf("the second writer published %d", n)
	}
}

func TestReadsGoOnAfterClose(t *testing.T) {
	s, tab := newNotes(t, Options{})
	put(s, tab, "a", "1")
	s.Close()
	s.Close()
	if n, ok := tab.Get("a"); !ok || n.Text != "1" {
		t.Errorf("Get: %v %v", n, ok)
	}
	if rev := put(s, tab, "a", "2"); rev != 2 {
		t.Errorf("published %d", rev)
	}
}

func TestReplaceLeavesEqualRowsUntouched(t *testing.T) {
	s, tab := newNotes(t, Options{})
	put(s, tab, "same", "1", "changed", "1", "gone", "1")
	v := s.OpenView()
	defer v.Close()
	w := s.Begin()
	r := tab.Replace(w, func(a, b note) bool { return a == b })
	for k, text := range map[string]string{"same": "1", "changed": "2", "new": "1"} {
		if err := r.Put(k, note{text}); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"same", "changed", "new"} {
		if err := r.Put(k, note{"1"}); err == nil || !strings.Contains(err.Error(), "table notes: key "+k) {
			t.Errorf("key %s twice: %v", k, err)
		}
	}
	done(t, r)
	w.Publish(nil)
	for k, want := range map[string]uint64{"same": 1, "changed": 2, "new": 2, "gone": 0} {
		if _, rev, _ := tab.GetRevision(k); rev != want {
			t.Errorf("%s was changed by %d, want %d", k, rev, want)
		}
	}
	if got := maps.Collect(tab.At(v).All()); len(got) != 3 || got["changed"].Text != "1" {
		t.Errorf("the view sees %v", got)
	}
	w = s.Begin()
	r = tab.Replace(w, nil)
	if err := r.Put("same", note{"1"}); err != nil {
		t.Fatal(err)
	}
	done(t, r)
	w.Publish(nil)
	if _, rev, _ := tab.GetRevision("same"); rev != 3 || tab.Len() != 1 {
		t.Errorf("without equal, the row is of %d; %d rows", rev, tab.Len())
	}
}
