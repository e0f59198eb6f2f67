//go:build unix

package robust

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// bulk fills table bulk in one transaction, or empties it if it is full, and is its own witness.
func (w *world) bulk(ctx context.Context, rows int) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			var full bool
			if err := tx.QueryRow(ctx, "select exists (select from bulk)").Scan(&full); err != nil {
				return err
			}
			change := fmt.Sprintf("insert into bulk (id, v, stamp) select i, i, 'bulk' from generate_series(1, %d) i", rows)
			if full {
				change = "truncate bulk"
			}
			if _, err := tx.Exec(ctx, change); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `insert into witness (xid, tbl, id, state) select pg_current_xact_id()::text::bigint, 'bulk', 0, '0,' || nullif(count(*), 0) || ',bulk,0:' from bulk`)
			return err
		})
	})
}

func manyRows(ctx context.Context, w *world) error { return w.bulk(ctx, w.cfg.BulkRows) }

// trim removes all that may go, whoever needs it.
func (w *world) trim(ctx context.Context, o outbox.TrimOptions) error {
	pool, err := pgxpool.New(ctx, w.dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = outbox.Trim(ctx, pool, o)
	return err
}

var everything = outbox.TrimOptions{HardRows: 1, KeepNewest: 1, Spare: -1}

func trimmed(ctx context.Context, w *world) error {
	return w.trim(ctx, outbox.TrimOptions{KeepRows: 50, KeepNewest: 20})
}

// longWriter holds an old transaction id while all is trimmed that may be, and then commits.
func longWriter(ctx context.Context, w *world) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "set lock_timeout = '2s'; begin; insert into echo (id, stamp) values (500, 's' || nextval('stamps')) on conflict (id) do update set stamp = excluded.stamp"); err != nil {
			return err
		}
		for range 3 {
			pause.For(ctx, w.between(50*time.Millisecond, 400*time.Millisecond))
			if err := w.trim(ctx, everything); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, "commit")
		return err
	})
}

// bellHeld rings at once, and holds the lock without which nobody else rings.
func bellHeld(ctx context.Context, w *world) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "set lock_timeout = '2s'; begin; insert into echo (id, stamp) values (501, 's' || nextval('stamps')) on conflict (id) do update set stamp = excluded.stamp; set constraints all immediate")
		if err != nil {
			return err
		}
		pause.For(ctx, w.outage())
		_, err = conn.Exec(ctx, "commit")
		return err
	})
}

// ringersFail lets many transactions ring and then fail.
func ringersFail(ctx context.Context, w *world) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		for range 50 {
			_, err := conn.Exec(ctx, "set lock_timeout = '2s'; begin; insert into echo (id, stamp) values (502, 'forged') on conflict (id) do update set stamp = excluded.stamp; insert into doomed values (-1); commit")
			if err == nil {
				return errors.New("a transaction that was to fail at commit did not")
			}
			if conn.IsClosed() {
				return err
			}
			if _, err := conn.Exec(ctx, "rollback"); err != nil {
				return err
			}
		}
		return nil
	})
}

// forged sends what no transaction of ours has sent, as a role without rights.
func forged(ctx context.Context, w *world) error {
	var channel string // which a role without rights can guess
	err := w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select 'lockstep_' || 'lockstep.outbox'::regclass::oid").Scan(&channel)
	})
	if err != nil {
		return err
	}
	return w.on(ctx, w.forger, func(conn *pgx.Conn) error {
		for i := range 300 {
			payload := []string{"''", "'-1'", "'9223372036854775807'", "'no number'", "repeat('x', 7999)", "chr(1) || '\\x00'", "'1e400'"}[i%7]
			_, err := conn.Exec(ctx, "select pg_notify('"+channel+"', "+payload+" || '') from generate_series(1, 3)")
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// nonsense is written into the outbox by its owner, between rows that make sense.
func nonsense(ctx context.Context, w *world) error {
	rows := []string{
		`'public.item', 'U', '{"v":1,"stamp":"forged"}'`, `'public.item', 'U', '[]'`, `'public.item', 'Z', '{"id":1,"stamp":"forged"}'`,
		`'public.nowhere', 'I', '{"id":1,"stamp":"forged"}'`, `'', 'I', '{}'`, `'public.item', 'I', '{"id":"x","stamp":"forged"}'`, `'public.part', 'R', '{"id":"x"}'`,
	}
	row := rows[w.rng.IntN(len(rows))]
	return w.sql(ctx, fmt.Sprintf(`set lock_timeout = '2s'; begin;
		insert into echo (id, stamp) values (503, 's' || nextval('stamps')) on conflict (id) do update set stamp = excluded.stamp;
		insert into lockstep.outbox (table_name, op, row, lead) values (%s, false);
		update echo set v = v + 1, stamp = 's' || nextval('stamps') where id = 503; commit`, row))
}

func newHistory(ctx context.Context, w *world) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error { return triggers.NewHistory(ctx, conn, triggers.Options{}) })
}

// otherBell puts another bell in place for a while: nodes go over, and come back.
func otherBell(ctx context.Context, w *world) error {
	other := bells(w.cfg.Profile)[0]
	if other == w.cfg.Bell {
		other = bells(w.cfg.Profile)[1]
	}
	err := w.install(ctx, other)
	pause.For(ctx, w.outage())
	return errors.Join(err, w.install(ctx, w.cfg.Bell))
}
