package replay

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/outbox"
)

var errNoRow = errors.New("the event has no row")

// Event implements outbox.Sink.
func (c *cut) Event(table int, ev *outbox.Event, row pgx.CollectableRow) error {
	c.l.progress.Add(1)
	// Invariant 2. Applied once: the position says which transactions are in
	// the cache. Applied only if it is there: the snapshot says which ones this
	// server has committed. An event that a subscription or a restore brought
	// carries a transaction id of elsewhere.
	if c.l.pos.Covers(ev.Xid) || c.p.full() {
		c.skipped++
		return nil
	}
	if !c.h.Snapshot.Covers(ev.Xid) {
		return c.refuse(&Error{
			Op: c.p.op(), Table: ev.Table, Seq: ev.Seq, Position: c.l.pos,
			Err:  fmt.Errorf("%w: transaction %d is not in the snapshot %v", ErrForeign, ev.Xid, c.h.Snapshot),
			Hint: "the outbox was filled by replication or a restore: run lockstep install --new-history",
		})
	}
	// Invariant 1. Two writes of one row are ordered by its lock, and so are
	// the numbers they drew; the order of numbers is the order of the cut.
	if next := ev.Seq > c.lastSeq && ev.Part == 0 || ev.Seq == c.lastSeq && ev.Part == c.lastPart+1; !next {
		return c.refuse(fmt.Errorf("%w: event %d (%d) after event %d (%d)", ErrSource, ev.Seq, ev.Part, c.lastSeq, c.lastPart))
	}
	c.lastSeq, c.lastPart = ev.Seq, ev.Part
	if table >= len(c.tables) {
		return c.known(table)
	}
	if c.again {
		return nil
	}
	if ev.Part == 0 {
		c.account(ev)
	}
	if table < 0 || c.p.tables[table].reload || c.broken(table) {
		// Loaded rows stand at the snapshot, which is where the events lead.
		c.passed++
		return nil
	}
	c.events++
	if err := c.apply(table, ev, row); err != nil {
		c.distrust(table, ev.Seq, err)
		return nil
	}
	return c.wrote(table)
}

// account notes what the event proves, whatever table it is of.
func (c *cut) account(ev *outbox.Event) {
	c.highest = max(c.highest, ev.Xid)
	if ev.Seq < c.l.applied {
		c.below++
	}
	if ev.Lead {
		c.leads++
	}
	c.gaps.event(ev.Seq)
	c.txs.event(ev.Xid, ev.Seq, ev.At, c.l.cfg.MaxAnchors)
}

// broken reports whether the table's rows in the cache are not kept.
func (c *cut) broken(table int) bool {
	return c.p.tables[table].broken != nil || c.tables[table].problem != nil || c.l.tables[table].problem != nil
}

// apply stages one event.
func (c *cut) apply(table int, ev *outbox.Event, row pgx.CollectableRow) error {
	o := cache.Origin{Xid: ev.Xid, Seq: ev.Seq}
	if row == nil && (ev.Op == outbox.Insert || ev.Op == outbox.Update || ev.Op == outbox.Delete) {
		return errNoRow
	}
	switch ev.Op {
	case outbox.Insert, outbox.Update:
		return c.put(table, o, row)
	case outbox.Delete:
		return c.remove(table, o, row)
	case outbox.Truncate:
		c.flush()
		c.l.e.tables[table].Clear(c.writer(), o)
		return nil
	case outbox.Reload:
		c.lookup(table, o, row != nil)
		return nil
	}
	return fmt.Errorf("%v is not an operation that this version knows", ev.Op)
}

// lookup sees to it that what an R event could not carry is read.
//
// Invariant 6. It is read in the snapshot of this very cut, or a reader would
// see two instants at once. Reading needs a lock that has to be taken before
// the snapshot, so where it was not asked for the cut is made again.
func (c *cut) lookup(table int, o cache.Origin, byKey bool) {
	switch {
	case !byKey:
		c.p.load(table, ReloadEvent, fmt.Sprintf("event %d", o.Seq))
		c.again = true
	case !c.p.tables[table].reread:
		c.p.tables[table].reread = true
		c.again = true
	default:
		c.tables[table].reread = o
	}
}

// Reread implements outbox.Sink. It comes after all events: the row as it
// stands in the snapshot is also what the later events of its key have led to.
func (c *cut) Reread(table int, key, row pgx.CollectableRow) error {
	c.l.progress.Add(1)
	if err := c.known(table); err != nil {
		return err
	}
	if c.again || c.p.tables[table].reload || c.broken(table) {
		return nil
	}
	o := c.tables[table].reread
	var err error
	if row == nil {
		err = c.remove(table, o, key)
	} else {
		err = c.put(table, o, row)
	}
	if err != nil {
		c.distrust(table, o.Seq, err)
		return nil
	}
	return c.wrote(table)
}

// distrust makes the cut again with the whole table loaded: an event of it
// could not be read, and nobody knows what it would have changed.
func (c *cut) distrust(table int, seq int64, err error) {
	name := c.l.e.tables[table].Name()
	c.l.log.Warn("replay: an event cannot be read, loading its table", "table", name, "event", seq, "error", err)
	c.p.load(table, Unreadable, fmt.Sprintf("event %d: %v", seq, err))
	c.again = true
}
