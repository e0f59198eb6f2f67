package main

import (
	"context"
	"fmt"
	"io"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/triggers"
)

func (b *bench) largeTable(ctx context.Context) error {
	err := b.exec(ctx, fmt.Sprintf(`drop table if exists large; create table large (id int primary key, manager int not null, balance bigint not null, note text not null);
		insert into large select i, i / 10, i, 'note of ' || i from generate_series(1, %d) i`, b.rows), "vacuum analyze large")
	if err != nil {
		return err
	}
	return triggers.Install(ctx, b.pool, triggers.Options{}, "public.large")
}

// byHand is a row function of the user's own.
func byHand(row pgx.CollectableRow) (a account, err error) {
	err = row.Scan(&a.ID, &a.Manager, &a.Balance, &a.Note)
	return a, err
}

// load: a node's first load against COPY BINARY thrown away, and against pgx.CollectRows.
func load(ctx context.Context, b *bench) error {
	if err := b.largeTable(ctx); err != nil {
		return err
	}
	key := func(a account) int { return a.ID }
	rate := map[string]series{}
	add := func(name string, took time.Duration) {
		rate[name] = append(rate[name], float64(b.rows)/took.Seconds())
	}
	for range b.rounds {
		conn, err := b.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		took, err := copyOut(ctx, conn.Conn(), "large")
		if err == nil {
			add("copy", took)
			began := time.Now()
			rows, _ := conn.Query(ctx, "select id, manager, balance, note from large") // the error comes with the rows
			_, err = pgx.CollectRows(rows, pgx.RowToStructByName[account])
			add("collect", time.Since(began))
		}
		conn.Release()
		if err != nil {
			return err
		}
		for name, t := range map[string]*lockstep.Table[int, account]{
			"tags": lockstep.NewTable("public.large", key),
			"hand": lockstep.NewTable("public.large", key, lockstep.WithRow[int](byHand, "id", "manager", "balance", "note")),
		} {
			node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench", Register: -1}, t)
			if err != nil {
				return err
			}
			add(name, node.Status().Loads[0].Took)
			if err := node.Close(ctx); err != nil {
				return err
			}
		}
	}
	line("rows/s, COPY BINARY thrown away", rate["copy"])
	line("rows/s, pgx.CollectRows by name", rate["collect"])
	line("rows/s, a node's load, row function", rate["hand"])
	line("rows/s, a node's load, db tags", rate["tags"])
	line("load by row function / COPY BINARY", rate["hand"].over(rate["copy"]))
	line("load by db tags / pgx.CollectRows", rate["tags"].over(rate["collect"]))
	return nil
}

// catchUp: a node that missed changes of 1% of the rows, against loading again.
func catchUp(ctx context.Context, b *bench) error {
	if err := b.largeTable(ctx); err != nil {
		return err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	proxy := toxiproxy.NewProxy(server, "bench", "127.0.0.1:0", b.server.Addr())
	if err := proxy.Start(); err != nil {
		return err
	}
	defer proxy.Stop()
	cfg, err := pgxpool.ParseConfig(b.server.DSN("postgres"))
	if err != nil {
		return err
	}
	var port uint16
	if _, err := fmt.Sscanf(proxy.Listen, "127.0.0.1:%d", &port); err != nil {
		return err
	}
	cfg.ConnConfig.Port = port
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	replayed := make(chan lockstep.Cut, 16)
	large := lockstep.NewTable("public.large", func(a account) int { return a.ID })
	node, err := lockstep.Start(ctx, pool, lockstep.Config{Name: "bench", Register: -1, OnCut: func(c lockstep.Cut) {
		if c.Replay {
			replayed <- c
		}
	}}, large)
	if err != nil {
		return err
	}
	defer func() { _ = node.Close(ctx) }() // the process ends
	var again, missed series
	for round := range b.rounds {
		proxy.Stop()
		if err := b.exec(ctx, fmt.Sprintf("update large set balance = balance + 1 where id %% 100 = %d", round)); err != nil {
			return err
		}
		if err := proxy.Start(); err != nil {
			return err
		}
		select {
		case c := <-replayed:
			missed = append(missed, c.At.Sub(c.Began).Seconds())
		case <-time.After(time.Minute):
			return fmt.Errorf("the node did not come back: %+v", node.Status())
		}
		fresh := lockstep.NewTable("public.large", func(a account) int { return a.ID })
		other, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench2", Register: -1}, fresh)
		if err != nil {
			return err
		}
		again = append(again, other.Status().Loads[0].Took.Seconds())
		if err := other.Close(ctx); err != nil {
			return err
		}
	}
	s := node.Status()
	line(fmt.Sprintf("seconds to catch up with 1%% of %d rows", b.rows), missed)
	line("seconds to load them", again)
	line("load / catch-up", again.over(missed))
	line("replays, events replayed, loads", fmt.Sprintf("%d, %d, %d", s.Replays, s.EventsReplayed, len(s.Loads)))
	return nil
}
