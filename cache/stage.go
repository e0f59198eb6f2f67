package cache

import "slices"

// stage is what a writer has done to a table so far.
type stage[K comparable, T any] struct {
	nodes []*node[K, T] // staged, in their order; those that another has replaced since are dead
	dead  int           // how many of them are
	scan  bool          // too many to list: every key of the map may have one
	dirty bool          // a staged version stands above an older one, or is a tombstone

	changes  []change[K, T]
	overflow bool // too many to record; changes is empty

	seen uint64 // what touching has read; nobody's
}

// touch remembers a staged version, unless there are so many that the list would be out of proportion. Going over the
// list goes over memory as it was allocated, and needs no look-up, where a scan of the map meets each version at
// another end of it.
func (g *stage[K, T]) touch(n *node[K, T], limit int) {
	switch {
	case g.scan:
	case len(g.nodes) < limit:
		g.nodes = append(g.nodes, n)
	default:
		g.listNone()
	}
}

// replaced is told that one of the listed versions is dead. Once more than half of them are, the list forgets them: it
// would keep their rows from the collector.
func (g *stage[K, T]) replaced(dead *node[K, T]) {
	if g.scan {
		return
	}
	if g.dead++; 2*g.dead > len(g.nodes) {
		g.nodes = slices.DeleteFunc(g.nodes, func(n *node[K, T]) bool { return n.next.Load() == dead })
		g.dead = 0
	}
}

// listNone gives the list up.
func (g *stage[K, T]) listNone() { g.nodes, g.dead, g.scan = nil, 0, true }

// touchMany prepares for as many versions. It says whether they are to be touched one by one.
func (g *stage[K, T]) touchMany(n, limit int) bool {
	if !g.scan && len(g.nodes)+n > limit {
		g.listNone()
	}
	return !g.scan
}

// scanLimit is the number of versions from which they are not listed. A list takes 8 bytes for each.
func (t *Table[K, T]) scanLimit() int { return t.scanAfter + t.rows.len }

// reset forgets the versions, keeping a small list's memory for the next cut.
func (g *stage[K, T]) reset() {
	const small = 1024
	clear(g.nodes)
	g.nodes = g.nodes[:0]
	if cap(g.nodes) > small {
		g.nodes = nil
	}
	g.dead, g.scan, g.dirty = 0, false, false
	g.changes, g.overflow = nil, false
}

// touched reports whether anything is staged.
func (g *stage[K, T]) touched() bool { return g.scan || len(g.nodes) > 0 }

// eachStaged calls fn for the newest version of every key that may have a staged one: a staged version that is not
// dead is its key's newest. Rows that are still encoded are left out.
func (t *Table[K, T]) eachStaged(fn func(head *node[K, T])) {
	if t.stage.scan {
		for head := range t.rows.eachDecoded {
			fn(head)
		}
		return
	}
	for some := range slices.Chunk(t.stage.nodes, touchedAtOnce) {
		t.stage.seen = touchBelow(some)
		for _, n := range some {
			if n.next.Load() != t.dead {
				fn(n)
			}
		}
	}
}

// record adds a change to what subscribers will be told, as long as the log can hold it.
func (t *Table[K, T]) record(w *Writer, c change[K, T]) {
	g := &t.stage
	if g.overflow {
		return
	}
	if len(g.changes) >= w.s.opts.MaxLag {
		g.changes, g.overflow = nil, true
		return
	}
	c.order = w.order
	w.order++
	g.changes = append(g.changes, c)
}

// recordMany prepares for as many changes. It says whether they are to be recorded one by one.
func (t *Table[K, T]) recordMany(w *Writer, n int) bool {
	g := &t.stage
	if len(g.changes)+n > w.s.opts.MaxLag {
		g.changes, g.overflow = nil, true
	}
	return !g.overflow
}

// takeChanges hands the staged changes to the table's subscribers and returns them for the store's, nil if
// there are none.
func (t *Table[K, T]) takeChanges(num uint64) part {
	g := &t.stage
	if len(g.changes) == 0 && !g.overflow {
		return nil
	}
	c := &tableCut[K, T]{t: t, rev: num, list: g.changes, overflow: g.overflow}
	g.changes, g.overflow = nil, false
	n := len(c.list)
	if c.overflow {
		n = t.feed.limit + 1
	}
	t.feed.add(c, n)
	return c
}

// unstage takes every staged version out again and restores the counters of the published state.
func (t *Table[K, T]) unstage(prev *state) {
	t.dropBuild()
	t.len, t.bytes = prev.rows[t.id], prev.sizes[t.id]
	if !t.stage.touched() {
		return
	}
	if e := t.rows.encoded.Load(); e != nil && e.num > prev.num { // the table was empty before
		t.rows.clear()
		t.held.Store(0)
		t.stage.reset()
		return
	}
	t.eachStaged(func(head *node[K, T]) {
		if head.version() <= prev.num {
			return
		}
		below := head.next.Load()
		if below == nil {
			t.rows.remove(head.key)
		} else {
			at, _ := t.rows.find(t.rows.hash.of(head.key), head.key)
			at.set(below)
		}
		t.drop(head, below)
	})
	t.stage.reset()
}
