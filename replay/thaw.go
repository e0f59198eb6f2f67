package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// reading is one reading of a checkpoint's file, from its first row to its last. It begins before anything is known of the server, and while the engine
// connects and asks, the rows that will stay encoded are looked at: nearly all that there is to do with them. What
// has to be decoded waits, some of it in memory, for the cut that begins with it.
type reading struct {
	w        *warm
	progress *atomic.Uint64
	kept     []Kept           // by the engine's tables; nil: its rows are among the others
	parts    chan part        // what was read and not looked at; closed at the end
	place    []int            // the engine's table of each table in the file, -1 for none; set before parts has any
	others   chan encodedRows // closed at the end
	wanted   chan struct{}    // closed by who waits for the end
	ended    chan struct{}    // closed when nothing runs any more, and the file was found whole or err is set

	stop chan struct{} // closed at the first error
	once sync.Once
	err  error
}

// encodedRows are some rows of one table, as the file has them.
type encodedRows struct {
	table int // the engine's
	rows  EncodedRows
}

// othersWait is how many parts of the file may wait for the cut.
const othersWait = 64

// part is some rows as the file has them.
type part struct {
	table int // in the file
	rows  EncodedRows
	check func() error
}

// read begins to read the file. progress counts what was done.
func (w *warm) read(tables []Table, progress *atomic.Uint64) *reading {
	r := &reading{
		w: w, progress: progress, kept: make([]Kept, len(tables)), parts: make(chan part, 4),
		others: make(chan encodedRows, othersWait), wanted: make(chan struct{}), ended: make(chan struct{}), stop: make(chan struct{}),
	}
	go r.run(tables)
	return r
}

// run reads the file to its end on one goroutine and looks at what is in it on others. One processor is left to whoever asks Postgres
// meanwhile: with all of them busy the runtime looks for what has come over the network every 10 ms only, and a start asks
// some twenty times. Once the answers are there and the file is waited for, it takes that one as well.
func (r *reading) run(tables []Table) {
	defer close(r.ended)
	defer close(r.others)
	r.prepare(tables)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(r.parts)
		if err := r.readParts(); err != nil {
			r.fail(err)
		}
	}()
	var looking sync.WaitGroup
	for range max(1, runtime.GOMAXPROCS(0)-1) {
		looking.Go(r.lookAtAll)
	}
	select {
	case <-r.wanted:
	case <-read:
	}
	r.lookAtAll()
	looking.Wait()
}

// prepare finds the place of each table, and prepares those that are to stay encoded.
func (r *reading) prepare(tables []Table) {
	r.place = make([]int, len(r.w.h.Tables))
	for i := range r.place {
		r.place[i] = -1
	}
	for i, at := range r.w.at {
		if at >= 0 {
			r.place[at], r.kept[i] = i, r.w.keep(tables[i], &r.w.h.Tables[at])
		}
	}
}

// lookAtAll looks at parts until there are no more.
func (r *reading) lookAtAll() {
	for p := range r.parts {
		if err := r.look(r.place[p.table], p); err != nil {
			r.fail(err)
		}
		r.progress.Add(1)
	}
}

// readParts reads the file.
func (r *reading) readParts() error {
	for {
		table, rows, check, err := r.w.r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case table >= len(r.place):
			return fmt.Errorf("it has rows of table %d and a head for %d", table, len(r.place))
		case !handOn(r.parts, part{table, rows, check}, r.stop):
			return nil
		}
	}
}

// keep prepares to leave a table's rows encoded; nil if they are to be decoded.
func (w *warm) keep(t Table, h *headTable) Kept {
	f, err := t.FreezeAs(h.Shape)
	if err != nil || f.Shape() != h.Shape {
		return nil
	}
	p := h.Plan
	p.Size = w.r.Size()
	return f.Keep(p, w.spoiled)
}

// look takes in a part, of an engine's table or -1, and hands on what has to be decoded.
func (r *reading) look(table int, p part) error {
	if r.failed() != nil { // only to be read to the end
		return nil
	}
	if err := p.check(); err != nil {
		return err
	}
	switch {
	case table < 0:
	case r.kept[table] != nil:
		if err := r.kept[table].Add(p.rows); err != nil {
			return fmt.Errorf("table %s: %w", r.w.h.Tables[r.w.at[table]].Name, err)
		}
	default:
		handOn(r.others, encodedRows{table, p.rows}, r.stop)
	}
	return nil
}

// fail ends the reading, unless something else has.
func (r *reading) fail(err error) {
	r.once.Do(func() {
		r.err = err
		close(r.stop)
	})
}

// end waits until nothing runs any more, and returns the error that there was.
func (r *reading) end() error {
	<-r.ended
	return r.failed()
}

func (r *reading) failed() error {
	select {
	case <-r.stop:
		return r.err
	default:
		return nil
	}
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

var errHalted = errors.New("replay: the checkpoint is not read any further")

// halt ends the reading that no cut has taken.
func (w *warm) halt() {
	if w.reading != nil {
		w.reading.fail(errHalted)
		_ = w.reading.end()
		w.reading = nil
	}
}

// take hands the reading over to a cut, or begins another one where the last was taken.
func (w *warm) take(tables []Table, progress *atomic.Uint64) (*reading, error) {
	r := w.reading
	w.reading = nil
	if r != nil {
		return r, nil
	}
	if err := w.r.Rewind(); err != nil {
		return nil, err
	}
	return w.read(tables, progress), nil
}

// thawedRows are some rows of one table, ready to be staged.
type thawedRows struct {
	table int // the engine's
	stage func() error
}

// takeRows stages the rows of a reading, those that stay encoded at last.
func (c *cut) takeRows(r *reading, frozen []Frozen) error {
	close(r.wanted)
	stop := context.AfterFunc(c.ctx, func() { r.fail(context.Cause(c.ctx)) })
	defer stop()
	for t := range c.thawed(r, frozen) {
		if err := c.stageRows(t.table, t.stage); err != nil {
			r.fail(err)
		}
	}
	if err := r.end(); err != nil {
		return err
	}
	for i, kept := range r.kept {
		if kept != nil && !c.p.tables[i].reload {
			if err := c.stageRows(i, kept.Stage); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cut) stageRows(table int, stage func() error) error {
	c.l.progress.Add(1)
	if err := stage(); err != nil {
		return fmt.Errorf("table %s: %w", c.l.e.tables[table].Name(), err)
	}
	return c.fits(table)
}

// thawed decodes the rows that do not stay encoded, as many at a time as there are processors.
func (c *cut) thawed(r *reading, frozen []Frozen) <-chan thawedRows {
	thawed := make(chan thawedRows, 4)
	var decoding sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		decoding.Go(func() {
			for e := range r.others {
				if c.p.tables[e.table].reload {
					continue
				}
				stage, err := frozen[e.table].Thaw(r.w.h.Tables[r.w.at[e.table]].Plan, e.rows)
				if err != nil {
					r.fail(fmt.Errorf("table %s: %w", c.l.e.tables[e.table].Name(), err))
				} else {
					handOn(thawed, thawedRows{e.table, stage}, r.stop)
				}
			}
		})
	}
	go func() {
		decoding.Wait()
		close(thawed)
	}()
	return thawed
}

// decodeRest decodes, beside everything else and on one goroutine, the rows that nobody has asked for yet.
func (l *loop) decodeRest(ctx context.Context) {
	rows := l.e.store.EncodedRows()
	if l.decodes || rows == 0 {
		return
	}
	l.decodes = true
	l.decoding.Go(func() {
		began := time.Now()
		l.e.store.Decode(ctx)
		if l.e.store.EncodedRows() == 0 {
			l.log.Info("replay: all rows of the checkpoint are decoded", "rows", rows, "took", time.Since(began))
		}
	})
}
