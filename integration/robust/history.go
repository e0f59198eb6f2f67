//go:build unix

package robust

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/pglockstep/lockstep/outbox"
)

// tables are those that nodes follow, without their schema.
var tables = []string{"account", "saving", "item", "echo", "tail", "wide", "part", "register", "bulk"}

// bulkTable is followed by the number of its rows only: it is filled with as many as a
// transaction can hold.
const bulkTable = "bulk"

// bankTotal is the money in both account tables, which transfers only move.
const bankTotal = 4000

// Change is what the witness saw of one row; ID is 0 and All is set where the table was emptied.
type Change struct {
	N     int64
	Xid   uint64
	Table string
	ID    int
	State string // "" where the row is gone
	All   bool
}

// Event is a row of the outbox, of as long as it was there.
type Event struct {
	Seq   int64
	Xid   uint64
	Table string // as the outbox has it
	Op    string
	ID    int
	Keyed bool // ID is there
	State string
	Gone  uint64 // the transaction that deleted it; 0: it is there
}

// Crash is an end of the server after which it gave out transaction ids again, from Next on.
type Crash struct {
	T    Nanos // nothing of before it was read after it
	Next uint64
}

// NodeHistory is what one process of a node recorded.
type NodeHistory struct {
	Name   string
	Killed bool // it was killed on purpose and has no Final
	Cuts   []*Cut
	Txns   []*Txn
	Claims []*Claim
	Reads  []*Read
	Gets   []*Get
	Ops    []*Op
	Final  *Final
}

// History is everything that was recorded of a run.
type History struct {
	Nodes   []*NodeHistory
	Writes  []*Write
	Faults  []*Fault
	Witness []Change // in order
	Events  []Event  // in order
	Crashes []Crash  // in order
	Tables  []RowState
	Left    []string // what was left on the server after the nodes had closed
}

// next is the lowest transaction id that was given out again after what was read at t: what
// later runs under such an id has nothing to do with what t saw under it.
func (h *History) next(t Nanos) uint64 {
	next := uint64(math.MaxUint64)
	for _, c := range h.Crashes {
		if c.T > t {
			next = min(next, c.Next)
		}
	}
	return next
}

// tail tells which states belong to a future that a crash took back: commits that did not
// wait for the disk were visible and are lost. It happens only where writers ask for it.
type tail struct {
	h    *History
	lost []*Write // commits that are not in the log any more
}

func (h *History) tail() *tail {
	t := &tail{h: h}
	witnessed := map[uint64]bool{}
	for _, c := range h.Witness {
		witnessed[c.Xid] = true
	}
	for _, w := range h.Writes {
		if !w.Sync && w.Kept > 0 && w.Xid != 0 && w.Outcome != Failed && h.next(w.Call) != math.MaxUint64 && (!witnessed[w.Xid] || w.Xid >= h.next(w.Call)) {
			t.lost = append(t.lost, w)
		}
	}
	return t
}

// took reports whether a cut shows what a crash took back later.
func (t *tail) took(c *Cut) bool {
	next := t.h.next(c.Began)
	if next == math.MaxUint64 {
		return false
	}
	if c.Position.Xmax() > next {
		return true
	}
	return slices.ContainsFunc(t.lost, func(w *Write) bool {
		return c.Position.Covers(w.Xid) && t.h.next(w.Call) == next
	})
}

// rowKey is a row's place.
type rowKey struct {
	table string
	id    int
}

// cursor walks transaction ids as snapshots come to cover them.
type cursor struct {
	all   []uint64 // ascending
	limit uint64   // ids from here on mean something else
	rest  []uint64 // not covered yet
}

// restart begins before the first id, in a world in which ids from limit on are not used yet.
func (c *cursor) restart(limit uint64) { c.limit, c.rest = limit, slices.Clone(c.all) }

// to returns the ids that a snapshot covers, but for those that were returned before.
func (c *cursor) to(s outbox.Position) (covered []uint64) {
	kept := c.rest[:0]
	for i, xid := range c.rest {
		if xid >= s.Xmax() {
			kept = append(kept, c.rest[i:]...)
			break
		}
		if xid >= c.limit || !s.Covers(xid) {
			kept = append(kept, xid)
			continue
		}
		covered = append(covered, xid)
	}
	c.rest = kept
	return covered
}

// oracle folds what the witness saw into what the tables were in a snapshot.
type oracle struct {
	cursor
	byXid map[uint64][]*Change
	last  map[rowKey]*Change
	clear map[string]int64 // the number of the change that last emptied a table
}

func newOracle(h *History) *oracle {
	o := &oracle{byXid: map[uint64][]*Change{}}
	for i := range h.Witness {
		c := &h.Witness[i]
		if _, ok := o.byXid[c.Xid]; !ok {
			o.all = append(o.all, c.Xid)
		}
		o.byXid[c.Xid] = append(o.byXid[c.Xid], c)
	}
	slices.Sort(o.all)
	o.restart(math.MaxUint64)
	return o
}

// restart begins with empty tables.
func (o *oracle) restart(limit uint64) {
	o.cursor.restart(limit)
	o.last, o.clear = map[rowKey]*Change{}, map[string]int64{}
}

// to moves the oracle on to a snapshot, and returns the rows that may have changed on the way.
func (o *oracle) to(s outbox.Position) map[rowKey]bool {
	touched := map[rowKey]bool{}
	for _, xid := range o.cursor.to(s) {
		for _, c := range o.byXid[xid] {
			o.take(c, touched)
		}
	}
	return touched
}

func (o *oracle) take(c *Change, touched map[rowKey]bool) {
	if c.All {
		o.clear[c.Table] = max(o.clear[c.Table], c.N)
		for k := range o.last {
			if k.table == c.Table {
				touched[k] = true
			}
		}
		return
	}
	k := rowKey{c.Table, c.ID}
	if was := o.last[k]; was == nil || was.N < c.N {
		o.last[k] = c
	}
	touched[k] = true
}

// row is what a row is in the oracle's snapshot, "" if it is not there.
func (o *oracle) row(k rowKey) string {
	c := o.last[k]
	if c == nil || c.N < o.clear[k.table] {
		return ""
	}
	return c.State
}

// rows are all rows that are there.
func (o *oracle) rows() map[rowKey]string {
	m := map[rowKey]string{}
	for k := range o.last {
		if row := o.row(k); row != "" {
			m[k] = row
		}
	}
	return m
}

// log walks the events of the outbox by transaction.
type log struct {
	cursor
	byXid map[uint64][]*Event
}

// newLog is the log of the events for which keep says so.
func newLog(h *History, keep func(*Event) bool) *log {
	l := &log{byXid: map[uint64][]*Event{}}
	for i := range h.Events {
		e := &h.Events[i]
		if !keep(e) {
			continue
		}
		if l.byXid[e.Xid] == nil {
			l.all = append(l.all, e.Xid)
		}
		l.byXid[e.Xid] = append(l.byXid[e.Xid], e)
	}
	slices.Sort(l.all)
	l.restart(math.MaxUint64)
	return l
}

// between are the events of what a node took in from one cut to the next, in order.
func (l *log) between(h *History, was, is *Cut, first bool) (list []*Event) {
	if next := h.next(is.Began); first || next != l.limit {
		l.restart(next)
		l.to(was.Position)
	}
	for _, xid := range l.to(is.Snapshot) {
		list = append(list, l.byXid[xid]...)
	}
	slices.SortStableFunc(list, func(a, b *Event) int { return int(a.Seq - b.Seq) }) // those of one list have one number
	return list
}

// apply makes a change to a state.
func apply(m map[rowKey]string, d RowState) {
	if k := (rowKey{d.Table, d.ID}); d.Row == "" {
		delete(m, k)
	} else {
		m[k] = d.Row
	}
}

// stampOf is the stamp in a row's text.
func stampOf(row string) string {
	if parts := strings.SplitN(row, ",", 4); len(parts) == 4 {
		return parts[2]
	}
	return ""
}

// differ tells the first few rows in which two states differ, "" if in none.
func differ(have, want map[rowKey]string) string {
	var said []string
	for k, w := range want {
		if have[k] != w && len(said) < 3 {
			said = append(said, fmt.Sprintf("%s %d is %q and should be %q", k.table, k.id, have[k], w))
		}
	}
	for k, g := range have {
		if _, ok := want[k]; !ok && len(said) < 3 {
			said = append(said, fmt.Sprintf("%s %d is %q and should not be there", k.table, k.id, g))
		}
	}
	return strings.Join(said, "; ")
}
