package cache

import (
	"iter"
	"slices"
)

// check compares everything that can be read with the model.
func (w *world) check() {
	if w.store.Revision() != w.now.rev {
		w.fail("revision %d, want %d", w.store.Revision(), w.now.rev)
	}
	checkRows(w, "accounts", w.accounts, w.now.accounts, w.keys)
	checkNotes(w, "notes", w.notes, w.now)
	checkIndex(w, "owners", w.owners, w.now)
	w.store.View(func(v *View) { w.checkView(v, w.now) })
	for v, then := range w.views {
		w.checkView(v, then)
	}
	if w.writer != nil {
		for k := range w.keys {
			got, ok := w.accounts.Lookup(w.writer, k)
			want, there := w.staged.accounts[k]
			if ok != there || !sameAccount(got, want.row) {
				w.fail("Lookup(%d) = %v %v, want %v %v", k, got, ok, want.row, there)
			}
		}
		return
	}
	var pins []uint64
	for _, st := range w.store.old {
		pins = append(pins, st.num)
	}
	pins = append(pins, w.now.rev)
	w.accounts.verify(pins)
	w.notes.verify(pins)
}

func (w *world) checkView(v *View, then image) {
	if v.Revision() != then.rev {
		w.fail("view of %d, want %d", v.Revision(), then.rev)
	}
	checkRows(w, "accounts in view", w.accounts.At(v), then.accounts, w.keys)
	checkNotes(w, "notes in view", w.notes.At(v), then)
	checkIndex(w, "owners in view", w.owners.At(v), then)
	met := make(map[int]bool)
	for k := range w.everyone.At(v).All(true) {
		if met[k] {
			w.fail("a late index gives key %d twice", k)
		}
		met[k] = true
	}
	if len(met) != len(then.accounts) {
		w.fail("a late index finds %d rows, want %d", len(met), len(then.accounts))
	}
}

// rowReader is what Table and TableView have in common.
type rowReader[K comparable, T any] interface {
	Get(K) (T, bool)
	GetRevision(K) (T, uint64, bool)
	All() iter.Seq2[K, T]
	Len() int
}

func checkRows(w *world, what string, t rowReader[int, account], want map[int]revised[account], keys int) {
	for k := range keys {
		got, rev, ok := t.GetRevision(k)
		m, there := want[k]
		if ok != there || rev != m.rev || !sameAccount(got, m.row) {
			w.fail("%s: key %d is %v at %d (%v), want %v at %d (%v)", what, k, got, rev, ok, m.row, m.rev, there)
		}
		if again, ok := t.Get(k); ok != there || !sameAccount(again, m.row) {
			w.fail("%s: Get(%d) = %v %v", what, k, again, ok)
		}
	}
	met := make(map[int]bool)
	for k, got := range t.All() {
		m, there := want[k]
		if !there || !sameAccount(got, m.row) || met[k] {
			w.fail("%s: All gives key %d as %v, want %v %v; met before: %v", what, k, got, m.row, there, met[k])
		}
		met[k] = true
	}
	if len(met) != len(want) || t.Len() != len(want) {
		w.fail("%s: All gives %d rows, Len %d, want %d", what, len(met), t.Len(), len(want))
	}
}

func checkNotes(w *world, what string, t rowReader[string, note], then image) {
	n := 0
	for k, got := range t.All() {
		if got != then.notes[k].row {
			w.fail("%s: key %s is %v, want %v", what, k, got, then.notes[k].row)
		}
		n++
	}
	if n != len(then.notes) || t.Len() != n {
		w.fail("%s: %d rows, Len %d, want %d", what, n, t.Len(), len(then.notes))
	}
}

// rowFinder is what Index and IndexView have in common.
type rowFinder[IK, K comparable, T any] interface {
	All(IK) iter.Seq2[K, T]
	Len(IK) int
}

func checkIndex(w *world, what string, x rowFinder[string, int, account], then image) {
	for _, owner := range []string{"ann", "bob", "cy", "nobody"} {
		var want, got []int
		for k, r := range then.accounts {
			if r.row.Owner == owner {
				want = append(want, k)
			}
		}
		for k, a := range x.All(owner) {
			if !sameAccount(a, then.accounts[k].row) {
				w.fail("%s: %s has %v, want %v", what, owner, a, then.accounts[k].row)
			}
			got = append(got, k)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || x.Len(owner) != len(want) {
			w.fail("%s: %s has %v (Len %d), want %v", what, owner, got, x.Len(owner), want)
		}
	}
}
