package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pglockstep/lockstep/cache"
)

// Engine keeps a cache where the log is. Its methods may be called by any
// number of goroutines.
type Engine struct {
	cfg    Config
	store  *cache.Store
	src    Source
	tables []Table

	poke chan struct{} // somebody waits for a fetch; sent to and drained under mu
	done chan struct{} // closed when the engine's goroutine has ended

	mu        sync.Mutex
	sh        shared
	begun     uint64 // fetches begun; each fetch has its ordinal
	completed uint64 // the ordinal of the last fetch that was completed
	waiters   map[*waiter]struct{}
	attested  attested       // has a lock of its own
	want      map[int]uint64 // tables that Reload asked for, and the ordinal of the fetch that is to bring them
	sharing   []*sharing     // whom cuts are to be shared with, one after the other
	cancel    context.CancelFunc
	closed    bool
}

// New makes an engine that keeps the tables of the store. Index i of tables is
// the index by which the source knows the table. What is wrong with the
// declarations is joined in the error. The engine does not close the store.
func New(store *cache.Store, src Source, tables []Table, cfg Config) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	bad := []error{err}
	if store == nil {
		bad = append(bad, errors.New("replay: no store"))
	}
	if src == nil {
		bad = append(bad, errors.New("replay: no source"))
	}
	names := make(map[string]bool)
	for i, t := range tables {
		if t == nil {
			bad = append(bad, fmt.Errorf("replay: table %d is nil", i))
			continue
		}
		if names[t.Name()] {
			bad = append(bad, fmt.Errorf("replay: table %s is given twice", t.Name()))
		}
		names[t.Name()] = true
	}
	if err := errors.Join(bad...); err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, store: store, src: src, tables: tables,
		poke: make(chan struct{}, 1), done: make(chan struct{}),
		waiters: make(map[*waiter]struct{}), want: make(map[int]uint64),
	}
	e.sh.since = time.Now()
	e.sh.reason = "not started"
	for _, t := range tables {
		e.sh.st.Tables = append(e.sh.st.Tables, TableStatus{Name: t.Name()})
	}
	return e, nil
}

// Start connects and returns when the first load is complete. ctx bounds Start
// only. The first failure is final: everything is stopped, and the error holds
// the problems of all tables. Failures after Start has returned nil are met by
// connecting again, for as long as it takes.
func (e *Engine) Start(ctx context.Context) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.mu.Lock()
	if e.closed || e.cancel != nil {
		defer e.mu.Unlock()
		cancel()
		if e.closed {
			return ErrClosed
		}
		return errors.New("replay: the engine has been started before")
	}
	e.cancel = cancel
	e.sh.enter(Loading, "the first load is not complete", time.Now())
	e.mu.Unlock()

	first := make(chan error, 1)
	go newLoop(e, first).run(run)
	select {
	case err := <-first:
		if err != nil {
			<-e.done
		}
		return err
	case <-ctx.Done():
		reason := e.Status().Reason
		cancel()
		<-e.done
		return fmt.Errorf("replay: start: %w (%s)", context.Cause(ctx), reason)
	}
}

// Close stops the engine and waits until its goroutine has ended and its
// session is closed, or until ctx ends. Whoever waits for the engine gets
// ErrClosed. The cache stays readable. Closing again waits again.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	started := e.cancel != nil
	if started {
		e.cancel()
	}
	e.shut("closed by the application")
	e.mu.Unlock()
	if !started {
		return nil
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("replay: close: %w", context.Cause(ctx))
	}
}

// Invariant 11. shut ends all waiting and says that nothing moves any more. Caller holds mu.
func (e *Engine) shut(reason string) {
	e.closed = true
	if e.sh.state != Closed {
		e.sh.enter(Closed, reason, time.Now())
	}
	for w := range e.waiters {
		w.done <- ErrClosed
		delete(e.waiters, w)
	}
	e.endSharing()
}
