package triggers

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNotInstalled means that the schema with the outbox is not there.
	ErrNotInstalled = errors.New("lockstep is not installed in this database")
	// ErrNewerSchema means that the schema was installed by a later version of this package.
	ErrNewerSchema = errors.New("the schema is of a later version than this program")
	// ErrPublished means that a publication FOR ALL TABLES would carry the schema to
	// subscribers that may not have it, and would stop.
	ErrPublished = errors.New("a publication would carry the outbox")
	// ErrReplica means that session_replication_role is not origin: what is
	// written to the schema in such a session is taken for another server's.
	ErrReplica = errors.New("the session writes as a replica")
	// ErrNoTable means that a table's name finds nothing, or is no name.
	ErrNoTable = errors.New("there is no such table")
	// ErrNotCaptured means that there is no capture to be taken off.
	ErrNotCaptured = errors.New("it is not captured")
	// ErrRefused means that a table cannot be kept right; the RefusedError around it says why.
	ErrRefused = errors.New("cannot be kept in lockstep")
	// ErrLocked means that a table's lock was not to be had in any of the tries.
	ErrLocked = errors.New("could not get the lock")
)

// RefusedError names a table that cannot be kept right, and every reason.
type RefusedError struct {
	Table   string
	Reasons []string
}

// Error is one line: the table and all its reasons.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("table %s cannot be kept in lockstep: %s", e.Table, strings.Join(e.Reasons, "; "))
}

// Unwrap lets errors.Is find ErrRefused.
func (e *RefusedError) Unwrap() error { return ErrRefused }
