package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
)

// ErrNotShared means that the cut could not be made in the caller's snapshot:
// it had to read tables as well, or the session ended. Nothing is wrong with
// the engine; another cut may be asked for.
var ErrNotShared = errors.New("replay: the cut could not be shared")

// Shared is an instant that the cache and a transaction on the server show
// alike: the view's rows are those that the tables have in its snapshot.
type Shared struct {
	View     *cache.View // open; whoever has it closes it
	Position outbox.Position
	Snapshot outbox.Position
	History  uuid.UUID
	// Problems says of tables, by their index, why the view does not show them right.
	Problems map[int]error
}

// sharing is somebody who waits for a cut in a snapshot of theirs.
type sharing struct {
	ctx    context.Context
	export func(context.Context) (string, error)
	done   chan shareAnswer // buffered
}

type shareAnswer struct {
	shared *Shared
	err    error
}

// Share makes the next cut in a snapshot of the caller's. The engine calls
// export on its own goroutine, between two cuts; it takes the snapshot of a
// transaction that has locked the tables (ACCESS SHARE) and taken none before, and returns
// the name under which it is exported. Since nothing is fetched between that and
// the cut, the snapshot includes everything that was applied before, and
// the view shows what the transaction sees: no change in between has to be
// explained away. The transaction must stay open until Share returns.
//
// export holds up the engine, for one round trip. Its error is returned, and so
// are ErrNotShared, ErrClosed and ctx's. When Share has returned, export is not called any more.
func (e *Engine) Share(ctx context.Context, export func(context.Context) (string, error)) (*Shared, error) {
	s := &sharing{ctx: ctx, export: export, done: make(chan shareAnswer, 1)}
	e.mu.Lock()
	switch {
	case e.closed:
		e.mu.Unlock()
		return nil, ErrClosed
	case e.cancel == nil:
		e.mu.Unlock()
		return nil, ErrNotStarted
	}
	e.sharing = append(e.sharing, s)
	e.ask()
	e.mu.Unlock()
	select {
	case a := <-s.done:
		return a.shared, a.err
	case <-ctx.Done():
	}
	e.mu.Lock()
	i := slices.Index(e.sharing, s)
	if i >= 0 {
		e.sharing = slices.Delete(e.sharing, i, i+1)
	}
	e.mu.Unlock()
	if i < 0 { // it has been taken up: the fetch ends soon, and the view must be closed
		a := <-s.done
		return a.shared, a.err
	}
	return nil, fmt.Errorf("replay: share a cut: %w", context.Cause(ctx))
}

// ShareReading shares a cut with a reading that was begun without a snapshot, and
// describes the reading's tables in it. name is that under which the snapshot is exported. While it waits
// for the cut, for so long at the most, the tables are locked: whoever alters one waits too,
// and behind them everybody else. late is the error where that was not enough.
func (e *Engine) ShareReading(ctx context.Context, r *outbox.Reading, within time.Duration, late error) (s *Shared, name string, err error) {
	waiting, cancel := context.WithTimeoutCause(ctx, within, late)
	defer cancel()
	s, err = e.Share(waiting, func(ctx context.Context) (string, error) {
		var err error
		name, err = r.Export(ctx)
		return name, err
	})
	if err != nil {
		return nil, "", err
	}
	if err := r.Describe(ctx); err != nil {
		s.View.Close()
		return nil, "", err
	}
	return s, name, nil
}

// UntilShared tries again where a cut could not be shared: at once it would meet the
// same writers. Other errors are returned, as is the last one where ctx has ended.
func UntilShared(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if !errors.Is(err, ErrNotShared) || ctx.Err() != nil {
			return err
		}
		pause.For(ctx, min(time.Duration(n)*100*time.Millisecond, time.Second))
	}
}

// takeSharing is the next one to share a cut with, or nil.
func (e *Engine) takeSharing() *sharing {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sharing) == 0 {
		return nil
	}
	s := e.sharing[0]
	e.sharing = slices.Delete(e.sharing, 0, 1)
	return s
}

// nextSharing asks for a fetch for whoever is still waiting: one request may stand for several.
func (e *Engine) nextSharing() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sharing) > 0 {
		e.ask()
	}
}

// endSharing tells those whom no cut will be shared with any more. Caller holds mu.
func (e *Engine) endSharing() {
	for _, s := range e.sharing {
		s.done <- shareAnswer{err: ErrClosed}
	}
	e.sharing = nil
}

// share makes the attempt one in an exported snapshot, if somebody waits for
// that and the attempt reads the log only: whoever exports has not locked the
// tables that it would read.
func (l *loop) share(ctx context.Context, p *plan, req *outbox.Request) {
	s := p.sharing
	if s == nil {
		return
	}
	if len(req.Reload)+len(req.Reread) > 0 {
		p.unshared(nil)
		return
	}
	err := l.guard(ctx, l.cfg.FetchTimeout, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
		req.Snapshot, err = s.export(ctx)
		return err
	})
	if err != nil {
		req.Snapshot = ""
		p.sharing = nil
		s.done <- shareAnswer{err: fmt.Errorf("replay: share a cut: %w", err)}
	}
}

// unshared tells the one who waits for the plan's cut that it is not shared.
func (p *plan) unshared(err error) {
	s := p.sharing
	if s == nil {
		return
	}
	p.sharing = nil
	if err == nil {
		err = errors.New("tables had to be read as well")
	}
	s.done <- shareAnswer{err: fmt.Errorf("%w: %w", ErrNotShared, err)}
}

// shared hands over what was published just now, which is what the exported snapshot shows.
func (l *loop) shared(c *cut) {
	s := c.p.sharing
	if s == nil {
		return
	}
	c.p.sharing = nil
	got := &Shared{View: l.e.store.OpenView(), Position: l.pos, Snapshot: c.h.Snapshot, History: l.history, Problems: map[int]error{}}
	for i := range l.tables {
		if p := l.tables[i].problem; p != nil {
			got.Problems[i] = p
		}
	}
	s.done <- shareAnswer{shared: got}
}
