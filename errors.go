package lockstep

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/replay"
)

// What a write can come back with. Each error of a write matches exactly one
// of the first three with errors.Is.
var (
	// ErrNotCommitted: the write has no effect, and may be tried again.
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
	// ErrNoRow: an Update or Delete found no row of that key; nothing was committed.
	ErrNoRow = errors.New("lockstep: there is no row of that key")
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
	// it is ErrOutcomeUnknown and the id was known before the commit; else zero.
	Token Token
	// Err is the cause.
	Err error
}

// Error is one line: the outcome and the cause.
func (e *WriteError) Error() string { return fmt.Sprintf("lockstep: %v: %v", e.Outcome, e.Err) }

// Unwrap lets errors.Is and errors.As find the outcome and the cause.
func (e *WriteError) Unwrap() []error { return []error{e.Outcome, e.Err} }

// writeFailed sorts an error of a statement or a commit by what it says about
// the transaction. Where it says nothing, the outcome is unknown.
func writeFailed(err error, token Token) error {
	var done *WriteError
	if errors.As(err, &done) {
		return err
	}
	var pgErr *pgconn.PgError
	var connectErr *pgconn.ConnectError
	switch {
	case errors.As(err, &connectErr):
		return &WriteError{Outcome: ErrNotCommitted, Err: fmt.Errorf("%w: %w", ErrUnavailable, err)}
	case errors.As(err, &pgErr):
		switch pgErr.Code {
		case "25006", "42501":
			return &WriteError{Outcome: ErrNotCommitted, Err: fmt.Errorf("%w: %w", ErrReadOnly, err)}
		case "57P01", "57P02", "57P03", "08006", "08007", "40003":
			// The server went away, perhaps after it had committed.
			return &WriteError{Outcome: ErrOutcomeUnknown, Token: token, Err: err}
		}
		return &WriteError{Outcome: ErrNotCommitted, Err: err}
	case errors.Is(err, pgx.ErrTxCommitRollback), errors.Is(err, pgx.ErrTxClosed), errors.Is(err, ErrNoRow), pgconn.SafeToRetry(err):
		return &WriteError{Outcome: ErrNotCommitted, Err: err}
	}
	return &WriteError{Outcome: ErrOutcomeUnknown, Token: token, Err: err}
}

// notBegun is the error of a write that failed before anything was sent that
// could have committed.
func notBegun(err error) error {
	var pgErr *pgconn.PgError
	var done *WriteError
	switch {
	case errors.As(err, &done):
		return err
	case errors.As(err, &pgErr):
		return writeFailed(err, Token{})
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &WriteError{Outcome: ErrNotCommitted, Err: err}
	}
	return &WriteError{Outcome: ErrNotCommitted, Err: fmt.Errorf("%w: %w", ErrUnavailable, err)}
}
