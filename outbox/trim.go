package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/psql"
)

// TrimOptions say what to keep. Whatever either limit gives up goes.
type TrimOptions struct {
	// Schema holds the outbox. Default "lockstep".
	Schema string
	// KeepAge is how old an event may become. Default 24 h.
	KeepAge time.Duration
	// KeepRows is how many events may be kept at the most. Default: any number.
	KeepRows int64
	// KeepNewest events stay whatever their age: nodes prove their position
	// with them. Default 1,000.
	KeepNewest int
	// Step is how many events one transaction deletes at the most, but for one
	// transaction's events, which go together. Default 10,000.
	Step int
}

// TrimResult is what trimming did.
type TrimResult struct {
	Deleted int64
	Steps   int
	Horizon uint64 // 0: it did not move
}

// Trim deletes events that are old or too many, in small transactions each of
// which moves the horizon together with the rows. A node whose position is
// below the horizon loads its tables again. Only whole transactions go, oldest
// first, and never one that a transaction still in flight could be older than:
// under a long writer the outbox grows.
func Trim(ctx context.Context, pool *pgxpool.Pool, o TrimOptions) (TrimResult, error) {
	o.Schema = cmp.Or(o.Schema, "lockstep")
	o.KeepAge = cmp.Or(o.KeepAge, 24*time.Hour)
	o.KeepRows = cmp.Or(o.KeepRows, 1<<62)
	o.KeepNewest = cmp.Or(o.KeepNewest, 1000)
	o.Step = cmp.Or(o.Step, 10_000)
	var done TrimResult
	if o.KeepAge < 0 || o.KeepRows < 0 || o.KeepNewest < 0 || o.Step < 0 {
		return done, errors.New("outbox: trim: a limit is negative")
	}
	sql, err := psql.Render(files, "sql/trim_bound.sql", map[string]string{"schema": o.Schema})
	if err != nil {
		return done, fmt.Errorf("outbox: trim: %w", err)
	}
	for {
		n, horizon, err := trimStep(ctx, pool, o, sql)
		if err != nil {
			return done, fmt.Errorf("outbox: trim: %w", err)
		}
		if n == 0 {
			return done, nil
		}
		done.Deleted += n
		done.Steps++
		done.Horizon = horizon
	}
}

// trimStep is one small transaction. Two trimmers take turns: the second finds
// the horizon's row locked, then what the first has left.
func trimStep(ctx context.Context, pool *pgxpool.Pool, o TrimOptions, bound string) (deleted int64, horizon uint64, err error) {
	outbox, row := pgx.Identifier{o.Schema, "outbox"}.Sanitize(), pgx.Identifier{o.Schema, "horizon"}.Sanitize()
	err = pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local enable_seqscan = off"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "select from "+row+" for update"); err != nil {
			return err
		}
		var limit *int64
		var seen int64
		err := tx.QueryRow(ctx, bound, o.KeepAge, o.KeepRows, o.KeepNewest, o.Step).Scan(&limit, &seen)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && limit == nil {
			return nil
		}
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "delete from "+outbox+" where xid < $1", uint64(*limit))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		deleted, horizon = tag.RowsAffected(), uint64(*limit)
		_, err = tx.Exec(ctx, "update "+row+" set xid = greatest(xid, $1), moved = clock_timestamp()", horizon)
		return err
	})
	return deleted, horizon, err
}
