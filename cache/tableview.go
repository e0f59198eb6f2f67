package cache

import "iter"

// TableView is a table as a [View] sees it. It is a small value, valid as long as the view.
type TableView[K comparable, T any] struct {
	t *Table[K, T]
	v *View
}

// Get returns the row of key k at the view's instant.
func (tv TableView[K, T]) Get(k K) (T, bool) {
	row, _, ok := tv.GetRevision(k)
	return row, ok
}

// GetRevision is Get with the revision that had last changed the row.
func (tv TableView[K, T]) GetRevision(k K) (T, uint64, bool) {
	st := tv.v.open()
	if tv.t.store.Load() != nil {
		if n := tv.t.at(k, st.num); n != nil {
			return n.row, n.ver, true
		}
	}
	var none T
	return none, 0, false
}

// All yields every row at the view's instant, in no order.
func (tv TableView[K, T]) All() iter.Seq2[K, T] {
	return func(yield func(K, T) bool) {
		st := tv.v.open()
		if tv.t.store.Load() == nil {
			return
		}
		tv.t.each(st.num, func(n *node[K, T]) bool {
			tv.v.open() // closed in the loop: the rest of the rows may be gone
			return yield(n.key, n.row)
		})
	}
}

// Len is the number of rows at the view's instant.
func (tv TableView[K, T]) Len() int {
	st := tv.v.open()
	if tv.t.store.Load() == nil {
		return 0
	}
	return st.rows[tv.t.id]
}
