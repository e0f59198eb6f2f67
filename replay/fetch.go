package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// advance makes one cut: it fetches until what came can be published, each
// time with what the attempt before has shown to be missing. An attempt that
// is repeated has added a table to what is read again, to what is loaded, or
// to what is broken, so the attempts are bounded.
func (l *loop) advance(ctx context.Context, sess Session, p *plan) error {
	var t turns
	for {
		c, err := l.attempt(ctx, sess, p)
		var busy *outbox.BusyError
		if errors.As(err, &busy) {
			if err := t.awaitTurn(ctx, l, sess, p, busy); err != nil {
				return l.failed(p.op(), err)
			}
			continue
		}
		if err != nil {
			return err
		}
		if c != nil {
			l.publish(c, sess)
			l.shared(c)
			return nil
		}
		l.e.count(func(st *Status) { st.Rereads++ })
		p.draw = false // at most once a beat
	}
}

// attempt fetches once. It returns neither a cut nor an error if the plan has
// grown and the fetch is to be repeated.
func (l *loop) attempt(ctx context.Context, sess Session, p *plan) (*cut, error) {
	l.lastFetch = time.Now()
	l.e.begin(p)
	// Whatever rang before the snapshot is taken is answered by it.
	select {
	case <-sess.Rings():
		p.rung = true
	default:
	}
	c := newCut(l, p)
	req := p.request(l.pos)
	l.share(ctx, p, &req)
	err := l.guard(ctx, l.cfg.FetchTimeout<<min(l.stalls, 4), func(ctx context.Context) error {
		c.ctx = ctx
		return sess.Fetch(ctx, req, c)
	})
	c.took = time.Since(l.lastFetch)
	if errors.Is(err, ErrStalled) && p.kind != follow {
		l.stalls++
	}
	if c.refused != nil {
		err = c.refused
	}
	if err == nil {
		err = c.finish()
	}
	if err != nil {
		c.abort()
		l.gaveUp(p)
		return nil, l.failed(p.op(), err)
	}
	if c.again {
		c.abort()
		p.unshared(nil)
		return nil, nil
	}
	return c, nil
}

// gaveUp counts the fetches that failed while they were to read rows by key:
// where that fails again and again (an event's key that is none any more), the
// next session would fail in the same way for ever. Loading the table is the
// other way to learn what the event could not carry.
func (l *loop) gaveUp(p *plan) {
	for i, t := range p.tables {
		if t.reread && !t.reload {
			l.tables[i].rereadFailed++
		}
	}
}

func (p *plan) op() string {
	switch p.kind {
	case firstLoad, resync:
		return "load"
	case catchUp:
		return "catch up"
	}
	return "apply"
}

// finish completes what the fetch has brought, so that only publishing is left.
func (c *cut) finish() error {
	if !c.begun {
		return fmt.Errorf("%w: Fetch has returned nil without a header", ErrSource)
	}
	c.flush()
	c.endLoads()
	var bad []error
	for i := range c.tables {
		t := &c.tables[i]
		if t.unread != nil {
			bad = append(bad, t.unread)
			c.p.breaks(i, t.unread, c.fingerprint(i))
			c.again = true
		}
		if t.problem != nil {
			bad = append(bad, t.problem)
		}
	}
	if c.p.kind == firstLoad && len(bad) > 0 {
		return errors.Join(bad...)
	}
	if c.p.warm != nil && len(bad) > 0 {
		return refusalOf("", errors.Join(bad...)) // the load says it in full
	}
	if c.again {
		return nil
	}
	return c.fits(c.last)
}

// endLoads completes the tables that were loaded, unless one of them is not
// complete: the cut is not published then.
func (c *cut) endLoads() {
	if c.again || slices.ContainsFunc(c.tables, func(t cutTable) bool { return t.unread != nil }) {
		return
	}
	for i := range c.tables {
		t := &c.tables[i]
		if !c.p.tables[i].reload || t.problem != nil {
			continue
		}
		c.beginLoad(i) // a table without rows is complete as well
		if err := c.l.e.tables[i].EndReplace(); err != nil {
			t.unread = tableError("load", c.l.e.tables[i].Name(), 0, err)
			continue
		}
		c.loaded = append(c.loaded, i)
	}
}

// breaks takes a table out of the plan: its rows cannot be read.
func (p *plan) breaks(table int, err error, fingerprint string) {
	p.tables[table] = tablePlan{broken: err, fingerprint: fingerprint}
}
