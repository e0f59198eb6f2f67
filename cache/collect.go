package cache

import "slices"

// collect drops versions that no pin needs: those superseded by what has just been published, and those
// that were kept for a pin now released. Both lists are in rising order; the last pin is the published
// number. Every old version that must stay is filed under one pin that needs it and looked at again when
// that pin goes, so the work is in proportion to what changed and not to what is held.
func (t *Table[K, T]) collect(pins, released []uint64) {
	if t.stage.dirty {
		t.eachStaged(func(k K) { t.prune(k, pins, false) })
	}
	t.stage.reset()
	for _, num := range released {
		list := t.waiting[num]
		delete(t.waiting, num)
		for _, n := range list {
			n.mark &^= waitingBit
			t.prune(n.key, pins, true)
		}
	}
	t.rows.shrink()
}

// prune unlinks every version of k in whose life no pin lies. Unless deep, it stops at the first version
// that is filed under a pin: so is then everything below it.
func (t *Table[K, T]) prune(k K, pins []uint64, deep bool) {
	head := t.rows.load(k)
	if head == nil {
		return
	}
	newer := head
	for n := newer.next.Load(); n != nil; {
		below := n.next.Load()
		pin, needed := pinIn(pins, n.version(), newer.version())
		switch {
		case !needed:
			newer.next.Store(below)
			t.drop(n, head)
		case n.mark&waitingBit == 0:
			n.mark |= waitingBit
			t.waiting[pin] = append(t.waiting[pin], n)
			newer = n
		case !deep:
			return
		default:
			newer = n
		}
		n = below
	}
	// Absent is absent, with a tombstone at the end of the chain or without.
	if newer != head && !newer.live() && newer.next.Load() == nil {
		t.pruneLast(head, newer)
	}
	if !head.live() && head.next.Load() == nil {
		t.rows.remove(k)
		t.drop(head, nil)
	}
}

// pruneLast unlinks the last version of a chain, a tombstone that is not the head, and any tombstone that
// it leaves last.
func (t *Table[K, T]) pruneLast(head, last *node[K, T]) {
	for last != head && !last.live() {
		above := head
		for above.next.Load() != last {
			above = above.next.Load()
		}
		above.next.Store(nil)
		t.drop(last, head)
		last = above
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
