package replay

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pglockstep/lockstep/internal/line"
	"github.com/pglockstep/lockstep/outbox"
)

// What callers branch on, by errors.Is.
var (
	// ErrClosed is returned once the engine has been closed, or could not start.
	ErrClosed = errors.New("replay: the engine is closed")
	// ErrNotStarted is returned by what needs a running engine before Start was called.
	ErrNotStarted = errors.New("replay: the engine has not been started")
	// ErrHistory says that a token belongs to another history of the outbox
	// than the one that the engine follows: nobody can tell any more whether
	// its transaction is contained.
	ErrHistory = errors.New("replay: the token belongs to another history of the outbox")
	// ErrForeign says that the outbox holds an event of a transaction that this
	// server has not committed: the outbox was filled by replication.
	ErrForeign = errors.New("replay: the event's transaction is not one that this server has committed")
	// ErrMaxBytes says that a load or a cut would exceed Config.MaxBytes.
	ErrMaxBytes = errors.New("replay: the rows would take more memory than MaxBytes allows")
	// ErrTable says that a table cannot be kept right, while others can.
	ErrTable = errors.New("replay: the table is not kept up to date")
	// ErrStalled says that a call of the source made no progress for Config.FetchTimeout.
	ErrStalled = errors.New("replay: the source made no progress")
	// ErrBellLost says that the connection on which the bell rings has ended.
	ErrBellLost = errors.New("replay: the bell's connection has ended")
	// ErrSource says that a source broke the contract of Session or outbox.Sink.
	ErrSource = errors.New("replay: the source does not keep its contract")
)

// Error is everything that replay can say about what went wrong while it
// moved the cache. Err wraps one of the sentinels above, or what the source or
// the row function returned.
type Error struct {
	Op       string          // what was being done: "load", "apply", "catch up", "open", "check the anchor"
	Table    string          // the table that it is about, if it is about one
	Seq      int64           // the event that it is about, if it is about one
	Position outbox.Position // where the cache stood, and stands
	Err      error
	Hint     string // what the operator may do, if replay knows
}

// Error is one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("replay: ")
	b.WriteString(e.Op)
	if e.Table != "" {
		b.WriteString(": table " + e.Table)
	}
	if e.Seq != 0 {
		fmt.Fprintf(&b, ": event %d", e.Seq)
	}
	if !e.Position.IsZero() {
		b.WriteString(" (at " + e.Position.String() + ")")
	}
	b.WriteString(": " + strings.TrimPrefix(line.One(e.Err.Error()), "replay: "))
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// tableError says why a table is not kept right.
func tableError(op, table string, seq int64, cause error) *Error {
	return &Error{Op: op, Table: table, Seq: seq, Err: fmt.Errorf("%w: %w", ErrTable, cause)}
}

// CheckpointError says why an engine with Config.WarmOnly has not started.
type CheckpointError struct {
	Reason Reason // for which its position is worthless; "" where it is something else
	Err    error
}

// Error is one line.
func (e *CheckpointError) Error() string { return "replay: the checkpoint is not used: " + e.why() }

// Unwrap gives the cause.
func (e *CheckpointError) Unwrap() error { return e.Err }

func (e *CheckpointError) why() string {
	if e.Reason == "" {
		return e.Err.Error()
	}
	return string(e.Reason) + ": " + e.Err.Error()
}

// resyncError ends a fetch in whose header the engine has read that its
// position says nothing about this server any more.
type resyncError struct {
	reason Reason
	detail string
}

func (e *resyncError) Error() string { return "replay: resync: " + string(e.reason) + ": " + e.detail }
