package cache

import (
	"context"
	"fmt"
	"iter"
)

// Op is what a change did.
type Op uint8

// What a change can do. Live and Reset are marks and carry no row.
const (
	_       Op = iota
	Current    // the row was there when the subscription began
	Live       // all current rows have been given, what follows is new
	Insert     // Old is empty
	Update     // both rows are there
	Delete     // New is empty
	Reset      // forget everything; Current rows and Live follow
)

var opNames = [...]string{"", "current", "live", "insert", "update", "delete", "reset"}

// String is the op's name in lower case.
func (o Op) String() string {
	if int(o) < len(opNames) && o != 0 {
		return opNames[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// Change is a row's change as a subscriber of one table sees it. The rows are shared, see the package.
type Change[K comparable, T any] struct {
	Op        Op
	Key       K
	Old, New  T
	Coalesced bool   // stands for all changes of the key since Old; Origin and Revision are the newest's
	Resync    bool   // found by a Replace, not told by an event
	Revision  uint64 // of the cut; for Current, of the cut that last changed the row
	Origin    Origin
}

// change is a change in the log. It holds versions instead of rows: the new one is in the table anyway.
type change[K comparable, T any] struct {
	key      K
	old, new *node[K, T] // nil: no row
	origin   Origin
	order    uint32 // among all changes of the cut, across tables
	resync   bool
}

// op tells the operation from the rows; 0 if there is none on either side.
func (c *change[K, T]) op() Op {
	switch {
	case c.old == nil && c.new == nil:
		return 0
	case c.old == nil:
		return Insert
	case c.new == nil:
		return Delete
	}
	return Update
}

// tableCut is what one cut changed in one table.
type tableCut[K comparable, T any] struct {
	t        *Table[K, T]
	rev      uint64
	list     []change[K, T]
	overflow bool // more than the log holds; list is empty
}

// folded is a change that stands for several.
type folded[K comparable, T any] struct {
	change[K, T]
	rev uint64
}

// fold makes one change per key of several cuts: the first Old, the last New, in the order in which the
// keys first appear. Keys that are absent on both sides are dropped.
func fold[K comparable, T any](cuts []*tableCut[K, T]) []folded[K, T] {
	var out []folded[K, T]
	at := make(map[K]int)
	for _, c := range cuts {
		for i := range c.list {
			ch := &c.list[i]
			j, ok := at[ch.key]
			if !ok {
				at[ch.key] = len(out)
				out = append(out, folded[K, T]{*ch, c.rev})
				continue
			}
			f := &out[j]
			f.new, f.origin, f.rev = ch.new, ch.origin, c.rev
			f.resync = f.resync || ch.resync
		}
	}
	kept := out[:0]
	for i := range out {
		if out[i].op() != 0 {
			kept = append(kept, out[i])
		}
	}
	return kept
}

// Changes yields the table's current rows, then [Live], then every change as it is published: each cut
// whole and in order, exactly as the writer made it. Rows and changes join without a gap or an overlap.
//
// A subscriber never holds up the writer. One that has more than [Options.CoalesceAfter] changes pending
// over several cuts gets one Coalesced change per key instead, none for a key that came and went; one that
// falls more than [Options.MaxLag] changes behind, or meets a cut larger than that, gets [Reset] and the
// current rows again. While the current rows are being given, their version stays in memory.
//
// Ranging begins the subscription and leaving the loop ends it; each range is a new one. It waits for the
// next change and ends with an error: ctx.Err(), [ErrClosed], or [ErrDetached] for a table without a store.
// Both are noticed between two changes too.
func (t *Table[K, T]) Changes(ctx context.Context) iter.Seq2[Change[K, T], error] {
	return func(yield func(Change[K, T], error) bool) {
		s := t.store.Load()
		if s == nil {
			yield(Change[K, T]{}, ErrDetached)
			return
		}
		f := follower[K, T]{t: t, s: s, ctx: ctx, yield: yield, cur: t.feed.join()}
		defer t.feed.leave(f.cur)
		if f.current() {
			for f.next() {
			}
		}
	}
}

// follower is a running subscription to a table. Its methods return false when it has ended.
type follower[K comparable, T any] struct {
	t     *Table[K, T]
	s     *Store
	ctx   context.Context
	yield func(Change[K, T], error) bool
	cur   *cursor
	seen  uint64 // revision up to which everything has been given
}

// give yields a change, or the error that ends the subscription.
func (f *follower[K, T]) give(c Change[K, T]) bool {
	if err := f.s.stopped(f.ctx); err != nil {
		f.yield(Change[K, T]{}, err)
		return false
	}
	return f.yield(c, nil)
}

// current gives the rows of one instant, and Live.
func (f *follower[K, T]) current() bool {
	return f.rows() && f.give(Change[K, T]{Op: Live, Revision: f.seen})
}

// rows gives the rows of one instant, which is held meanwhile and no longer.
func (f *follower[K, T]) rows() (more bool) {
	st := f.s.pin()
	defer st.unpin()
	f.seen = st.num
	more = true
	f.t.each(st.num, func(n *node[K, T]) bool {
		more = f.give(Change[K, T]{Op: Current, Key: n.key, New: n.row, Revision: n.ver})
		return more
	})
	return more
}

// next waits for what comes next and gives it.
func (f *follower[K, T]) next() bool {
	cuts, lost := f.t.feed.take(f.cur, f.s.opts.CoalesceAfter)
	switch {
	case lost:
		f.t.feed.rejoin(f.cur)
		return f.give(Change[K, T]{Op: Reset, Revision: f.s.Revision()}) && f.current()
	case len(cuts) == 0:
		if err := f.s.wait(f.ctx, f.cur); err != nil {
			f.yield(Change[K, T]{}, err)
			return false
		}
		return true
	}
	for len(cuts) > 0 && cuts[0].rev <= f.seen {
		cuts = cuts[1:]
	}
	if len(cuts) == 0 {
		return true
	}
	f.seen = cuts[len(cuts)-1].rev
	if len(cuts) == 1 {
		return f.giveCut(cuts[0].list, cuts[0].rev)
	}
	return f.giveFolded(fold(cuts))
}

func (f *follower[K, T]) giveCut(list []change[K, T], rev uint64) bool {
	for i := range list {
		if !f.give(list[i].public(rev, false)) {
			return false
		}
	}
	return true
}

func (f *follower[K, T]) giveFolded(list []folded[K, T]) bool {
	for i := range list {
		if !f.give(list[i].public(list[i].rev, true)) {
			return false
		}
	}
	return true
}

// public is the change as a subscriber sees it.
func (c *change[K, T]) public(rev uint64, coalesced bool) Change[K, T] {
	p := Change[K, T]{
		Op: c.op(), Key: c.key, Coalesced: coalesced, Resync: c.resync, Revision: rev, Origin: c.origin,
	}
	if c.old != nil {
		p.Old = c.old.row
	}
	if c.new != nil {
		p.New = c.new.row
	}
	return p
}

// stopped is the error that ends a subscription now, nil if none does.
func (s *Store) stopped(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closed:
		return ErrClosed
	default:
		return nil
	}
}

// wait returns when the cursor may have something to take, or with what ends the subscription.
func (s *Store) wait(ctx context.Context, c *cursor) error {
	select {
	case <-c.wake:
		return s.stopped(ctx)
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return s.stopped(ctx)
	}
}
