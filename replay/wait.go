package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pglockstep/lockstep/outbox"
)

// waiter waits for a fetch. It is in Engine.waiters until it has been answered.
type waiter struct {
	after  uint64        // the ordinal of the earliest fetch that may answer
	token  *outbox.Token // answered by a fetch whose snapshot covers it
	tables []int         // whose problems concern the waiter; nil: all
	done   chan error    // buffered
}

// Barrier returns once the cache holds everything that had been committed
// before the call. It waits for a fetch that begins after the call; callers
// that come before that fetch begins share it. It goes on waiting through
// reconnects until ctx ends; the error then wraps ctx's and the source's last.
// Where a table is not kept right the error is ErrTable and names it; the
// barrier holds for the others.
func (e *Engine) Barrier(ctx context.Context) error {
	return e.await(ctx, "barrier", &waiter{})
}

// WaitFor returns once the cache holds the token's transaction. A transaction
// that has not ended is waited for, one that was rolled back counts as held
// once it is over. A token of another history is ErrHistory, also if the
// history changes meanwhile. Other errors are those of Barrier.
//
// Like Barrier it waits for a fetch that begins after the call. A snapshot of
// before would not do, even if it covers the transaction's id: a server that has
// crashed since gives out again every id that had not reached its log, and
// the transaction may be the second one of that id.
func (e *Engine) WaitFor(ctx context.Context, t outbox.Token) error {
	return e.await(ctx, "wait for a transaction", &waiter{token: &t})
}

// Mark is a moment in the sequence of fetches: now. Whoever has a connection
// to the server at that moment, and writes on it, can be told by any fetch that
// begins after it: both are answered by the same run of the server.
func (e *Engine) Mark() Mark {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Mark{e.begun + 1}
}

// Mark is what Engine.Mark returns; the zero Mark is no moment.
type Mark struct{ after uint64 }

// WaitForSince is WaitFor, where the transaction was written on a connection
// that was there at the mark: a fetch that began after the mark may answer,
// although it began before the call.
func (e *Engine) WaitForSince(ctx context.Context, t outbox.Token, m Mark) error {
	return e.await(ctx, "wait for a transaction", &waiter{token: &t, after: m.after})
}

// Reload loads the tables again, by their index, or all of them where none is
// given, and returns once that is published. Readers are served the old state
// meanwhile, and subscribers see what differs. Where ctx ends earlier the
// tables are loaded all the same. Errors are those of Barrier, for these tables.
func (e *Engine) Reload(ctx context.Context, tables ...int) error {
	if len(tables) == 0 {
		for i := range e.tables {
			tables = append(tables, i)
		}
	}
	for _, i := range tables {
		if i < 0 || i >= len(e.tables) {
			return fmt.Errorf("replay: reload: there is no table %d", i)
		}
	}
	return e.await(ctx, "reload", &waiter{tables: tables})
}

func (e *Engine) await(ctx context.Context, what string, w *waiter) error {
	w.done = make(chan error, 1)
	if err := e.enlist(w); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case err := <-w.done: // answered in the same instant
		return err
	default:
	}
	delete(e.waiters, w)
	err := fmt.Errorf("replay: %s: %w", what, context.Cause(ctx))
	if last := e.sh.st.LastError; last != nil && e.sh.state != Live {
		err = fmt.Errorf("%w (last failure: %w)", err, last)
	}
	return err
}

// enlist registers the waiter and makes the engine's goroutine fetch.
func (e *Engine) enlist(w *waiter) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return ErrClosed
	case e.cancel == nil:
		return ErrNotStarted
	}
	if w.after == 0 {
		w.after = e.begun + 1
	}
	if w.token == nil {
		for _, i := range w.tables {
			e.want[i] = w.after
		}
	} else if answered, err := e.answer(w, e.completed); answered {
		w.done <- err
		return nil
	}
	e.waiters[w] = struct{}{}
	e.ask()
	return nil
}

// ask asks for a fetch. Caller holds mu.
func (e *Engine) ask() {
	select {
	case e.poke <- struct{}{}:
	default: // somebody has asked already
	}
}

// answer works out what the waiter is told now that the fetch of that ordinal
// is complete. Caller holds mu.
func (e *Engine) answer(w *waiter, completed uint64) (answered bool, err error) {
	if w.token == nil {
		return w.after <= completed, e.problems(w.tables)
	}
	loaded := !e.sh.st.Position.IsZero()
	switch {
	case !loaded || w.after > completed:
		return false, nil
	case w.token.History != e.sh.st.History:
		return true, fmt.Errorf("%w (token: %v, followed: %v)", ErrHistory, w.token.History, e.sh.st.History)
	}
	// The fetch's own snapshot and not the position, which is kept tight and
	// never covers a transaction that wrote no event.
	return e.sh.snapshot.Covers(w.token.Xid), e.problems(nil)
}

// release answers whoever the completed fetch answers. Caller holds mu.
func (e *Engine) release(completed uint64) {
	e.completed = completed
	for w := range e.waiters {
		if answered, err := e.answer(w, completed); answered {
			w.done <- err
			delete(e.waiters, w)
		}
	}
}

// problems joins what is wrong with the tables, all of them if tables is nil.
// Caller holds mu.
func (e *Engine) problems(tables []int) error {
	var errs []error
	for i := range e.sh.st.Tables {
		if p := e.sh.st.Tables[i].Problem; p != nil && (tables == nil || slices.Contains(tables, i)) {
			errs = append(errs, p)
		}
	}
	return errors.Join(errs...)
}

// tokensWait reports whether a token is still waited for: the transaction may
// end without ringing.
func (e *Engine) tokensWait() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.waiters {
		if w.token != nil {
			return true
		}
	}
	return false
}

// somebodyWaits reports whether anybody waits for a fetch.
func (e *Engine) somebodyWaits() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.waiters) > 0 || len(e.want) > 0 || e.attested.waits()
}
