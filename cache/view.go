package cache

import "sync/atomic"

// state is one published version of the whole store. Everything but refs is set before it is published
// and never changes.
//
// A reader pins a state by counting itself in refs and then looking again: if the state is still the
// published one, the writer, which publishes first and looks at refs second, must see the count. If it is
// not, the reader gives it back and starts over with the newer one. A superseded state whose refs the
// writer has seen at 0 can thus never be pinned again.
type state struct {
	num   uint64
	meta  any
	store *Store
	rows  []int   // rows per table
	sizes []int64 // bytes of rows per table
	view  View    // what View hands out; shared by all who view this state

	_    [64]byte // readers of num must not share a cache line with those who count
	refs atomic.Int64
	_    [56]byte
}

// newState describes the writer's view as version num.
func (s *Store) newState(num uint64, meta any) *state {
	st := &state{
		num: num, meta: meta, store: s,
		rows: make([]int, len(s.tables)), sizes: make([]int64, len(s.tables)),
	}
	for i, t := range s.tables {
		st.rows[i], st.sizes[i] = t.counts()
	}
	st.view.st = st
	return st
}

// pin returns the published state, held until unpin.
func (s *Store) pin() *state {
	for {
		if st := s.cur.Load(); st.tryPin() {
			return st
		}
	}
}

// tryPin holds the state if it is still the published one.
func (st *state) tryPin() bool {
	st.refs.Add(1)
	if st.store.cur.Load() == st {
		return true
	}
	st.refs.Add(-1)
	return false
}

func (st *state) unpin() { st.refs.Add(-1) }

// View is one instant of all tables of a store. Any number of goroutines may read through it while it is
// open. Reading through it after it was closed, or after the function it was passed to returned, is a
// programming error and panics.
type View struct {
	st     *state
	own    bool // opened by OpenView: closed says when it ends
	closed atomic.Bool
}

// View calls fn with a view of the newest published version and closes it when fn returns or panics. It
// neither blocks nor allocates. Versions that the view sees stay in memory while fn runs.
func (s *Store) View(fn func(*View)) {
	st := s.pin()
	defer st.unpin()
	fn(&st.view)
}

// OpenView returns a view of the newest published version, which must be closed: until then, the versions
// that it sees stay in memory. Where a function can do the work, View is cheaper and cannot be forgotten.
func (s *Store) OpenView() *View {
	return &View{st: s.pin(), own: true}
}

// Close ends a view from OpenView; closing it again does nothing, and neither does closing the view that
// was passed to a function, which ends when the function returns.
func (v *View) Close() {
	if v.own && v.closed.CompareAndSwap(false, true) {
		v.st.unpin()
	}
}

// Revision is the number of the version that the view sees.
func (v *View) Revision() uint64 { return v.open().num }

// Meta is what the writer passed to Publish for the version that the view sees; nil at revision 0.
func (v *View) Meta() any { return v.open().meta }

// open returns the view's state, or panics if the view has ended. While another view of the same version
// is open, a view passed to a function cannot be told to have ended: the versions are still held then, and
// what it reads is still right.
func (v *View) open() *state {
	if v.closed.Load() || v.st.refs.Load() <= 0 {
		panic("cache: View used after it was closed")
	}
	return v.st
}

// of checks that a view belongs to the store of a table.
func (v *View) of(s *Store, table string) {
	if s != nil && v.open().store != s {
		panic("cache: View of another store than table " + table)
	}
}
