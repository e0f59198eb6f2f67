package lockstep

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/line"
	"github.com/pglockstep/lockstep/replay"
)

// What a write can come back with. Each error of a write matches exactly one
// of the first three with errors.Is.
var (
	// ErrNotCommitted: the row was not written, and the write may be tried again.
	ErrNotCommitted = errors.New("not committed")
	// ErrOutcomeUnknown: the connection broke while the commit was under way.
	// Look before you write again: nothing is ever tried twice for you.
	ErrOutcomeUnknown = errors.New("commit outcome unknown")
	// ErrNotVisible: the write is committed, and this node had not applied it
	// when the wait ended. The *WriteError carries the token to wait on.
	ErrNotVisible = errors.New("committed, but not yet visible here")

	// ErrReadOnly comes with ErrNotCommitted: the role, the transaction or the server may not write.
	ErrReadOnly = errors.New("may not write")
	// ErrUnavailable comes with ErrNotCommitted: there is no connection to Postgres.
	ErrUnavailable = errors.New("Postgres cannot be reached") //nolint:staticcheck // a name
)

// Other errors that callers branch on.
var (
	// ErrNoRow comes with ErrNotCommitted: an Update or Delete found no row of
	// that key, or a trigger kept it from being deleted.
	ErrNoRow = errors.New("lockstep: there is no row of that key, or a trigger keeps it")
	// ErrSuppressed comes with ErrNotCommitted: a trigger of the table's kept the
	// row of a Put or an Update from being written.
	ErrSuppressed = errors.New("lockstep: a trigger kept the row from being written")
	// ErrRefused: the declaration does not allow this write; the text says why.
	ErrRefused = errors.New("lockstep: the table's declaration does not allow this write")
	// ErrClosed: the node is closed. Reads go on from what it had.
	ErrClosed = replay.ErrClosed
	// ErrHistory: a token of another history of the outbox, which says nothing any more.
	ErrHistory = replay.ErrHistory
	// ErrTable: a table is not kept up to date; the error around it says which and why.
	ErrTable = replay.ErrTable
	// ErrNotStarted: the table or the node has not been started.
	ErrNotStarted = errors.New("lockstep: not started: give the table to Start first")
)

// WriteError is the error of a write.
type WriteError struct {
	// Outcome is ErrNotCommitted, ErrOutcomeUnknown or ErrNotVisible.
	Outcome error
	// Token is the transaction's, where the outcome is ErrNotVisible, and where
	// it is ErrOutcomeUnknown and the id was known before the commit. With
	// ErrNotCommitted it is zero, unless a trigger kept the row and has
	// committed something else instead. Else zero.
	Token Token
	// Err is the cause.
	Err error
}

// Error is one line: the outcome and the cause.
func (e *WriteError) Error() string {
	return line.One(fmt.Sprintf("lockstep: %v: %v", e.Outcome, e.Err))
}

// Unwrap lets errors.Is and errors.As find the outcome and the cause.
func (e *WriteError) Unwrap() []error { return []error{e.Outcome, e.Err} }

// notCommitted is an error of a write that had no effect.
func notCommitted(err error) error {
	if done := (*WriteError)(nil); errors.As(err, &done) {
		return err
	}
	return &WriteError{Outcome: ErrNotCommitted, Err: err}
}

// notBegun is the error of a write before anything was sent that could have
// been committed.
func notBegun(ctx context.Context, err error) error {
	switch {
	case mayNotWrite(err):
		return notCommitted(fmt.Errorf("%w: %w", ErrReadOnly, err))
	case ctx.Err() != nil:
		return notCommitted(err)
	}
	return notCommitted(fmt.Errorf("%w: %w", ErrUnavailable, err))
}

// notSent is the error of a transaction whose commit was not sent. broken says
// that its connection has ended.
func notSent(ctx context.Context, err error, broken bool) error {
	switch {
	case mayNotWrite(err):
		err = fmt.Errorf("%w: %w", ErrReadOnly, err)
	case broken && ctx.Err() == nil:
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return notCommitted(err)
}

// sent sorts an error of a commit, or of a statement that commits itself, by
// what it says about the transaction. Where it says nothing the outcome is
// unknown. broken says that the connection has ended.
func sent(ctx context.Context, err error, token Token, broken bool) error {
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr):
		if endsServer(pgErr) {
			return &WriteError{Outcome: ErrOutcomeUnknown, Token: token, Err: err}
		}
		return notSent(ctx, err, false)
	case !broken:
		// Nothing was sent (a value that cannot be encoded), or the server has
		// answered, and with no error of its own: the commit was a rollback.
		return notCommitted(err)
	case pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed):
		// "Conn closed" calls itself safe to retry, and is what pgx makes of a
		// connection that broke while the answer to a commit was awaited.
		return notSent(ctx, err, true)
	}
	return &WriteError{Outcome: ErrOutcomeUnknown, Token: token, Err: err}
}

// mayNotWrite: a read-only transaction or server, or a right that the role lacks.
func mayNotWrite(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "25006" || pgErr.Code == "42501")
}

// endsServer reports whether an error may have come between a commit and the
// word of it: the server went away, or a pooler lost it.
func endsServer(err *pgconn.PgError) bool {
	switch err.Code {
	case "57P01", "57P02", "57P03", "40003":
		return true
	}
	return strings.HasPrefix(err.Code, "08") || err.SeverityUnlocalized == "PANIC"
}
