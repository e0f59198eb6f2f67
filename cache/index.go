package cache

import (
	"fmt"
	"iter"

	"github.com/puzpuzpuz/xsync/v4"
)

// Index finds the rows of a table by something else than their key: one index key leads to any number of
// rows. It obeys the same views as the table.
//
// For each index key it holds candidates: the keys of which some linked version, published or staged, has
// that index key. A candidate is added before the version is published and removed after it has been unlinked.
// So the candidates at any pinned number are a superset of what belongs there, and a read looks at each
// candidate's version at its own number. A key that belongs there cannot leave meanwhile (invariant 3 of
// node.go), so that it is met exactly once.
type Index[IK comparable, K comparable, T any] struct {
	t    *Table[K, T]
	fn   func(T) IK
	sets *xsync.Map[IK, *keySet[K]]
	cost keySetCost[K]
}

// anyIndex is an Index of any index key.
type anyIndex[K comparable, T any] interface {
	add(n, above *node[K, T])
	drop(gone, head *node[K, T])
	verify()
}

// NewIndex declares an index over a table. fn is called with a row and must give the same answer for the
// same row each time, without side effects; it runs on readers and on the writer. On a table that a store
// holds already, NewIndex waits for a writer at work to end and then walks the table. A nil fn is reported
// by NewStore.
func NewIndex[IK comparable, K comparable, T any](t *Table[K, T], fn func(T) IK) *Index[IK, K, T] {
	x := &Index[IK, K, T]{t: t, fn: fn, sets: xsync.NewMap[IK, *keySet[K]](), cost: newKeySetCost[IK, K]()}
	t.declaring.Lock()
	defer t.declaring.Unlock()
	if fn == nil {
		t.wrong = append(t.wrong, fmt.Errorf("cache: table %s: an index has no function", t.name))
		return x
	}
	t.indexed.Store(true)
	if s := t.store.Load(); s != nil {
		s.writing.Lock()
		defer s.writing.Unlock()
		t.rows.each(func(head *node[K, T]) bool {
			for n := head; n != nil; n = n.next.Load() {
				x.add(n, nil)
			}
			return true
		})
	}
	t.indexes = append(t.indexes, x)
	return x
}

// All yields the rows that have index key ik in the newest version published when the iteration begins:
// one instant, in no order.
func (x *Index[IK, K, T]) All(ik IK) iter.Seq2[K, T] {
	return func(yield func(K, T) bool) {
		s := x.t.store.Load()
		if s == nil {
			return
		}
		st := s.pin()
		defer st.unpin()
		x.each(st.num, ik, func(n *node[K, T]) bool { return yield(n.key, n.row) })
	}
}

// Len counts the rows that All would yield, by looking at each.
func (x *Index[IK, K, T]) Len(ik IK) (n int) {
	for range x.All(ik) {
		n++
	}
	return n
}

// At returns the index as the view sees it. A view of another store panics.
func (x *Index[IK, K, T]) At(v *View) IndexView[IK, K, T] {
	v.of(x.t.store.Load(), x.t.name)
	return IndexView[IK, K, T]{x: x, v: v}
}

// IndexView is an index as a [View] sees it. It is a small value, valid as long as the view.
type IndexView[IK comparable, K comparable, T any] struct {
	x *Index[IK, K, T]
	v *View
}

// All yields the rows that have index key ik at the view's instant, in no order.
func (xv IndexView[IK, K, T]) All(ik IK) iter.Seq2[K, T] {
	return func(yield func(K, T) bool) {
		st := xv.v.open()
		xv.x.each(st.num, ik, func(n *node[K, T]) bool {
			xv.v.open() // closed in the loop: the rest of the rows may be gone
			return yield(n.key, n.row)
		})
	}
}

// Len counts the rows that All would yield, by looking at each.
func (xv IndexView[IK, K, T]) Len(ik IK) (n int) {
	for range xv.All(ik) {
		n++
	}
	return n
}

// each calls fn for every row that has index key ik at a pinned number.
func (x *Index[IK, K, T]) each(num uint64, ik IK, fn func(*node[K, T]) bool) {
	set, ok := x.sets.Load(ik)
	if !ok {
		return
	}
	set.each(func(k K) bool {
		n := x.t.at(k, num)
		return n == nil || x.fn(n.row) != ik || fn(n)
	})
}

// add makes the key a candidate for the index key of version n, which is about to be linked. If the version in
// its place has the same one, it is one already.
func (x *Index[IK, K, T]) add(n, above *node[K, T]) {
	if !n.live() {
		return
	}
	ik := x.fn(n.row)
	if above.live() && x.fn(above.row) == ik {
		return
	}
	set, _ := x.sets.Load(ik)
	next, added := set.with(n.key)
	switch {
	case next != set:
		x.sets.Store(ik, next)
		x.t.indexHeld.Add(x.cost.of(next) - x.cost.of(set))
	case added:
		x.t.indexHeld.Add(x.cost.inMap)
	}
}

// drop takes the key from the candidates for the index key of a version that has been unlinked, unless another
// version in the chain has the same one.
func (x *Index[IK, K, T]) drop(gone, head *node[K, T]) {
	if !gone.live() {
		return
	}
	ik := x.fn(gone.row)
	for n := head; n != nil; n = n.next.Load() {
		if n.live() && x.fn(n.row) == ik {
			return
		}
	}
	set, ok := x.sets.Load(ik)
	if !ok {
		return
	}
	was := x.cost.of(set) // now: a large set changes in place
	next, removed := set.without(gone.key)
	switch {
	case next == nil:
		x.sets.Delete(ik)
	case next != set:
		x.sets.Store(ik, next)
	case removed:
		x.t.indexHeld.Add(-x.cost.inMap)
		return
	}
	x.t.indexHeld.Add(x.cost.of(next) - was)
}
