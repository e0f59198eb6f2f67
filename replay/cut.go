package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/outbox"
)

// cut is one fetch on its way into the cache: the sink of the fetch. It stages
// rows in a writer and the accounts beside it; nothing of the engine changes
// until it is published. It holds no events, but for the few that a table has read and not stored.
type cut struct {
	l       *loop
	p       *plan
	ctx     context.Context // of the fetch
	begun   bool
	h       outbox.Header
	w       *cache.Writer // begun with the first change
	again   bool          // the plan has grown: what comes is passed by, and fetched again
	refused error         // what a method has returned to the source
	took    time.Duration // by the fetch

	lastSeq  int64 // of the events so far
	lastPart int   // of the last event
	highest  uint64
	events   uint64
	passed   uint64
	skipped  uint64
	below    uint64
	gaps     gapCut
	txs      anchorTxs
	leads    int // transactions of which the first event came

	tables    []cutTable
	loaded    []int
	last      int // the table written last
	filling   int // the table that has rows which are not stored yet; -1: none
	unchecked int // rows since memory was last looked at
}

type cutTable struct {
	loading bool         // BeginReplace was called
	rows    uint64       // loaded
	problem error        // as the source says
	unread  error        // a row of the load could not be read
	reread  cache.Origin // of the last event that asked for a row to be read again
}

func newCut(l *loop, p *plan) *cut {
	return &cut{l: l, p: p, last: -1, filling: -1, gaps: l.gaps.begin(), tables: make([]cutTable, len(l.tables))}
}

// abort forgets everything staged.
func (c *cut) abort() {
	if c.filling >= 0 {
		c.l.e.tables[c.filling].Drop()
		c.filling = -1
	}
	if c.w != nil {
		c.w.Abort()
		c.w = nil
	}
}

func (c *cut) writer() *cache.Writer {
	if c.w == nil {
		c.w = c.l.e.store.Begin()
	}
	return c.w
}

// put has the table read a row, which is stored now or later. Rows of another table that are not stored yet are stored
// first, so that changes come in their order.
func (c *cut) put(table int, o cache.Origin, row pgx.CollectableRow) error {
	if c.filling != table {
		c.flush()
		c.filling = table
	}
	return c.l.e.tables[table].Put(c.writer(), o, row)
}

// remove removes the row of a key.
func (c *cut) remove(table int, o cache.Origin, key pgx.CollectableRow) error {
	c.flush()
	return c.l.e.tables[table].Delete(c.writer(), o, key)
}

// flush stores what was put.
func (c *cut) flush() {
	if c.filling >= 0 {
		c.l.e.tables[c.filling].Flush(c.writer())
		c.filling = -1
	}
}

// found reports whether the cut holds an event that had not been applied.
func (c *cut) found() bool { return c.events+c.passed > 0 }

// refuse ends the fetch with an error of the engine's own.
func (c *cut) refuse(err error) error {
	c.refused = err
	return err
}

// Begin implements outbox.Sink.
func (c *cut) Begin(h *outbox.Header) error {
	c.l.progress.Add(1)
	if c.begun {
		return c.refuse(fmt.Errorf("%w: two headers in one fetch", ErrSource))
	}
	c.begun, c.h = true, *h
	c.h.Newest, c.h.Fingerprints = slices.Clone(h.Newest), slices.Clone(h.Fingerprints)
	if c.p.sharing != nil {
		c.h.Began = c.l.lastFetch // the snapshot was taken before the fetch was sent
	}
	if h.Snapshot.IsZero() {
		return c.refuse(fmt.Errorf("%w: a header without a snapshot", ErrSource))
	}
	req := c.p.request(c.l.pos)
	if n := len(h.Fingerprints); (len(req.Reload) > 0 || req.Catalogue) && n != len(c.tables) {
		return c.refuse(fmt.Errorf("%w: %d fingerprints for %d tables", ErrSource, n, len(c.tables)))
	}
	if c.p.full() {
		c.explain()
		return nil
	}
	if err := c.checkHistory(); err != nil {
		return c.refuse(err)
	}
	if c.p.doubt != nil {
		return c.refuse(c.p.doubt)
	}
	c.checkDrift()
	if c.p.warm != nil {
		return c.thaw()
	}
	return nil
}

// checkHistory finds out whether the position still says something about the server.
//
// Invariant 3. Each of these means that events are missing which no fetch will
// bring: the only way on is to load, and to say so.
func (c *cut) checkHistory() error {
	if why := c.otherHistory(); why != nil {
		return why
	}
	if pos := c.l.pos; !c.h.Snapshot.Includes(pos) {
		return &resyncError{HistoryChanged, fmt.Sprintf("the server's snapshot %v does not include the position %v", c.h.Snapshot, pos)}
	}
	if c.h.Horizon < c.l.horizon {
		return &resyncError{HistoryChanged, fmt.Sprintf("the horizon went back from %d to %d: the server has lost the end of its log, in which events were trimmed", c.l.horizon, c.h.Horizon)}
	}
	if why := c.trimmed(); why != nil {
		return why
	}
	return nil
}

func (c *cut) otherHistory() *resyncError {
	if c.h.History == c.l.history {
		return nil
	}
	return &resyncError{HistoryChanged, fmt.Sprintf("%v has become %v", c.l.history, c.h.History)}
}

// trimmed compares the horizon with the lower of the position's floor and its
// oldest transaction in flight, which is its xmin. A horizon that has not moved
// since the last fetch has taken nothing from this node, however low the
// position is kept: an outbox that was trimmed to the last row leaves a load
// with a floor of 1.
func (c *cut) trimmed() *resyncError {
	pos := c.l.pos
	if pos.Xmin() >= c.h.Horizon || c.h.Horizon <= c.l.horizon {
		return nil
	}
	return &resyncError{Trimmed, fmt.Sprintf("events below transaction %d may be gone, the position %v needs those from %d", c.h.Horizon, pos, pos.Xmin())}
}

// explain finds the root of a missing anchor: what was trimmed, or belongs to
// another history, is missing as well.
func (c *cut) explain() {
	if c.p.doubt != nil {
		c.explainDoubt()
		return
	}
	if c.p.kind != resync || c.p.reason != AnchorMissing {
		return
	}
	why := c.otherHistory()
	if why == nil {
		why = c.trimmed()
	}
	if why != nil {
		c.p.reason, c.p.detail = why.reason, why.detail
		c.l.enter(Resyncing, string(why.reason)+": "+why.detail)
	}
}

// checkDrift compares the catalogue (invariant 7). The events of this cut may
// be of the table's new shape and its rows of the old one, so the cut is made
// again with the table loaded.
func (c *cut) checkDrift() {
	for i, f := range c.h.Fingerprints {
		t := &c.p.tables[i]
		if t.reload || t.broken != nil || f == c.l.tables[i].fingerprint {
			continue
		}
		c.p.load(i, Drift, "")
		c.again = true
	}
}

func (c *cut) fingerprint(table int) string {
	if table < len(c.h.Fingerprints) {
		return c.h.Fingerprints[table]
	}
	return c.l.tables[table].fingerprint
}

// Problem implements outbox.Sink.
func (c *cut) Problem(table int, err error) error {
	c.l.progress.Add(1)
	if err := c.known(table); err != nil {
		return err
	}
	c.tables[table].problem = tableError(c.p.op(), c.l.e.tables[table].Name(), 0, err)
	return nil
}

func (c *cut) known(table int) error {
	if table < 0 || table >= len(c.tables) {
		return c.refuse(fmt.Errorf("%w: there is no table %d", ErrSource, table))
	}
	return nil
}

// fits refuses a cut that takes too much memory (invariant 10).
func (c *cut) fits(table int) error {
	limit := c.l.cfg.MaxBytes
	if limit == 0 || c.w == nil || table < 0 {
		return nil
	}
	c.flush()
	c.unchecked = 0
	if n := c.w.Bytes(); n > limit {
		return c.refuse(&Error{
			Op: c.p.op(), Table: c.l.e.tables[table].Name(), Position: c.l.pos,
			Err:  fmt.Errorf("%w: it would be %d bytes and more, of %d", ErrMaxBytes, n, limit),
			Hint: "raise MaxBytes or keep fewer tables",
		})
	}
	return nil
}

// wrote is called after each row that was read, and staged or soon will be. Memory is looked at every
// few rows: the cache adds it up over its tables each time.
func (c *cut) wrote(table int) error {
	c.last = table
	c.unchecked++
	if c.unchecked < 16 {
		return nil
	}
	return c.fits(table)
}

// Load implements outbox.Sink.
func (c *cut) Load(table int, row pgx.CollectableRow) error {
	c.l.progress.Add(1)
	if err := c.known(table); err != nil {
		return err
	}
	t := &c.tables[table]
	if c.again || t.unread != nil || t.problem != nil || !c.p.tables[table].reload {
		return nil
	}
	c.beginLoad(table)
	if err := c.l.e.tables[table].ReplaceRow(row); err != nil {
		// The other tables go on, so that all problems are known at once.
		t.unread = tableError("load", c.l.e.tables[table].Name(), 0, err)
		return nil
	}
	t.rows++
	return c.wrote(table)
}

// Invariant 8. The rows of a load are staged like any other, and readers keep what is published until the whole cut is.
func (c *cut) beginLoad(table int) {
	if t := &c.tables[table]; !t.loading {
		c.flush()
		t.loading = true
		c.l.e.tables[table].BeginReplace(c.writer())
		c.last = table
	}
}
