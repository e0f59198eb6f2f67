package lockstep

import (
	"context"
	"strconv"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// Names of the packages below that an application meets.
type (
	// View is one instant of all tables: see Node.View.
	View = cache.View
	// TableView is a table in a View.
	TableView[K comparable, T any] = cache.TableView[K, T]
	// IndexView is an index in a View.
	IndexView[IK, K comparable, T any] = cache.IndexView[IK, K, T]
	// Change is one change of one row, as Table.Changes yields it.
	Change[K comparable, T any] = cache.Change[K, T]
	// RowChange is one change inside a Tx.
	RowChange = cache.RowChange
	// Tx is one transaction's changes across tables, as Node.Changes yields it.
	Tx = cache.Tx
	// Op is what a change did.
	Op = cache.Op
	// Position is the set of transactions that a node has applied.
	Position = outbox.Position
	// Token names a transaction: the proof of a write that any node can wait for.
	Token = outbox.Token
	// Cut describes a published state.
	Cut = replay.CutInfo
	// State is what a node is doing, or cannot do.
	State = replay.State
)

// What a Change did.
const (
	OpCurrent = cache.Current // the row was there when the subscription began
	OpLive    = cache.Live    // no row: all current rows have been given, what follows is new
	OpInsert  = cache.Insert
	OpUpdate  = cache.Update
	OpDelete  = cache.Delete
	OpReset   = cache.Reset // no row: forget everything; current rows and OpLive follow
)

// The states of a node.
const (
	Loading    = replay.Loading
	Live       = replay.Live
	Stale      = replay.Stale
	CatchingUp = replay.CatchingUp
	Resyncing  = replay.Resyncing
	Closed     = replay.Closed
)

// ParseToken reads what Token.String prints.
func ParseToken(s string) (Token, error) { return outbox.ParseToken(s) }

// TokenOf returns the token of the caller's own transaction, before its
// commit: hand it on once the commit has succeeded. It draws a transaction id.
// The role needs SELECT on meta in schema lockstep; where a node is at hand
// Node.TokenOf needs nothing.
func TokenOf(ctx context.Context, tx outbox.Querier) (Token, error) {
	return outbox.ReadToken(ctx, tx, "lockstep")
}

// CutOf returns the cut that a view stands at: its position, and when it was read.
func CutOf(v *View) Cut {
	c, _ := v.Meta().(Cut) // the zero Cut before the first load
	return c
}

func itoa(n int) string { return strconv.Itoa(n) }
