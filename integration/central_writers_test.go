package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// writer writes at random until its context ends.
type writer struct {
	conn     *pgx.Conn
	rng      *rand.Rand
	name     string
	prepared bool // two-phase commit
	idles    bool // sometimes sleeps inside a transaction
	version  int
	pace     <-chan struct{}
	commits  int
	failed   int // transactions that the server refused, as it should
}

// run returns nil when the context ends, or the first error that no
// application would expect: capture must never make a write fail.
func (w *writer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.pace:
		}
		err := w.transaction(ctx)
		var pgErr *pgconn.PgError
		switch {
		case err == nil:
			w.commits++
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &pgErr) && expected(pgErr.Code):
			w.failed++
		default:
			return fmt.Errorf("writer %s: %w", w.name, err)
		}
	}
}

// expected are the errors that such traffic gives itself: constraints,
// serialization failures and deadlocks, a row hit twice by one command, and
// locks not to be had in time, a TRUNCATE with triggers pending.
func expected(code string) bool {
	return strings.HasPrefix(code, "23") || strings.HasPrefix(code, "40") || code == "21000" || code == "27000" || code == "55P03" || code == "55006" || code == "42P10"
}

func (w *writer) transaction(ctx context.Context) error {
	settings := []string{"set timezone = 'Asia/Kolkata'", "set datestyle = 'German'", "set extra_float_digits = -3", "set search_path = public, pg_temp", "set standard_conforming_strings = off"}
	if w.rng.IntN(10) == 0 {
		if _, err := w.conn.Exec(ctx, settings[w.rng.IntN(len(settings))]); err != nil {
			return err
		}
	}
	level := []string{"read committed", "read committed", "read committed", "repeatable read", "serializable"}[w.rng.IntN(5)]
	if w.rng.IntN(4) == 0 { // a statement by itself
		return w.exec(ctx, w.statement())
	}
	if err := w.exec(ctx, "begin isolation level "+level); err != nil {
		return err
	}
	if err := w.inside(ctx); err != nil {
		_ = w.exec(context.WithoutCancel(ctx), "rollback") // the error is the one to tell
		return err
	}
	return nil
}

// inside does the work of a transaction that has begun, and ends it.
func (w *writer) inside(ctx context.Context) error {
	depth := 0
	for range 1 + w.rng.IntN(5) {
		switch w.rng.IntN(12) {
		case 0:
			depth++
			if err := w.exec(ctx, fmt.Sprintf("savepoint s%d", depth)); err != nil {
				return err
			}
		case 1:
			if depth > 0 {
				if err := w.exec(ctx, fmt.Sprintf("rollback to s%d", 1+w.rng.IntN(depth))); err != nil {
					return err
				}
				depth = 0
			}
		case 2:
			if w.idles && w.rng.IntN(2) == 0 { // idles with its transaction id
				if err := w.exec(ctx, "select pg_sleep(0.3)"); err != nil {
					return err
				}
			}
		}
		if err := w.exec(ctx, w.statement()); err != nil {
			return err
		}
	}
	switch n := w.rng.IntN(10); {
	case n == 0:
		return w.exec(ctx, "rollback")
	case n == 1 && !w.prepared:
		if err := w.exec(ctx, "set constraints all immediate"); err != nil {
			return err
		}
	case w.prepared && n < 4:
		return w.twoPhase(ctx)
	}
	return w.exec(ctx, "commit")
}

func (w *writer) twoPhase(ctx context.Context) error {
	gid := fmt.Sprintf("'%s-%d'", w.name, w.rng.Uint64())
	if err := w.exec(ctx, "prepare transaction "+gid); err != nil {
		return err
	}
	end := "commit prepared "
	if w.rng.IntN(4) == 0 {
		end = "rollback prepared "
	}
	// It must end, whatever becomes of the test: it holds locks.
	return w.exec(context.WithoutCancel(ctx), end+gid)
}

func (w *writer) exec(ctx context.Context, sql string) error {
	// A context that ends must not break the connection in the middle.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if rows, ok := strings.CutPrefix(sql, "copy:"); ok {
		_, err := w.conn.PgConn().CopyFrom(ctx, strings.NewReader(rows), "copy odd (k, n, t) from stdin")
		return err
	}
	_, err := w.conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// statement draws one client message.
func (w *writer) statement() string {
	k := func() int { return 1 + w.rng.IntN(20) }
	v := func() int { return w.rng.IntN(1000) }
	few := func() int { return 1 + w.rng.IntN(4) }
	f := fmt.Sprintf
	draw := []func() string{
		func() string {
			return f("insert into plain values (%d, %d, 'i') on conflict (id) do update set v = excluded.v", k(), v())
		},
		func() string {
			return f("insert into plain select g, %d from generate_series(%d, %d) g on conflict (id) do update set v = plain.v + 1", v(), k(), k())
		},
		func() string { return f("update plain set v = v + 1 where id %% %d = 0", few()) },
		func() string { return f("delete from plain where id = %d", k()) },
		func() string {
			return f("update plain set id = id + 100 where id = %d; update plain set id = id - 100 where id > 100", k())
		},
		func() string {
			return f("with d as (delete from plain where id = %[1]d returning id, v) insert into plain select id + 1, v from d on conflict do nothing", k())
		},
		func() string {
			return f("with d as (delete from plain where id = %[1]d returning *), i as (insert into plain values (%[2]d, 7) on conflict (id) do update set v = 7 returning id) update plain set v = v + 1 where id = %[3]d", k(), k(), k())
		},
		func() string { return f("select bump(id) from plain where id %% %d = 1", few()) },
		func() string { return f("update plain set v = bump(id) where id = %d", k()) },
		func() string {
			return f("insert into simple values (%d, %d) on conflict (id) do update set v = 1", k(), v())
		},
		func() string { return f("delete from simple where id = %d", k()) },
		func() string { return f("insert into ruled values (%d, %d)", k(), v()) },
		func() string { return f("delete from ruled where id = %d", k()) },
		func() string {
			return f(`insert into odd (k, "lead", "row", op, n, xid, seq, table_name) values (%d, true, 'x', 'U', %d, 1, 2, 'public.plain') on conflict (k) do update set n = excluded.n, "lead" = not odd."lead"`, k(), v())
		},
		func() string { return f("delete from odd where k %% 7 = %d", w.rng.IntN(7)) },
		func() string { return f("copy:%d\t%d\tcopied\n%d\t%d\tcopied\n", 100+v(), v(), 100+v(), v()) },
		func() string {
			return f("update odd set k = k + 1000 where k = %d and not exists (select from odd where k = %d)", k(), k()+1000)
		},
		func() string {
			return f("insert into parent values (%d, %d) on conflict (id) do update set v = excluded.v", k(), v())
		},
		func() string {
			return f("insert into child values (%d, %d, %d, %d) on conflict (id) do update set a = excluded.a, b = excluded.b", k(), v(), k(), k())
		},
		func() string { return f("delete from parent where id = %d", k()) },
		func() string { return f("delete from parent where id %% 5 = %d", w.rng.IntN(5)) },
		func() string { return f("update parent set id = id + 100 where id = %d", k()) },
		func() string { return f("update parent set id = id - 100 where id > 100 and id = %d", 100+k()) },
		func() string {
			return f("insert into pa values (%d) on conflict do nothing; insert into pb values (%d) on conflict do nothing", k(), k())
		},
		func() string {
			return f("insert into pair select a, b, %d from pa, pb where a %% 3 = 0 and b %% 3 = 0 on conflict do nothing", v())
		},
		func() string {
			return f("with x as (update pa set a = a + 100 where a = %d returning a) update pb set b = b + 100 where b = %d", k(), k())
		},
		func() string {
			return "with x as (update pa set a = a - 100 where a > 100 returning a) update pb set b = b - 100 where b > 100"
		},
		func() string { return f("delete from pa where a = %d", k()) },
		func() string {
			return f("insert into tree values (%d, (select id from tree where id < %d order by random() limit 1), %d) on conflict (id) do update set v = 3", k(), k(), v())
		},
		func() string { return f("update tree set id = id + 100 where id = %d", k()) },
		func() string { return f("delete from tree where id = %d or id > 100", k()) },
		func() string {
			return f("insert into part values (%d, %d, %d) on conflict (id, region) do update set v = excluded.v", k(), few(), v())
		},
		func() string {
			return f("update part set region = %d where id = %d and not exists (select from part p where p.id = part.id and p.region <> part.region)", few(), k())
		},
		func() string { return f("update part set v = v + 1 where id < %d", k()) },
		func() string { return f("delete from part_one where id = %d; delete from part where region = 3", k()) },
		func() string {
			return f(`insert into "Trig Ö" values (%d, %d) on conflict (id) do update set v = excluded.v`, k(), v())
		},
		func() string { return f(`insert into "Trig Ö" values (%d, %d)`, k(), v()) },
		func() string { return f(`update "Trig Ö" set v = v + %d where id %% %d = 0`, few(), few()) },
		func() string { return f(`delete from "Trig Ö" where id %% 6 = %d`, w.rng.IntN(6)) },
	}
	if w.version >= 150000 {
		draw = append(draw, func() string {
			return f("merge into plain p using (select %d as id, %d as v union select %d, 5) s on p.id = s.id when matched and s.v %% 2 = 0 then delete when matched then update set v = s.v when not matched then insert values (s.id, s.v)", k(), v(), k()+20)
		})
	}
	if w.rng.IntN(400) == 0 {
		return []string{"truncate plain", "truncate odd", "truncate part_two", "truncate part", `truncate "Trig Ö"`, "truncate parent cascade", "truncate plain; insert into plain values (1, 1)"}[w.rng.IntN(7)]
	}
	return draw[w.rng.IntN(len(draw))]()
}
