package cache

import (
	"fmt"
	"slices"
)

// verifyLimit is the largest table that is verified after every version.
const verifyLimit = 256

// verify panics if the table breaks an invariant of node.go or index.go, or miscounts. It runs with the
// writer's lock held and nothing staged, where invariants are on.
func (t *Table[K, T]) verify(pins []uint64) {
	if t.rows.len > verifyLimit {
		return
	}
	rows, bytes, held := 0, int64(0), int64(0)
	waits := make(map[*node[K, T]]int)
	for pin, list := range t.waiting {
		t.assertf(slices.Contains(pins, pin), "versions wait for %d, which is not pinned", pin)
		for _, n := range list {
			waits[n]++
		}
	}
	keys := 0
	for head := range t.rows.each {
		keys++
		t.verifyChain(head.key, head, pins, waits)
		if head.live() {
			rows, bytes = rows+1, bytes+t.size.of(head)
		}
		for n := head; n != nil; n = n.next.Load() {
			held += t.size.of(n)
		}
	}
	t.assertf(keys == t.rows.len, "%d keys, counted %d", keys, t.rows.len)
	st := t.store.Load().cur.Load()
	t.assertf(rows == t.len && rows == st.rows[t.id], "%d rows, counted %d", rows, t.len)
	if t.sums != nil { // somebody may change rows, and their sizes
		bytes, held = t.bytes, t.held.Load()
	}
	t.assertf(bytes == t.bytes && bytes == st.sizes[t.id], "%d bytes of rows, counted %d", bytes, t.bytes)
	t.assertf(held == t.held.Load(), "%d bytes held, counted %d", held, t.held.Load())
	t.assertf(!t.stage.touched() && !t.stage.dirty, "something is still staged")
	for _, x := range t.indexes {
		x.verify()
	}
}

func (t *Table[K, T]) verifyChain(k K, head *node[K, T], pins []uint64, waits map[*node[K, T]]int) {
	published := pins[len(pins)-1]
	t.assertf(head.version() <= published, "key %v: version %d is not published", k, head.version())
	last := head
	for n := head.next.Load(); n != nil; n = n.next.Load() {
		t.assertf(n != t.dead, "key %v: a linked version is dead", k)
		t.assertf(n.version() < last.version(), "key %v: %d below %d", k, n.version(), last.version())
		_, needed := pinIn(pins, n.version(), last.version())
		t.assertf(needed, "key %v: nobody needs version %d", k, n.version())
		t.assertf(waits[n] == 1, "key %v: version %d waits for %d pins", k, n.version(), waits[n])
		last = n
	}
	t.assertf(last.live(), "key %v: a tombstone is last", k)
}

// verify checks that the candidates are those of linked versions, no more and no fewer.
func (x *Index[IK, K, T]) verify() {
	type candidate struct {
		ik IK
		k  K
	}
	want := make(map[candidate]bool)
	for head := range x.t.rows.each {
		for n := head; n != nil; n = n.next.Load() {
			if n.live() {
				want[candidate{x.fn(n.row), n.key}] = true
			}
		}
	}
	met := 0
	for ik, set := range x.sets.AllRelaxed() {
		set.each(func(k K) bool {
			met++
			x.t.assertf(want[candidate{ik, k}], "index: %v is a candidate for %v without a version", k, ik)
			return true
		})
	}
	x.t.assertf(met == len(want), "index: %d candidates, want %d", met, len(want))
}

func (t *Table[K, T]) assertf(ok bool, format string, args ...any) {
	if !ok {
		panic("cache: table " + t.name + ": invariant broken: " + fmt.Sprintf(format, args...))
	}
}
