package lockstep

import (
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/pglockstep/lockstep/cache"
)

// Index finds a table's rows by something else than their key: one index key,
// many rows. Reads never block, never fail and use no network.
type Index[IK, K comparable, T any] struct {
	cache atomic.Pointer[cache.Index[IK, K, T]]
}

// NewIndex declares an index on a table. fn gives a row's index key; it must
// depend on the row only and runs on readers and on the node. On a table that
// has been started NewIndex walks the table, and changes wait meanwhile.
func NewIndex[IK, K comparable, T any](t *Table[K, T], fn func(T) IK) *Index[IK, K, T] {
	x := new(Index[IK, K, T])
	t.mu.Lock()
	defer t.mu.Unlock()
	if fn == nil {
		t.err = errors.Join(t.err, fmt.Errorf("lockstep: table %s: an index has no function", t.name))
	}
	on := func(c *cache.Table[K, T]) { x.cache.Store(cache.NewIndex(c, fn)) }
	on(t.cache.Load())
	t.indexes = append(t.indexes, on)
	return x
}

// All yields the rows of an index key, as of one instant, in no order.
func (x *Index[IK, K, T]) All(ik IK) iter.Seq2[K, T] { return x.cache.Load().All(ik) }

// Len counts the rows that All would yield, by looking at each.
func (x *Index[IK, K, T]) Len(ik IK) int { return x.cache.Load().Len(ik) }

// At is the index at the instant of a view.
func (x *Index[IK, K, T]) At(v *View) IndexView[IK, K, T] { return x.cache.Load().At(v) }
