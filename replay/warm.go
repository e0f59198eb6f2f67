package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"
)

// warm is a checkpoint on its way into the cache.
//
// Invariant 12. A checkpoint is believed only as far as the server vouches for
// it: same database, same history, nothing trimmed, the anchor whole, the catalogue as it was. Its
// rows, what was missed since, and the tables that it lacks become visible in
// one step, once its file has been read to the end and found whole. Whatever
// else is found, all tables are loaded and the reason is said.
type warm struct {
	r    CheckpointReader
	h    *head
	at   []int // engine's tables: place in h.Tables, -1: not in it
	rows uint64
}

// refusal ends a fetch that was to begin with a checkpoint. A load follows.
type refusal struct{ CheckpointError }

func refusalOf(reason Reason, err error) *refusal { return &refusal{CheckpointError{reason, err}} }

// findCheckpoint opens the checkpoint, if there is one.
func (l *loop) findCheckpoint() {
	if l.cfg.Checkpoints == nil {
		return
	}
	r, err := l.cfg.Checkpoints.Open()
	if err != nil {
		l.refuse(refusalOf("", err))
		return
	}
	if r == nil {
		return
	}
	l.warm = &warm{r: r}
	if l.warm.h, err = parseHead(r.Head()); err != nil {
		l.refuse(refusalOf("", err))
		return
	}
	l.e.count(func(st *Status) { st.Checkpoint.At = l.warm.h.At })
	places := make(map[string]int)
	for i, t := range l.warm.h.Tables {
		places[t.Name] = i
	}
	found := false
	for _, t := range l.e.tables {
		at, ok := places[t.Name()]
		if !ok {
			at = -1
		}
		found = found || ok
		l.warm.at = append(l.warm.at, at)
	}
	if !found {
		l.refuse(refusalOf("", errors.New("it has none of the tables")))
	}
}

// refuse gives the checkpoint up, and whatever was taken from it.
func (l *loop) refuse(r *refusal) {
	why := r.why()
	l.refused = &r.CheckpointError
	l.log.Warn("replay: the checkpoint is not used", "reason", why) // what is done instead is said where it is done
	l.thawed()
	l.forget()
	l.cold = "the checkpoint is not used: " + why
	l.e.count(func(st *Status) { st.Checkpoint.Refused = why })
}

// thawed lets go of the checkpoint's file.
func (l *loop) thawed() {
	if l.warm != nil {
		_ = l.warm.r.Close() // it was only read
		l.warm = nil
	}
}

// joinWarm begins with the checkpoint and catches up, or loads.
func (l *loop) joinWarm(ctx context.Context, sess Session) error {
	h := l.warm.h
	if here := sess.Identity(); here != h.Identity {
		other := refusalOf("", fmt.Errorf("it is of %s, this is %s", h.Identity, here))
		if l.cfg.WarmOnly {
			return other
		}
		l.refuse(other)
		return l.join(ctx, sess)
	}
	l.forget()
	l.adopt(h)
	why, err := l.prove(ctx, sess)
	if err != nil {
		return err
	}
	p := l.planWarm()
	if why != nil && !l.cfg.WarmOnly {
		p = l.planLoad(firstLoad, FirstLoad, "")
	}
	p.doubt = why
	err = l.advance(ctx, sess, p)
	var again *resyncError
	if errors.As(err, &again) {
		return refusalOf(again.reason, errors.New(again.detail))
	}
	return err
}

// planWarm asks for what was missed and for the tables that the checkpoint
// lacks. The others are to be looked at as for reading rows by key: that locks
// and describes them in the cut's snapshot, and reads no row.
func (l *loop) planWarm() *plan {
	p := &plan{kind: catchUp, cause: byAsk, catalogue: true, warm: l.warm, tables: make([]tablePlan, len(l.tables))}
	for i, at := range l.warm.at {
		if at >= 0 {
			p.tables[i].reread = true
			l.tables[i].fingerprint = l.warm.h.Tables[at].Fingerprint
			continue
		}
		why := l.warm.h.Without[l.e.tables[i].Name()]
		if why == "" {
			why = "the table was not kept when it was written"
		}
		p.load(i, FirstLoad, "not in the checkpoint: "+why)
	}
	return p
}

// explainDoubt finds the root of a missing anchor, as explain does, and gives
// the checkpoint up. It is the same load that goes on.
func (c *cut) explainDoubt() {
	why := c.otherHistory()
	if why == nil {
		why = c.trimmed()
	}
	if why == nil {
		why = c.p.doubt
	}
	c.p.doubt = nil
	c.l.refuse(refusalOf(why.reason, errors.New(why.detail)))
	c.p.detail = c.l.cold
}

// thaw stages the checkpoint's rows, at the beginning of the cut: its events
// come after them. Rows of tables that are loaded are passed by.
func (c *cut) thaw() error {
	frozen := c.shapes()
	if c.again {
		return nil
	}
	w := c.p.warm
	table := make([]int, len(w.h.Tables)) // places in the file: engine's table, -1: not wanted
	for i := range table {
		table[i] = -1
	}
	for i, at := range w.at {
		if at >= 0 && !c.p.tables[i].reload {
			table[at] = i
			c.l.e.tables[i].BeginReplace(c.writer())
		}
	}
	if err := c.thawRows(table, frozen); err != nil {
		if c.ctx.Err() != nil {
			return c.refuse(context.Cause(c.ctx))
		}
		return c.refuse(refusalOf("", err))
	}
	for _, i := range table {
		if i >= 0 {
			if err := c.l.e.tables[i].EndReplace(); err != nil {
				return c.refuse(refusalOf("", fmt.Errorf("table %s: %w", c.l.e.tables[i].Name(), err)))
			}
		}
	}
	return nil
}

// shapes compares what rows are made of with what they were made of, now that
// the server has described the tables. One that differs is loaded.
func (c *cut) shapes() []Frozen {
	frozen := make([]Frozen, len(c.tables))
	for i, at := range c.p.warm.at {
		if at < 0 || c.p.tables[i].reload {
			continue
		}
		f, err := c.l.e.tables[i].Freeze()
		switch {
		case err != nil:
			c.p.load(i, FirstLoad, "not read from the checkpoint: "+err.Error())
			c.again = true
		case f.Shape() != c.p.warm.h.Tables[at].Shape:
			c.p.load(i, FirstLoad, "not read from the checkpoint: the row's type or its columns were others")
			c.again = true
		}
		frozen[i] = f
	}
	return frozen
}

// encodedRows are some rows of one table, as the file has them.
type encodedRows struct {
	table int // the engine's
	rows  [][]byte
	err   error // of the file; nothing comes after it
}

// thawedRows are some rows of one table, ready to be staged.
type thawedRows struct {
	table int // the engine's
	n     int
	stage func() error
	err   error // the file's, or the rows'; nothing comes after it
}

// thawRows stages the file's rows while as many goroutines as there are processors decode what follows them and another
// one reads and checks what follows that.
func (c *cut) thawRows(table []int, frozen []Frozen) error {
	w := c.p.warm
	w.rows = 0
	if err := w.r.Rewind(); err != nil {
		return err
	}
	read, thawed, stop := make(chan encodedRows, 4), make(chan thawedRows, 4), make(chan struct{})
	go func() {
		defer close(read)
		w.read(table, func(e encodedRows) bool { return handOn(read, e, stop) })
	}()
	var decoding sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		decoding.Go(func() {
			for e := range read {
				if !handOn(thawed, w.thaw(e, frozen), stop) {
					break
				}
			}
		})
	}
	go func() {
		decoding.Wait()
		for range read { // until that goroutine has ended
		}
		close(thawed)
	}()
	var err error
	for t := range thawed {
		if err != nil {
			continue // until the goroutines have ended
		}
		if err = context.Cause(c.ctx); err == nil {
			err = c.stageThawed(t)
		}
		if err != nil {
			close(stop)
		}
	}
	return err
}

// handOn passes something on; false if nobody wants it any more.
func handOn[V any](to chan<- V, v V, stop <-chan struct{}) bool {
	select {
	case to <- v:
		return true
	case <-stop:
		return false
	}
}

func (c *cut) stageThawed(t thawedRows) error {
	c.l.progress.Add(1)
	if t.err != nil {
		return t.err
	}
	if err := t.stage(); err != nil {
		return fmt.Errorf("table %s: %w", c.l.e.tables[t.table].Name(), err)
	}
	c.p.warm.rows += uint64(t.n)
	return c.fits(t.table)
}

// read reads the file to its end and yields the rows of the tables that are wanted.
func (w *warm) read(table []int, yield func(encodedRows) bool) {
	for {
		at, rows, err := w.r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return
		case err == nil && at >= len(table):
			err = fmt.Errorf("it has rows of table %d and a head for %d", at, len(table))
		}
		if err != nil {
			yield(encodedRows{err: err})
			return
		}
		if i := table[at]; i >= 0 && !yield(encodedRows{table: i, rows: rows}) {
			return
		}
	}
}

// thaw decodes rows.
func (w *warm) thaw(e encodedRows, frozen []Frozen) thawedRows {
	t := thawedRows{table: e.table, n: len(e.rows), err: e.err}
	if t.err != nil {
		return t
	}
	if t.stage, t.err = frozen[e.table].Thaw(e.rows); t.err != nil {
		t.err = fmt.Errorf("table %s: %w", w.h.Tables[w.at[e.table]].Name, t.err)
	}
	return t
}

// reportThawed tells that the engine began with a checkpoint. Caller holds Engine.mu.
func (l *loop) reportThawed(c *cut, now time.Time) {
	w := c.p.warm
	if w == nil {
		return
	}
	l.e.sh.st.Checkpoint.Restored = true
	for i, at := range w.at {
		if at >= 0 && !c.p.tables[i].reload {
			l.e.sh.st.Tables[i].LoadedAt = now
		}
	}
	l.log.Info("replay: started from a checkpoint", "written", w.h.At, "position", w.h.Position.String(), "rows", w.rows, "events", c.events)
}
