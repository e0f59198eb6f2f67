package cache

import (
	"slices"
	"unsafe"

	"github.com/puzpuzpuz/xsync/v4"
)

// manyKeys is the size from which a keySet is a map: below, copying a slice is cheaper than anything.
const manyKeys = 64

// keySet is the set of candidates for one index key. The header never changes once readers may see it;
// with few keys a change makes a new header, with many the map below it is changed in place. nil is empty.
type keySet[K comparable] struct {
	few  []K // in no order; capacity behind its length belongs to the writer
	many *xsync.Map[K, struct{}]
}

// each calls fn for each key until it returns false. A key that is in the set all the time is met exactly
// once, whatever the writer does to others.
func (s *keySet[K]) each(fn func(K) bool) {
	if s.many != nil {
		s.many.RangeRelaxed(func(k K, _ struct{}) bool { return fn(k) })
		return
	}
	for _, k := range s.few {
		if !fn(k) {
			return
		}
	}
}

// with returns the set with k in it, and whether that is new.
func (s *keySet[K]) with(k K) (*keySet[K], bool) {
	switch {
	case s == nil:
		return &keySet[K]{few: []K{k}}, true
	case s.many != nil:
		_, there := s.many.LoadOrStore(k, struct{}{})
		return s, !there
	case slices.Contains(s.few, k):
		return s, false
	case len(s.few) < manyKeys:
		// The append may write behind the length of what readers hold, never within it: only the newest
		// header is ever appended to, and without copies.
		return &keySet[K]{few: append(s.few, k)}, true
	}
	many := xsync.NewMap[K, struct{}](xsync.WithPresize(2 * manyKeys))
	for _, have := range s.few {
		many.Store(have, struct{}{})
	}
	many.Store(k, struct{}{})
	return &keySet[K]{many: many}, true
}

// without returns the set without k, nil if it is empty then, and whether k was in it.
func (s *keySet[K]) without(k K) (*keySet[K], bool) {
	if s.many != nil {
		if _, there := s.many.LoadAndDelete(k); !there {
			return s, false
		}
		if s.many.Size() > manyKeys/4 {
			return s, true
		}
		few := make([]K, 0, manyKeys/2)
		s.many.RangeRelaxed(func(k K, _ struct{}) bool {
			few = append(few, k)
			return true
		})
		return &keySet[K]{few: few}, true
	}
	i := slices.Index(s.few, k)
	switch {
	case i < 0:
		return s, false
	case len(s.few) == 1:
		return nil, true
	}
	few := make([]K, 0, len(s.few)-1)
	few = append(append(few, s.few[:i]...), s.few[i+1:]...)
	return &keySet[K]{few: few}, true
}

// keySetCost estimates what key sets take.
type keySetCost[K comparable] struct {
	header int64 // of a set, with its index key in the map of sets
	inFew  int64 // of a key's place in a slice
	inMap  int64 // of a key in a map
}

// xsyncShare is what a key takes of the buckets of an xsync.Map: 64 bytes hold 5 entries at up to three quarters of
// their number, and half of that just after the map has grown.
const xsyncShare = 24

// entrySize is what an xsync.Map takes for a key and the pointer that it leads to.
func entrySize[K comparable]() int64 {
	var k K
	const pointer = unsafe.Sizeof(uintptr(0))
	return allocated((unsafe.Sizeof(k)+pointer-1)&^(pointer-1) + pointer)
}

func newKeySetCost[IK comparable, K comparable]() keySetCost[K] {
	var k K
	return keySetCost[K]{
		header: allocated(unsafe.Sizeof(keySet[K]{})) + entrySize[IK]() + xsyncShare,
		inFew:  int64(unsafe.Sizeof(k)),
		inMap:  allocated(unsafe.Sizeof(k)) + xsyncShare,
	}
}

func (c keySetCost[K]) of(s *keySet[K]) int64 {
	switch {
	case s == nil:
		return 0
	case s.many != nil:
		return c.header + c.inMap*int64(s.many.Size())
	}
	return c.header + c.inFew*int64(cap(s.few))
}
