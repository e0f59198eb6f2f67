package cache

import (
	"cmp"
	"context"
	"iter"
	"slices"
)

// RowChange is a row's change as a subscriber across tables sees it. Key, Old and New hold the table's key
// and row types; Old is nil for an Insert, New for a Delete.
type RowChange struct {
	Table         string
	Op            Op
	Key, Old, New any
}

// Tx is what one transaction changed, in the order in which it did.
type Tx struct {
	Xid       uint64 // 0 if Coalesced, Reset or Resync
	Seq       int64  // of its last event; 0 likewise
	Revision  uint64 // of the cut that brought it; several transactions may share it
	Meta      any    // of that cut
	Coalesced bool   // stands for several cuts: one change per key
	Reset     bool   // no changes: whatever was known before may be wrong now, read the tables again
	Resync    bool   // found by a Replace, not told by events
	Last      bool   // of its cut: what follows has a higher Revision
	Changes   []RowChange
}

// cut is what one version changed in all tables.
type cut struct {
	rev   uint64
	meta  any
	parts []part // in the order of the tables
}

// part is a tableCut of any type.
type part interface {
	weight(limit int) int
	items(to []item) []item
	row(i int) RowChange
	foldWith(cuts []*cut) []RowChange
	sameTable(p part) bool
}

// item is a change's place in its cut.
type item struct {
	part   part
	i      int
	order  uint32
	origin Origin
	resync bool
}

// Changes yields whole transactions across tables. It begins with a Tx that has Reset set and no changes:
// its Revision is where the subscription starts. Whoever needs the rows opens a [View] then, and skips each
// Tx whose Revision is not above the view's.
//
// The transactions of a cut come in the order of their last Seq, which is one in which they can have
// happened; what a Replace found is a Tx of its own, at the place where the writer did it. A subscriber that
// falls behind gets Coalesced ones, or a Reset again, under the conditions of [Table.Changes].
//
// Ranging begins the subscription and leaving the loop ends it. It ends with ctx.Err() or [ErrClosed].
func (s *Store) Changes(ctx context.Context) iter.Seq2[Tx, error] {
	return func(yield func(Tx, error) bool) {
		f := txFollower{s: s, ctx: ctx, yield: yield, cur: s.txs.join()}
		defer s.txs.leave(f.cur)
		if f.reset() {
			for f.next() {
			}
		}
	}
}

// txFollower is a running subscription to a store. Its methods return false when it has ended.
type txFollower struct {
	s     *Store
	ctx   context.Context
	yield func(Tx, error) bool
	cur   *cursor
	seen  uint64 // revision up to which everything has been given
}

func (f *txFollower) give(tx Tx) bool {
	if err := f.s.stopped(f.ctx); err != nil {
		f.yield(Tx{}, err)
		return false
	}
	return f.yield(tx, nil)
}

func (f *txFollower) reset() bool {
	st := f.s.cur.Load()
	f.seen = st.num
	return f.give(Tx{Reset: true, Last: true, Revision: st.num, Meta: st.meta})
}

// next waits for what comes next and gives it.
func (f *txFollower) next() bool {
	cuts, lost := f.s.txs.take(f.cur, f.s.opts.CoalesceAfter)
	switch {
	case lost:
		f.s.txs.rejoin(f.cur)
		return f.reset()
	case len(cuts) == 0:
		if err := f.s.wait(f.ctx, f.cur); err != nil {
			f.yield(Tx{}, err)
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
	if len(cuts) > 1 {
		tx := foldTx(cuts)
		return len(tx.Changes) == 0 || f.give(tx)
	}
	for _, tx := range cuts[0].transactions() {
		if !f.give(tx) {
			return false
		}
	}
	return true
}

// weight is the cut's number of changes, or more than limit if some table could not record all of them.
func (c *cut) weight(limit int) (n int) {
	for _, p := range c.parts {
		n += p.weight(limit)
	}
	return n
}

// group says which changes of a cut make one Tx. What Replaces found without an event in between belongs
// together; after an event it is another Tx, or the event would have to be given before both.
type group struct {
	xid    uint64
	resync bool
	run    int // of Replaces; 0 for events
}

// placed is a Tx with its place among those of its cut: the last Seq, then the last change.
type placed struct {
	tx    Tx
	seq   int64
	order uint32
}

// transactions groups a cut's changes by transaction. Each takes the place of its last event; changes
// without a transaction are placed after the highest Seq that the writer had reached before them.
func (c *cut) transactions() []Tx {
	var list []placed
	at := make(map[group]int)
	var reached int64
	run, inRun := 0, false
	for _, it := range c.inOrder() {
		if it.resync && !inRun {
			run++
		}
		inRun = it.resync
		g := group{xid: it.origin.Xid, resync: it.resync}
		if it.resync {
			g.run = run
		}
		j, ok := at[g]
		if !ok {
			j = len(list)
			at[g] = j
			list = append(list, placed{tx: Tx{Xid: g.xid, Revision: c.rev, Meta: c.meta, Resync: g.resync}})
		}
		reached = max(reached, it.origin.Seq)
		list[j].add(it, reached)
	}
	slices.SortFunc(list, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.order, b.order))
	})
	txs := make([]Tx, len(list))
	for i := range list {
		txs[i] = list[i].tx
		txs[i].Last = i == len(list)-1
	}
	return txs
}

// inOrder is the changes of all tables as the writer made them.
func (c *cut) inOrder() (items []item) {
	for _, p := range c.parts {
		items = p.items(items)
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.order, b.order) })
	return items
}

// add appends a change to the transaction and moves its place.
func (p *placed) add(it item, reached int64) {
	p.tx.Seq = max(p.tx.Seq, it.origin.Seq)
	p.seq, p.order = p.tx.Seq, it.order
	if p.tx.Xid == 0 {
		p.seq = reached
	}
	p.tx.Changes = append(p.tx.Changes, it.part.row(it.i))
}

// foldTx makes one Tx of several cuts.
func foldTx(cuts []*cut) Tx {
	newest := cuts[len(cuts)-1]
	tx := Tx{Revision: newest.rev, Meta: newest.meta, Coalesced: true, Last: true}
	var done []part
	for _, c := range cuts {
		for _, p := range c.parts {
			if !slices.ContainsFunc(done, p.sameTable) {
				done = append(done, p)
				tx.Changes = append(tx.Changes, p.foldWith(cuts)...)
			}
		}
	}
	return tx
}

func (c *tableCut[K, T]) weight(limit int) int {
	if c.overflow {
		return limit + 1
	}
	return len(c.list)
}

func (c *tableCut[K, T]) items(to []item) []item {
	for i := range c.list {
		ch := &c.list[i]
		to = append(to, item{part: c, i: i, order: ch.order, origin: ch.origin, resync: ch.resync})
	}
	return to
}

func (c *tableCut[K, T]) row(i int) RowChange { return c.t.rowChange(&c.list[i]) }

func (c *tableCut[K, T]) sameTable(p part) bool {
	other, ok := p.(*tableCut[K, T])
	return ok && other.t == c.t
}

// foldWith folds this table's changes in all cuts.
func (c *tableCut[K, T]) foldWith(cuts []*cut) []RowChange {
	var mine []*tableCut[K, T]
	for _, other := range cuts {
		for _, p := range other.parts {
			if c.sameTable(p) {
				mine = append(mine, p.(*tableCut[K, T]))
			}
		}
	}
	list := fold(mine)
	rows := make([]RowChange, len(list))
	for i := range list {
		rows[i] = c.t.rowChange(&list[i].change)
	}
	return rows
}

func (t *Table[K, T]) rowChange(c *change[K, T]) RowChange {
	r := RowChange{Table: t.name, Op: c.op(), Key: c.key}
	if c.old != nil {
		r.Old = c.old.row
	}
	if c.new != nil {
		r.New = c.new.row
	}
	return r
}
