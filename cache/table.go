package cache

import (
	"iter"
	"slices"
	"sync"
	"sync/atomic"
)

// Table maps keys to rows. Until a store attaches it, reads find nothing. K must equal itself, as a float
// NaN does not.
type Table[K comparable, T any] struct {
	name  string
	store atomic.Pointer[Store]
	id    int // position in the store; set before store
	rows  *rowMap[K, T]
	dead  *node[K, T] // see invariant 5 of node.go
	size  sizing[K, T]
	feed  feed[*tableCut[K, T]] // what Changes reads

	held      atomic.Int64 // estimated bytes of all linked versions
	indexHeld atomic.Int64 // of all indexes

	declaring sync.Mutex  // guards indexes and mistakes until a store attaches the table
	indexed   atomic.Bool // an index is declared, or about to be
	wrong     []error

	// The writer's own, guarded by Store.writing once attached.
	indexes   []anyIndex[K, T]
	len       int   // rows in the writer's view
	bytes     int64 // of these rows
	stage     stage[K, T]
	waiting   map[uint64][]*node[K, T] // old versions, by a pin that still needs them
	build     *build[K, T]             // what a Replace of an empty table has brought; nil for none
	sums      map[*node[K, T]]uint64   // what each version looked like when it was put; nil unless DetectMutation
	scanAfter int                      // staged versions that are listed of whatever table
}

// NewTable declares a table. The name is used in errors and in [RowChange]; a store holds each name once.
func NewTable[K comparable, T any](name string) *Table[K, T] {
	return &Table[K, T]{
		name:      name,
		rows:      newRowMap[K, T](),
		dead:      new(node[K, T]),
		size:      newSizing[K, T](),
		waiting:   make(map[uint64][]*node[K, T]),
		scanAfter: 1 << 16,
	}
}

// Name is the name given to NewTable.
func (t *Table[K, T]) Name() string { return t.name }

// Len is the number of rows in the newest published version.
func (t *Table[K, T]) Len() int {
	s := t.store.Load()
	if s == nil {
		return 0
	}
	return s.cur.Load().rows[t.id]
}

// Bytes is the estimated memory the table holds: every version in it, also staged ones and those that only
// a view still needs, and its indexes. A version counts with what its type takes inline, with the strings,
// slices, maps and pointees that it leads to (as if nothing else shared them; beyond ten levels nothing is
// counted), and with the map's and the allocator's overhead.
func (t *Table[K, T]) Bytes() int64 {
	return t.held.Load() + t.indexHeld.Load()
}

func (t *Table[K, T]) indexBytes() int64 { return t.indexHeld.Load() }

// Get returns the row of key k in the newest published version. It takes one look-up in a hash map, does
// not allocate and waits for nobody, but to decode a row that is still [Encoded]. Two calls on one goroutine never go back in time.
func (t *Table[K, T]) Get(k K) (row T, ok bool) {
	if n := t.latest(k); n != nil {
		row, ok = n.row, true
	}
	return // nothing more: it is just small enough to be inlined
}

// GetRevision is Get with the revision that last changed the row.
func (t *Table[K, T]) GetRevision(k K) (T, uint64, bool) {
	if n := t.latest(k); n != nil {
		return n.row, n.ver, true
	}
	var none T
	return none, 0, false
}

// latest returns the published version of k, nil if there is no row. Nearly always it is found at a glance, by as few
// instructions as can be: while one look-up waits for memory, the processor begins the next ones if they are within its reach.
//
// The published number is read first. If the head is not newer, it is the version to return: by invariant
// 1 nothing at or below the number can be missing above it.
func (t *Table[K, T]) latest(k K) *node[K, T] {
	s := t.store.Load()
	if s == nil {
		return nil
	}
	num, h := s.cur.Load().num, t.rows.hash.of(k)
	if head := t.rows.glance(h, k); head.shows(num) {
		return head
	}
	return t.search(s, h, k)
}

// search is latest of a key of hash h, without the glance. Where the head is newer than the published number, or the key is
// gone, the version may have been collected in favour of a newer one that has been published meanwhile,
// and what lies below it may be older than what this goroutine has seen; then it all starts again.
func (t *Table[K, T]) search(s *Store, h uint64, k K) *node[K, T] {
	for {
		st := s.cur.Load()
		head := t.rows.loadHashed(h, k)
		if head != nil && head.version() <= st.num {
			if head.live() {
				return head
			}
			return nil
		}
		n := head.walk(st.num)
		if n != t.dead && s.cur.Load() == st {
			if n.live() {
				return n
			}
			return nil
		}
	}
}

// at returns the version of k at a pinned number, nil if there is no row.
func (t *Table[K, T]) at(k K, num uint64) *node[K, T] {
	h := t.rows.hash.of(k)
	if head := t.rows.glance(h, k); head.shows(num) {
		return head
	}
	for {
		n := t.rows.loadHashed(h, k).walk(num)
		if n == t.dead {
			continue // unlinked under our feet; the map has the newer head by now
		}
		if n.live() {
			return n
		}
		return nil
	}
}

// each calls fn for every row at a pinned number, exactly once each (invariant 6), until fn returns false.
func (t *Table[K, T]) each(num uint64, fn func(*node[K, T]) bool) {
	t.rows.each(func(head *node[K, T]) bool {
		n := head.walk(num)
		if n == t.dead {
			n = t.at(head.key, num)
		}
		return !n.live() || fn(n)
	})
}

// All yields every row of the newest version published when the iteration begins: one instant, in no
// order. That version stays in memory until the iteration ends.
func (t *Table[K, T]) All() iter.Seq2[K, T] {
	return func(yield func(K, T) bool) {
		s := t.store.Load()
		if s == nil {
			return
		}
		st := s.pin()
		defer st.unpin()
		t.each(st.num, func(n *node[K, T]) bool { return yield(n.key, n.row) })
	}
}

// At returns the table as the view sees it. A view of another store panics.
func (t *Table[K, T]) At(v *View) TableView[K, T] {
	v.of(t.store.Load(), t.name)
	return TableView[K, T]{t: t, v: v}
}

// mistakes returns what was wrong with the declaration, for NewStore.
func (t *Table[K, T]) mistakes() []error {
	t.declaring.Lock()
	defer t.declaring.Unlock()
	errs := slices.Clone(t.wrong)
	if t.store.Load() != nil {
		errs = append(errs, attachedTwice(t.name))
	}
	return errs
}

// attach makes the table part of s; false if it is part of a store already.
func (t *Table[K, T]) attach(s *Store, id int) bool {
	t.declaring.Lock()
	defer t.declaring.Unlock()
	if t.store.Load() != nil {
		return false
	}
	t.id = id
	t.feed.limit = s.opts.MaxLag
	if s.opts.DetectMutation {
		t.sums = make(map[*node[K, T]]uint64)
	}
	t.store.Store(s)
	return true
}

// detach undoes attach.
func (t *Table[K, T]) detach() { t.store.Store(nil) }

func (t *Table[K, T]) replacing() bool { return t.build != nil }

func (t *Table[K, T]) counts() (int, int64) { return t.len, t.bytes }
