package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/triggers"
)

// account is the row that writers update.
type account struct {
	ID      int
	Manager int
	Balance int64
	Note    string
}

const accounts = 10_000

// writerTables makes three tables that are alike: untriggered, ours, and with
// the trigger that most tutorials show, which notifies at every row.
func (b *bench) writerTables(ctx context.Context) error {
	for _, t := range []string{"plain", "ours", "tutorial"} {
		err := b.exec(ctx, fmt.Sprintf(`drop table if exists %[1]s; create table %[1]s (id int primary key, manager int not null, balance bigint not null, note text not null) with (fillfactor = 50);
			insert into %[1]s select i, i / 10, 0, 'note of ' || i from generate_series(1, %[2]d) i`, t, accounts), "vacuum analyze "+t)
		if err != nil {
			return err
		}
	}
	err := b.exec(ctx, `create or replace function tell() returns trigger language plpgsql as $$
		begin perform pg_notify('tutorial', new.id || ', ' || new.manager); return null; end $$;
		create trigger tell after insert or update or delete on tutorial for each row execute function tell()`)
	if err != nil {
		return err
	}
	return triggers.Install(ctx, b.pool, triggers.Options{}, "public.ours")
}

// writes: what capture costs the writers, with one live node and one listener.
func writes(ctx context.Context, b *bench) error {
	if err := b.writerTables(ctx); err != nil {
		return err
	}
	ours := lockstep.NewTable("public.ours", func(a account) int { return a.ID })
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench"}, ours)
	if err != nil {
		return err
	}
	defer func() { _ = node.Close(ctx) }() // the process ends
	stop, err := b.listen(ctx, "tutorial", func(string) {})
	if err != nil {
		return err
	}
	defer stop()
	for _, writers := range []int{1, 16, 64} {
		rate := map[string]series{}
		for round := range b.rounds {
			for i := range 3 {
				table := []string{"plain", "ours", "tutorial"}[(i+round)%3]
				n, err := b.hammer(ctx, table, writers, "")
				if err != nil {
					return err
				}
				rate[table] = append(rate[table], n)
			}
		}
		b.sayRates(writers, "fsync on", rate)
		if err := node.Barrier(ctx); err != nil {
			return err
		}
	}
	rate := map[string]series{}
	for round := range b.rounds {
		for i := range 3 {
			table := []string{"plain", "ours", "tutorial"}[(i+round)%3]
			n, err := b.hammer(ctx, table, 1, "set synchronous_commit = off")
			if err != nil {
				return err
			}
			rate[table] = append(rate[table], n)
		}
	}
	line("1 writer, synchronous_commit off, time of a commit: ours / plain", rate["plain"].over(rate["ours"]))
	return nil
}

func (b *bench) sayRates(writers int, what string, rate map[string]series) {
	name := fmt.Sprintf("%d writers, %s", writers, what)
	for _, t := range []string{"plain", "ours", "tutorial"} {
		line(name+", commits/s, "+t, rate[t])
	}
	line(name+", ours / plain", rate["ours"].over(rate["plain"]))
	line(name+", ours / tutorial", rate["ours"].over(rate["tutorial"]))
}

// hammer updates random rows one by one and returns commits per second.
func (b *bench) hammer(ctx context.Context, table string, writers int, setup string) (float64, error) {
	var commits atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	end := began.Add(b.span)
	for range writers {
		wg.Go(func() {
			if err := b.write(ctx, table, setup, end, &commits); err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(commits.Load()) / time.Since(began).Seconds(), nil
}

func (b *bench) write(ctx context.Context, table, setup string, end time.Time, commits *atomic.Int64) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if setup != "" {
		if _, err := conn.Exec(ctx, setup); err != nil {
			return err
		}
		defer func() { _, _ = conn.Exec(ctx, "reset synchronous_commit") }()
	}
	sql := "update " + table + " set balance = balance + 1 where id = $1"
	for time.Now().Before(end) {
		if _, err := conn.Exec(ctx, sql, 1+rand.IntN(accounts)); err != nil {
			return err
		}
		commits.Add(1)
	}
	return nil
}

// listen hears a channel on a connection of its own.
func (b *bench) listen(ctx context.Context, channel string, heard func(payload string)) (stop func(), err error) {
	conn, err := pgx.Connect(ctx, b.server.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return nil, err
	}
	listening, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			n, err := conn.WaitForNotification(listening)
			if err != nil {
				return
			}
			heard(n.Payload)
		}
	}()
	return func() {
		cancel()
		<-done
		_ = conn.Close(context.WithoutCancel(ctx))
	}, nil
}

// statements: one statement of 100,000 rows.
func statements(ctx context.Context, b *bench) error {
	for _, t := range []string{"bulk_plain", "bulk_ours"} {
		err := b.exec(ctx, fmt.Sprintf(`drop table if exists %[1]s; create table %[1]s (id int primary key, manager int not null, balance bigint not null, note text not null);
			insert into %[1]s select i, i / 10, 0, 'note of ' || i from generate_series(1, 100000) i`, t), "vacuum analyze "+t)
		if err != nil {
			return err
		}
	}
	if err := triggers.Install(ctx, b.pool, triggers.Options{}, "public.bulk_ours"); err != nil {
		return err
	}
	took := map[string]series{}
	for range b.rounds {
		for _, t := range []string{"bulk_plain", "bulk_ours"} {
			began := time.Now()
			if err := b.exec(ctx, "update "+t+" set balance = balance + 1"); err != nil {
				return err
			}
			took[t] = append(took[t], time.Since(began).Seconds())
			if err := b.exec(ctx, "vacuum "+t); err != nil {
				return err
			}
		}
	}
	line("UPDATE of 100,000 rows, seconds, plain", took["bulk_plain"])
	line("UPDATE of 100,000 rows, seconds, ours", took["bulk_ours"])
	line("UPDATE of 100,000 rows, ours / plain", took["bulk_ours"].over(took["bulk_plain"]))
	return nil
}
