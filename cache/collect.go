package cache

import "slices"

// collect drops versions that no pin needs: those superseded by what has just been published, and those
// that were kept for a pin now released. Both lists are in rising order; the last pin is the published
// number. Every old version that must stay is filed under one pin that needs it and looked at again when
// that pin goes, so the work is in proportion to what changed and not to what is held.
func (t *Table[K, T]) collect(pins, released []uint64) {
	if t.stage.dirty {
		published := pins[len(pins)-1]
		t.eachStaged(func(head *node[K, T]) {
			if head.version() != published { // met by a scan
				return
			}
			// What lies below the version in second place was superseded, and filed, before.
			if n := head.next.Load(); n != nil {
				t.retire(pins, head, head, n)
			}
			if !head.live() {
				t.trim(head)
			}
		})
	}
	t.stage.reset()
	for _, num := range released {
		list := t.waiting[num]
		delete(t.waiting, num)
		for _, n := range list {
			t.release(pins, n)
		}
	}
	t.rows.shrink()
}

// release looks again at a version that a pin has needed which is no more.
func (t *Table[K, T]) release(pins []uint64, n *node[K, T]) {
	if n.next.Load() == t.dead { // a tombstone that trim has unlinked
		return
	}
	head := t.rows.load(n.key)
	newer := head
	for newer.next.Load() != n {
		newer = newer.next.Load()
	}
	t.retire(pins, head, newer, n)
	t.trim(head)
}

// retire files n, the version below newer in the chain that begins at head, under the pin that needs it, or
// unlinks it if none does. It is the newest such pin: as long as that one stands, n need not be looked at.
func (t *Table[K, T]) retire(pins []uint64, head, newer, n *node[K, T]) {
	if pin, needed := pinIn(pins, n.version(), newer.version()); needed {
		t.waiting[pin] = append(t.waiting[pin], n)
		return
	}
	newer.next.Store(n.next.Load())
	t.drop(n, head)
}

// trim unlinks the tombstones at the end of a chain: absent is absent, with a tombstone or without. A key of
// which nothing else is left leaves the map.
func (t *Table[K, T]) trim(head *node[K, T]) {
	for {
		above, last := head, head
		for n := last.next.Load(); n != nil; n = n.next.Load() {
			above, last = last, n
		}
		switch {
		case last.live():
			return
		case last == head:
			t.rows.remove(head.key)
			t.drop(head, nil)
			return
		}
		above.next.Store(nil)
		t.drop(last, head)
	}
}

// pinIn finds a pin in [from, to).
func pinIn(pins []uint64, from, to uint64) (uint64, bool) {
	i, _ := slices.BinarySearch(pins, to)
	if i == 0 || pins[i-1] < from {
		return 0, false
	}
	return pins[i-1], true
}
