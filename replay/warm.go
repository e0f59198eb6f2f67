package replay

import (
	"context"
	"errors"
	"fmt"
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
	r       CheckpointReader
	h       *head
	at      []int    // engine's tables: place in h.Tables, -1: not in it
	reading *reading // that no cut has taken; nil: none
	spoiled func(error)
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
	l.warm = &warm{r: r, spoiled: l.spoiled}
	if l.warm.h, err = parseHead(r.Head()); err == nil {
		err = l.warm.h.within(r.Size())
	}
	if err != nil {
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
		return
	}
	l.warm.reading = l.warm.read(l.e.tables, &l.progress)
}

// spoiled removes the checkpoint of which a row is not what it was believed to be, so that the next start, after the panic that follows, loads.
func (l *loop) spoiled(err error) {
	l.log.Error("replay: the checkpoint is not what it was believed to be, and is removed", "error", err)
	if err := l.cfg.Checkpoints.Remove(); err != nil {
		l.log.Error("replay: the checkpoint cannot be removed", "error", err)
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
		l.warm.halt()
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
	r, err := w.take(c.l.e.tables, &c.l.progress)
	if err != nil {
		return c.refuse(refusalOf("", err))
	}
	for i, at := range w.at {
		if at >= 0 && !c.p.tables[i].reload {
			c.l.e.tables[i].BeginReplace(c.writer())
		}
	}
	if err := c.takeRows(r, frozen); err != nil {
		if c.ctx.Err() != nil {
			return c.refuse(context.Cause(c.ctx))
		}
		return c.refuse(refusalOf("", err))
	}
	for i, at := range w.at {
		if at >= 0 && !c.p.tables[i].reload {
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

// reportThawed tells that the engine began with a checkpoint. Caller holds Engine.mu.
func (l *loop) reportThawed(c *cut, now time.Time) {
	w := c.p.warm
	if w == nil {
		return
	}
	l.e.sh.st.Checkpoint.Restored = true
	rows := 0
	for i, at := range w.at {
		if at >= 0 && !c.p.tables[i].reload {
			l.e.sh.st.Tables[i].LoadedAt = now
			rows += w.h.Tables[at].Rows
		}
	}
	l.log.Info("replay: started from a checkpoint", "written", w.h.At, "position", w.h.Position.String(), "rows", rows, "events", c.events)
}
