//go:build unix

package robust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// faults are what can be done to a run. Each does it, lets it last, and heals it; its error says that the
// test could not do it, and not that a promise was broken.
var faults = map[string]func(context.Context, *world) error{
	"the server is killed": func(ctx context.Context, w *world) error {
		return w.crash(ctx, w.server.Kill, w.between(0, time.Second))
	},
	"the server is killed and loses its tail": lostTail,
	"the server stops at once": func(ctx context.Context, w *world) error {
		return w.crash(ctx, func() error { return w.server.Halt(pgserver.Immediate) }, w.between(0, time.Second))
	},
	"the server is shut down": func(ctx context.Context, w *world) error {
		return w.crash(ctx, func() error { return w.server.Halt(pgserver.Fast) }, w.between(0, time.Second))
	},
	"listening backends are terminated": func(ctx context.Context, w *world) error {
		return w.sql(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep bell'")
	},
	"fetching backends are terminated in the middle of a cut": midCut,
	"one node's packets are dropped":                          toxic(1, "timeout", `"timeout": 0`),
	"two nodes' packets are dropped":                          toxic(2, "timeout", `"timeout": 0`),
	"all nodes' packets are dropped":                          toxic(9, "timeout", `"timeout": 0`),
	"one node's network is slow":                              toxic(1, "latency", `"latency": 150, "jitter": 100`),
	"one node's network is narrow":                            toxic(1, "bandwidth", `"rate": 20`),
	"all nodes' packets are sliced":                           toxic(9, "slicer", `"average_size": 50, "size_variation": 40, "delay": 2000`),
	"two nodes' connections are reset":                        toxic(2, "reset_peer", `"timeout": 0`),
	"all nodes' connections are refused":                      refused,
	"a node is stopped, trimmed past, and goes on":            stopped,
	"a node is killed and started again":                      killed,
	"the outbox is trimmed":                                   trimmed,
	"the outbox is trimmed under a long writer":               longWriter,
	"the bell is held by an open transaction":                 bellHeld,
	"ringers fail at commit":                                  ringersFail,
	"connections are exhausted":                               exhausted,
	"timeouts are set for everybody":                          timeouts,
	"a writer idles in its transaction":                       idler,
	"one transaction of many rows":                            manyRows,
	"tables are emptied while a node loads":                   truncateWhileLoading,
	"forged notifications flood the channel":                  forged,
	"nonsense is put into the outbox":                         nonsense,
	"a new history begins":                                    newHistory,
	"the disk is full":                                        diskFull,
	"the notification queue is full":                          queueFull,
	ClockJumps:                                                clockJumps,
}

// ClockJumps is the fault that needs a Config.Program.
const ClockJumps = "a node's clock jumps"

// Faults are the names of all faults, in order.
func Faults() []string {
	var names []string
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// outage draws how long something lasts: long enough for "live" to be over in half of the cases.
func (w *world) outage() time.Duration { return w.between(200*time.Millisecond, 2*time.Second) }

// toxic gives some nodes a bad network for a while.
func toxic(nodes int, kind, attributes string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		order := w.rng.Perm(len(w.nodes))
		var err error
		for _, i := range order[:min(nodes, len(order))] {
			err = errors.Join(err, w.nodes[i].toxic(kind, attributes))
		}
		pause(ctx, w.outage())
		return errors.Join(err, w.heal(ctx))
	}
}

// heal gives every node its network back.
func (w *world) heal(ctx context.Context) (err error) {
	for _, p := range w.nodes {
		err = errors.Join(err, p.heal(context.WithoutCancel(ctx)))
	}
	return err
}

func refused(ctx context.Context, w *world) error {
	for _, p := range w.nodes {
		p.proxy.Stop()
	}
	pause(ctx, w.outage())
	return w.heal(ctx)
}

// lostTail kills the server when nobody has waited for the disk for a while: commits that were visible,
// and that nodes have applied, are gone, and their ids are given out again.
func lostTail(ctx context.Context, w *world) error {
	w.gate.Lock()
	defer w.gate.Unlock()
	holding, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, p := range w.nodes {
		if err := p.tell("hold"); err != nil {
			return err
		}
	}
	defer func() {
		for _, p := range w.nodes {
			_ = p.tell("go on") // one that has ended is found out later
		}
	}()
	for _, p := range w.nodes {
		if err := p.await(holding, "held"); err != nil {
			return err
		}
	}
	pause(ctx, w.between(50*time.Millisecond, 400*time.Millisecond))
	return w.crash(ctx, w.server.Kill, w.between(0, 300*time.Millisecond))
}

// midCut terminates fetching backends for as long as they answer with a large cut.
func midCut(ctx context.Context, w *world) error {
	for range 3 {
		if err := w.bulk(ctx, 20_000); err != nil {
			return err
		}
		for range 5 {
			err := w.sql(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep fetch' and state = 'active'")
			if err != nil {
				return err
			}
			pause(ctx, 20*time.Millisecond)
		}
	}
	return nil
}

// bulk fills table bulk in one transaction, or empties it if it is full, and is its own witness.
func (w *world) bulk(ctx context.Context, rows int) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			for _, sql := range []string{
				"lock table bulk in share row exclusive mode",
				fmt.Sprintf("create temp table full_now on commit drop as select exists (select from bulk) as yes"),
				"delete from bulk where (select yes from full_now)",
				fmt.Sprintf("insert into bulk (id, v, stamp) select i, i, 'bulk' from generate_series(1, %d) i where not (select yes from full_now)", rows),
				`insert into witness (xid, tbl, id, state) select pg_current_xact_id()::text::bigint, 'bulk', 0, '0,' || nullif(count(*), 0) || ',bulk,0:' from bulk`,
			} {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return nil
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
			pause(ctx, w.between(50*time.Millisecond, 400*time.Millisecond))
			if err := w.trim(ctx, everything); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, "commit")
		return err
	})
}

// stopped stops a node's process, trims past it, and lets it go on.
func stopped(ctx context.Context, w *world) error {
	p := w.some()
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pause(ctx, w.outage())
	err := w.trim(ctx, everything)
	return errors.Join(err, p.signal(syscall.SIGCONT))
}

func killed(ctx context.Context, w *world) error {
	p := w.some()
	if err := p.kill(); err != nil {
		return err
	}
	pause(ctx, w.between(0, 500*time.Millisecond))
	return p.start(w)
}

// truncateWhileLoading starts a node again and again while tables are emptied and filled.
func truncateWhileLoading(ctx context.Context, w *world) error {
	p := w.some()
	if err := p.kill(); err != nil {
		return err
	}
	if err := p.start(w); err != nil {
		return err
	}
	for i := range 25 {
		err := w.sql(ctx, fmt.Sprintf("set lock_timeout = '200ms'; begin; truncate part; insert into part (id, v, stamp) select i, %d, 's' || nextval('stamps') from generate_series(1, 30) i; commit", i))
		if err != nil && !strings.Contains(err.Error(), "55P03") && !strings.Contains(err.Error(), "40P01") {
			return err
		}
		pause(ctx, 20*time.Millisecond)
	}
	return nil
}

// bellHeld rings at once, and holds the lock without which nobody else rings.
func bellHeld(ctx context.Context, w *world) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "set lock_timeout = '2s'; begin; insert into echo (id, stamp) values (501, 's' || nextval('stamps')) on conflict (id) do update set stamp = excluded.stamp; set constraints all immediate")
		if err != nil {
			return err
		}
		pause(ctx, w.outage())
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
		pause(ctx, 50*time.Millisecond)
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
	pause(ctx, w.outage())
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
			pause(ctx, idle)
			_, err := conn.Exec(ctx, "commit")
			return err
		})
		if err != nil {
			w.cfg.Logf("the idle writer has ended: %v", err) // with its server, as a rule
		}
	})
	return nil
}

// forged sends what no transaction of ours has sent, as a role without rights.
func forged(ctx context.Context, w *world) error {
	return w.on(ctx, w.forger, func(conn *pgx.Conn) error {
		for i := range 300 {
			payload := []string{"''", "'-1'", "'9223372036854775807'", "'no number'", "repeat('x', 7999)", "chr(1) || '\\x00'", "'1e400'"}[i%7]
			_, err := conn.Exec(ctx, "select pg_notify('lockstep_' || (select oid from pg_namespace where nspname = 'lockstep'), "+payload+" || '') from generate_series(1, 3)")
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

// diskFull leaves the server no room for a while. It may end by it.
func diskFull(ctx context.Context, w *world) error {
	if w.disk == nil {
		return errNotRun
	}
	end := func() error {
		if err := w.disk.fill(); err != nil {
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
		pause(ctx, w.between(0, 500*time.Millisecond))
		err := w.disk.free()
		return errors.Join(err, w.server.Kill())
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
		pause(ctx, w.outage())
		return err
	})
}

// errNotRun: this fault cannot be made here.
var errNotRun = errors.New("not run: no file system of its own could be mounted for the server")
