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

// TrimOptions say what to keep. Whatever either limit gives up goes, but for what
// a living node still needs; the hard limits do not ask.
type TrimOptions struct {
	// Schema holds the outbox. Default "lockstep".
	Schema string
	// KeepAge is how old an event may become. Default 24 h.
	KeepAge time.Duration
	// KeepRows is how many events may be kept at the most. Default: any number.
	KeepRows int64
	// Spare is how long ago the last beat of a node may be for it to keep what
	// it has not fetched yet. Default 1 h; negative: no node is spared.
	Spare time.Duration
	// HardAge is how old an event may become whoever needs it. Default 7 times
	// KeepAge, but 24 h at least.
	HardAge time.Duration
	// HardRows is how many events may be kept whoever needs them. Default: any number.
	HardRows int64
	// KeepNewest events stay whatever their age: nodes prove their position
	// with them. Default 1,000.
	KeepNewest int
	// Step is how many events one transaction deletes at the most, but for one
	// transaction's events, which go together. Default 10,000.
	Step int
	// Turn, where it is set, leaves the work to whoever is at it already.
	Turn bool
}

func (o TrimOptions) withDefaults() (TrimOptions, error) {
	o.Schema = cmp.Or(o.Schema, "lockstep")
	o.KeepAge = cmp.Or(o.KeepAge, 24*time.Hour)
	o.KeepRows = cmp.Or(o.KeepRows, 1<<62)
	o.Spare = cmp.Or(o.Spare, time.Hour)
	o.HardAge = cmp.Or(o.HardAge, max(7*o.KeepAge, 24*time.Hour))
	o.HardRows = cmp.Or(o.HardRows, 1<<62)
	o.KeepNewest = cmp.Or(o.KeepNewest, 1000)
	o.Step = cmp.Or(o.Step, 10_000)
	if o.KeepAge < 0 || o.KeepRows < 0 || o.HardAge < 0 || o.HardRows < 0 || o.KeepNewest < 0 || o.Step < 0 {
		return o, errors.New("outbox: trim: a limit is negative")
	}
	return o, nil
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
	var done TrimResult
	o, err := o.withDefaults()
	if err != nil {
		return done, err
	}
	sql, err := psql.Render(files, "sql/trim_bound.sql", map[string]string{"schema": o.Schema})
	if err != nil {
		return done, fmt.Errorf("outbox: trim: %w", err)
	}
	soft, hard := limit{o.KeepAge, o.KeepRows, nil}, limit{o.HardAge, o.HardRows, nil}
	if o.Spare > 0 {
		soft.spare = &o.Spare
	}
	for _, l := range []limit{hard, soft} {
		for {
			n, horizon, err := trimStep(ctx, pool, o, l, sql)
			if err != nil {
				return done, fmt.Errorf("outbox: trim: %w", err)
			}
			if n > 0 {
				done.Deleted += n
				done.Steps++
				done.Horizon = horizon
			}
			if n < int64(o.Step) { // the rest must stay; what writers add meanwhile is for the next time
				break
			}
		}
	}
	return done, nil
}

// limit is what one pass keeps.
type limit struct {
	age   time.Duration
	rows  int64
	spare *time.Duration // the age of the beats of nodes that are spared; nil: none is
}

// trimTurn names the advisory lock that a trimmer with a turn holds.
const trimTurn = "lockstep trim"

// trimStep is one small transaction. Two trimmers take turns: the second finds
// the horizon's row locked, then what the first has left.
func trimStep(ctx context.Context, pool *pgxpool.Pool, o TrimOptions, l limit, bound string) (deleted int64, horizon uint64, err error) {
	outbox, row := pgx.Identifier{o.Schema, "outbox"}.Sanitize(), pgx.Identifier{o.Schema, "horizon"}.Sanitize()
	err = pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, psql.ByIndex); err != nil {
			return err
		}
		if mine, err := o.turn(ctx, tx); err != nil || !mine {
			return err
		}
		if _, err := tx.Exec(ctx, "select from "+row+" for update"); err != nil {
			return err
		}
		var limit *int64
		var seen int64
		err := tx.QueryRow(ctx, bound, l.age, l.rows, o.KeepNewest, o.Step, l.spare).Scan(&limit, &seen)
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

// turn takes the turn for the transaction, where turns are kept.
func (o TrimOptions) turn(ctx context.Context, tx pgx.Tx) (mine bool, err error) {
	if !o.Turn {
		return true, nil
	}
	err = tx.QueryRow(ctx, "select pg_try_advisory_xact_lock(hashtext($1), hashtext($2))", trimTurn, o.Schema).Scan(&mine)
	return mine, err
}
