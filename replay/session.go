package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
)

// run opens sessions until the engine is closed.
//
// Invariant 9. Whatever fails ends the session: there is one way to recover,
// which is the way a node comes back after an outage.
func (l *loop) run(ctx context.Context) {
	defer close(l.e.done)
	defer l.endCheckpoints()
	defer l.decoding.Wait()
	defer l.end()
	if c, ok := l.e.src.(io.Closer); ok {
		defer func() { _ = c.Close() }() // nothing is lost by it
	}
	l.findCheckpoint()
	if l.unwarmed() {
		return
	}
	for ctx.Err() == nil {
		err := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		var no *refusal
		if errors.As(err, &no) {
			l.refuse(no)
			if l.unwarmed() {
				return
			}
			continue
		}
		if errors.Is(err, outbox.ErrMoved) && l.failures == 0 {
			l.log.Info("replay: the session is opened again", "reason", err)
			l.failures++ // unless it gets to a fetch
			continue
		}
		if l.first != nil {
			l.fail(err)
			l.first <- err
			l.first = nil
			return
		}
		var again *resyncError
		if errors.As(err, &again) {
			// The server is well, only the position is not: go back at once,
			// unless that is what came of it the last time.
			l.pending = again
			l.failures++
			l.resyncing(again)
			if l.failures == 1 {
				continue
			}
		} else {
			l.failures++
			l.fail(err)
		}
		l.pause(ctx)
	}
}

// unwarmed ends an engine that is to start from its checkpoint only, and cannot.
func (l *loop) unwarmed() bool {
	if !l.cfg.WarmOnly || l.warm != nil || !l.pos.IsZero() {
		return false
	}
	err := l.refused
	if err == nil {
		err = &CheckpointError{Err: errors.New("there is none")}
	}
	l.first <- err
	l.first = nil
	return true
}

// end tells everybody that nothing moves any more.
func (l *loop) end() {
	if l.first != nil {
		l.first <- ErrClosed
	}
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.e.shut("it could not start")
}

// session lives through one life of the connections.
func (l *loop) session(ctx context.Context) error {
	var sess Session
	err := l.guard(ctx, l.cfg.FetchTimeout, func(ctx context.Context) (err error) {
		sess, err = l.e.src.Open(ctx)
		return err
	})
	if err != nil {
		return l.failed("open", err)
	}
	if sess == nil {
		return l.failed("open", fmt.Errorf("%w: Open returned neither a session nor an error", ErrSource))
	}
	defer sess.Close()
	l.e.attested.ended()
	l.calm, l.rest = 0, rest{window: time.Now()}
	l.e.count(func(st *Status) { st.Sessions++; st.Bell, st.WhyBell = sess.Bell(), sess.WhyBell() })
	if err := l.join(ctx, sess); err != nil {
		return err
	}
	l.decodeRest(ctx)
	return l.follow(ctx, sess)
}

// join brings the cache to where a new session's server is.
func (l *loop) join(ctx context.Context, sess Session) error {
	if l.warm != nil {
		return l.joinWarm(ctx, sess)
	}
	if l.pos.IsZero() {
		return l.advance(ctx, sess, l.planLoad(firstLoad, FirstLoad, l.cold))
	}
	why := l.pending
	if why == nil {
		var err error
		if why, err = l.prove(ctx, sess); err != nil {
			return err
		}
	}
	if why != nil {
		l.pending = why
		l.resyncing(why)
		return l.advance(ctx, sess, l.planLoad(resync, why.reason, why.detail))
	}
	l.enter(CatchingUp, "replaying what was missed")
	p := l.plan(byAsk)
	p.kind = catchUp
	return l.advance(ctx, sess, p)
}

// prove shows the server the anchor, before anything is applied (invariant 4).
// It returns why the position is worthless, or nil.
func (l *loop) prove(ctx context.Context, sess Session) (*resyncError, error) {
	txs, partial := l.anchor.all()
	if partial != "" {
		if proved, err := l.attest(ctx, sess); err != nil || !proved {
			return &resyncError{AnchorMissing, partial}, err
		}
	}
	if len(txs) == 0 {
		return nil, nil
	}
	var missing []outbox.Anchor
	err := l.guard(ctx, l.cfg.FetchTimeout, func(ctx context.Context) (err error) {
		missing, err = sess.Missing(ctx, txs)
		return err
	})
	switch {
	case err != nil:
		return nil, l.failed("check the anchor", err)
	case len(missing) == 0:
		return nil, nil
	}
	m := missing[0]
	return &resyncError{AnchorMissing, fmt.Sprintf(
		"the server does not have %d of the %d transactions last applied, such as %d with event %d of %s",
		len(missing), len(txs), m.Xid, m.Seq, m.At.UTC().Format(time.RFC3339Nano))}, nil
}

func (l *loop) planLoad(k kind, reason Reason, detail string) *plan {
	p := &plan{kind: k, cause: byAsk, reason: reason, detail: detail, catalogue: true, maxLoads: l.cfg.MaxLoads, tables: make([]tablePlan, len(l.tables))}
	for i := range p.tables {
		p.load(i, reason, detail)
	}
	return p
}

// failed gives an error of the source its place, unless it has one.
func (l *loop) failed(op string, err error) error {
	var placed *Error
	var again *resyncError
	var no *refusal
	if errors.As(err, &placed) || errors.As(err, &again) || errors.As(err, &no) {
		return err
	}
	return &Error{Op: op, Position: l.pos, Err: err}
}

// fail says that the engine is stale, and why.
func (l *loop) fail(err error) {
	if l.first == nil { // else Start returns it
		l.log.Warn("replay: the session has ended", "error", err, "failures", l.failures)
	}
	now := time.Now()
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.e.sh.st.Failures++
	l.e.sh.st.LastError, l.e.sh.st.LastErrorAt = err, now
	if l.first == nil {
		l.e.sh.enter(Stale, err.Error(), now)
	}
}

func (l *loop) resyncing(why *resyncError) {
	l.log.Warn("replay: loading all tables again", "reason", string(why.reason), "detail", why.detail, "position", l.pos.String())
	l.enter(Resyncing, string(why.reason)+": "+why.detail)
}

func (l *loop) enter(s State, reason string) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.e.sh.enter(s, reason, time.Now())
}

// pause waits before the next session: doubling, and half of it random, so
// that nodes which lost the same server do not come back together.
func (l *loop) pause(ctx context.Context) {
	d := l.cfg.BackoffMin
	for i := 1; i < l.failures && d < l.cfg.BackoffMax; i++ {
		d *= 2
	}
	d = min(d, l.cfg.BackoffMax)
	pause.For(ctx, d/2+rand.N(d/2+1))
}

// guard runs a call of the source and gives it up when it makes no progress.
func (l *loop) guard(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex // the timer's function needs the timer
		timer *time.Timer
		ended bool
		seen  = l.progress.Load()
	)
	mu.Lock()
	timer = time.AfterFunc(timeout, func() {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return
		}
		if now := l.progress.Load(); now != seen {
			seen = now
			timer.Reset(timeout)
			return
		}
		cancel(fmt.Errorf("%w for %v", ErrStalled, timeout))
	})
	mu.Unlock()
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		ended = true
		timer.Stop()
	}()
	err := call(ctx)
	if err != nil && errors.Is(context.Cause(ctx), ErrStalled) {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}
