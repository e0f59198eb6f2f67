//go:build unix

package robust

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/triggers"
)

// exhausted takes all connections while nodes have to make new ones.
func exhausted(ctx context.Context, w *world) error {
	var held []*pgx.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close(context.WithoutCancel(ctx)) // it may be broken
		}
	}()
	end := time.Now().Add(w.outage())
	for time.Now().Before(end) {
		connecting, cancel := context.WithTimeout(ctx, 2*time.Second)
		c, err := pgx.Connect(connecting, w.forger)
		cancel()
		if err == nil {
			held = append(held, c)
			continue
		}
		if len(held) > 0 && !held[0].IsClosed() {
			// As the superuser, for whom a few connections are kept.
			if err := w.sql(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'lockstep%'"); err != nil {
				return nil //nolint:nilerr // none is to be had, which is what was wanted
			}
		}
		pause.For(ctx, 50*time.Millisecond)
	}
	return nil
}

// timeouts makes new sessions die young, unless they see to it themselves.
func timeouts(ctx context.Context, w *world) error {
	names := []string{"statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout", "idle_session_timeout"}
	if w.server.Version() >= 170000 {
		names = append(names, "transaction_timeout")
	}
	set := ""
	for _, n := range names {
		set += "alter database run set " + n + " = '40ms'; "
	}
	err := w.sql(ctx, set+"select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'lockstep%'")
	pause.For(ctx, w.outage())
	admin := w.server.DSN("postgres")
	return errors.Join(err, w.on(ctx, admin, func(conn *pgx.Conn) error {
		for _, n := range names {
			if _, err := conn.Exec(ctx, "alter database run reset "+n); err != nil {
				return err
			}
		}
		return nil
	}))
}

// idler writes and then does nothing for long, while other faults go on.
func idler(_ context.Context, w *world) error {
	idle, n := w.between(w.cfg.Idle/2, w.cfg.Idle), w.rng.IntN(1000)
	w.background.Go(func() {
		ctx := w.trouble // it outlives this fault
		err := w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, fmt.Sprintf("set lock_timeout = '2s'; begin; insert into echo (id, stamp) values (%d, 's' || nextval('stamps')) on conflict (id) do update set stamp = excluded.stamp", 1000+n)); err != nil {
				return err
			}
			pause.For(ctx, idle)
			_, err := conn.Exec(ctx, "commit")
			return err
		})
		if err != nil {
			w.cfg.Logf("the idle writer has ended: %v", err) // with its server, as a rule
		}
	})
	return nil
}

// diskFull leaves the server no room for a while. It may end by it.
func diskFull(ctx context.Context, w *world) error {
	if w.disk == nil {
		return errNotRun
	}
	end := func() error {
		free, err := w.disk.fill()
		if err != nil {
			return err
		}
		// Until a write has failed, or the server has ended by it: what fails is written by hand.
		for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
			if err := w.sql(ctx, "create table filler as select repeat(md5(i::text), 30) from generate_series(1, 300000) i"); err != nil {
				break
			}
			if err := w.sql(ctx, "drop table filler"); err != nil {
				break
			}
		}
		pause.For(ctx, w.between(0, 500*time.Millisecond))
		return errors.Join(free(), w.server.Kill())
	}
	return w.crash(ctx, end, 0)
}

// clockJumps puts one node's time of day forward or back, and leaves it there.
func clockJumps(_ context.Context, w *world) error {
	if w.cfg.Program == "" {
		return errors.New("not run: the node's program is not one whose clock can be shifted")
	}
	return w.some().shift(w.between(-30*24*time.Hour, 30*24*time.Hour))
}

// queueFull fills the queue of all notifications, behind a listener that does not listen.
func queueFull(ctx context.Context, w *world) error {
	if w.server.Version() < 170000 {
		return errors.New("not run: before PostgreSQL 17 the queue has 8 GB")
	}
	return w.on(ctx, w.dsn, func(stuck *pgx.Conn) error {
		if _, err := stuck.Exec(ctx, "listen elsewhere; begin; select 1"); err != nil {
			return err
		}
		err := w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
			for i := 0; ; i++ {
				_, err := conn.Exec(ctx, "select pg_notify('elsewhere', repeat('x', 7000) || $1::int)", i)
				var full *pgconn.PgError
				if errors.As(err, &full) && full.Code == "54000" {
					return nil
				}
				if err != nil {
					return err
				}
			}
		})
		pause.For(ctx, w.outage())
		return err
	})
}

// errNotRun: this fault cannot be made here.
var errNotRun = errors.New("not run: no file system of its own could be mounted for the server")

// slotsTaken leaves nodes that want a slot none for a while.
func slotsTaken(ctx context.Context, w *world) error {
	if w.cfg.Bell != triggers.BellWAL {
		return errors.New("not run: no node wants one")
	}
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		// What the fault makes is temporary: it goes with the connection.
		for i, end := 0, time.Now().Add(w.outage()); time.Now().Before(end); i++ {
			_, err := conn.Exec(ctx, fmt.Sprintf("select pg_create_physical_replication_slot('taken_%d', false, true)", i))
			var full *pgconn.PgError
			if errors.As(err, &full) && full.Code == "53400" {
				_, err = conn.Exec(ctx, "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name like 'lockstep%'")
				pause.For(ctx, 10*time.Millisecond)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
