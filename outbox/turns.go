package outbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"
)

// loadSlots is what the second halves of the advisory locks of loads begin
// with: "load" in ASCII. The first half is the schema's oid.
const loadSlots = 0x6c6f6164

// BusyError means that as many loads as Request.MaxLoads allows were running.
// The session may be asked again.
type BusyError struct {
	Limit   int
	Holders []string // who is loading, as far as the server tells: application name and process
}

// Error is one line.
func (e *BusyError) Error() string {
	return fmt.Sprintf("outbox: %d may load at a time, and %s are loading", e.Limit, strings.Join(e.Holders, ", "))
}

// turn takes one of the slots for the rest of the transaction, which is the
// load's own, so that a pooler cannot keep it. The snapshot has been taken by
// then, and nothing was read in it yet.
func (f *fetch) turn(ctx context.Context) error {
	for _, slot := range rand.Perm(f.req.MaxLoads) {
		var mine bool
		if err := f.conn.QueryRow(ctx, "select pg_catalog.pg_try_advisory_xact_lock($1, $2)", f.slotClass(), int32(loadSlots+slot)).Scan(&mine); err != nil {
			return fmt.Errorf("outbox: take a turn: %w", err)
		}
		if mine {
			return nil
		}
	}
	busy := &BusyError{Limit: f.req.MaxLoads}
	rows, err := f.conn.Query(ctx, f.src.sql.turns, int64(uint32(f.slotClass())), int64(loadSlots), int64(loadSlots+f.req.MaxLoads-1))
	if err == nil {
		busy.Holders, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return fmt.Errorf("outbox: ask who is loading: %w", err)
	}
	return busy
}

func (f *fetch) slotClass() int32 { return int32(uint32(f.at.schema)) }
