// Package bridge lets locksteptest start a node on a source of its own without
// the root package exporting how.
package bridge

import (
	"context"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// Writer takes the writes of a node that has no Postgres behind it. Tables are
// named by their index; keys and rows have the table's own types. It returns
// the token of the transaction that it made.
type Writer interface {
	Put(ctx context.Context, table int, row any) (outbox.Token, error)
	Update(ctx context.Context, table int, key any, fn func(old any) (any, error)) (outbox.Token, error)
	Delete(ctx context.Context, table int, key any) (outbox.Token, error)
}

// Start starts a node (a *lockstep.Node) on a source. The root package sets it
// when it is initialised. config is a lockstep.Config, tables are lockstep.AnyTables.
var Start func(ctx context.Context, src replay.Source, w Writer, config any, tables []any) (any, error)

// Key returns the key of a row of a table (a lockstep.AnyTable).
var Key func(table any, row any) any
