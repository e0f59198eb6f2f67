package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/link"
	"github.com/pglockstep/lockstep/triggers"
)

func (b *bench) largeTable(ctx context.Context, rows int) error {
	if err := b.accountTables(ctx, rows, "fillfactor = 100", "large"); err != nil {
		return err
	}
	return triggers.Install(ctx, b.pool, triggers.Options{}, "public.large")
}

// byHand is a row function of the user's own.
func byHand(row pgx.CollectableRow) (a account, err error) {
	err = row.Scan(&a.ID, &a.Manager, &a.Balance, &a.Note)
	return a, err
}

// discard throws away what COPY brings.
type discard struct{ n int64 }

func (d *discard) Write(p []byte) (int, error) {
	d.n += int64(len(p))
	return len(p), nil
}

// copyOut is the floor of loading: COPY BINARY thrown away.
func copyOut(ctx context.Context, conn *pgx.Conn, table string) (time.Duration, error) {
	began := time.Now()
	_, err := conn.PgConn().CopyTo(ctx, &discard{}, "copy "+table+" to stdout (format binary)")
	return time.Since(began), err
}

// load: a node's first load against COPY BINARY thrown away, and against pgx.CollectRows.
func load(ctx context.Context, b *bench) error {
	if err := b.largeTable(ctx, b.rows); err != nil {
		return err
	}
	rate := map[string]series{}
	add := func(name string, took time.Duration) {
		rate[name] = append(rate[name], float64(b.rows)/took.Seconds())
	}
	for range b.rounds {
		took, err := b.loadByOthers(ctx)
		if err != nil {
			return err
		}
		add("copy", took[0])
		add("collect", took[1])
		for name, t := range map[string]*lockstep.Table[int, account]{
			"tags": accountsTable("public.large"),
			"hand": accountsTable("public.large", lockstep.WithRow[int](byHand, "id", "manager", "balance", "note")),
		} {
			d, err := b.loadOnce(ctx, t)
			if err != nil {
				return err
			}
			add(name, d)
		}
	}
	n := grouped(int64(b.rows)) + " rows"
	b.ratio("cold load of "+n+", row function / COPY BINARY", "rows/s of a node's load on one connection with a row function that calls Scan, and of COPY (FORMAT BINARY) thrown away", rate["hand"].over(rate["copy"]), atLeast(0.5))
	b.ratio("cold load of "+n+", db tags / pgx.CollectRows", "rows/s of a node's load with the default mapping, and of pgx.CollectRows with RowToStructByName", rate["tags"].over(rate["collect"]), atLeast(1.5))
	for _, l := range []struct{ key, name string }{{"copy", "COPY BINARY thrown away"}, {"collect", "pgx.CollectRows, RowToStructByName"}, {"hand", "a node's load, row function"}, {"tags", "a node's load, db tags"}} {
		b.value("loading "+n+": "+l.name, "rows/s", "over TCP on loopback, on one connection", rate[l.key], nil)
	}
	return nil
}

func (b *bench) loadByOthers(ctx context.Context) (took [2]time.Duration, err error) {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return took, err
	}
	defer conn.Release()
	if took[0], err = copyOut(ctx, conn.Conn(), "large"); err != nil {
		return took, err
	}
	began := time.Now()
	rows, _ := conn.Query(ctx, "select id, manager, balance, note from large") // the error comes with the rows
	_, err = pgx.CollectRows(rows, pgx.RowToStructByName[account])
	took[1] = time.Since(began)
	return took, err
}

// loadOnce is what a node takes to load a table.
func (b *bench) loadOnce(ctx context.Context, t *lockstep.Table[int, account]) (time.Duration, error) {
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench-load", Register: -1}, t)
	if err != nil {
		return 0, err
	}
	return node.Status().Loads[0].Took, node.Close(ctx)
}

// cut is a node that can be cut off, and the cuts with which it comes back.
type cut struct {
	node *lockstep.Node
	link link.Link
	pool *pgxpool.Pool
	back chan lockstep.Cut
}

func (b *bench) newCut(ctx context.Context, table lockstep.AnyTable) (*cut, error) {
	c := &cut{back: make(chan lockstep.Cut, 16)}
	cfg, err := pgxpool.ParseConfig(b.server.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	c.link.Through(cfg)
	if c.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, err
	}
	c.node, err = lockstep.Start(ctx, c.pool, lockstep.Config{Name: "bench-cut", Register: -1, OnCut: func(cut lockstep.Cut) {
		if cut.Replay || cut.Reason != "" {
			c.back <- cut
		}
	}}, table)
	if err != nil {
		c.pool.Close()
		return nil, err
	}
	<-c.back // its first load
	if err := b.touch(ctx, c.node); err != nil {
		return nil, errors.Join(err, c.close(ctx))
	}
	return c, nil
}

// touch has a node apply something: before that its position is not proved by
// anything that it has read, and it would load again.
func (b *bench) touch(ctx context.Context, node *lockstep.Node) error {
	return errors.Join(b.exec(ctx, "update large set balance = balance where id = 1"), node.Barrier(ctx))
}

func (c *cut) close(ctx context.Context) error {
	err := c.node.Close(ctx)
	c.pool.Close()
	return err
}

// misses runs SQL while the node is cut off, and returns the cut with which it
// came back, the processor time that this took it, and an error if it loaded again.
func (c *cut) misses(ctx context.Context, write func() error) (lockstep.Cut, time.Duration, error) {
	if err := c.off(ctx); err != nil {
		return lockstep.Cut{}, 0, err
	}
	if err := write(); err != nil {
		return lockstep.Cut{}, 0, err
	}
	cpu := ownCPU()
	c.link.Heal()
	late := time.NewTimer(10 * time.Minute)
	defer late.Stop()
	select {
	case got := <-c.back:
		if !got.Replay {
			return got, 0, fmt.Errorf("the node loaded again (%s): %+v", got.Reason, c.node.Status())
		}
		return got, ownCPU() - cpu, nil
	case <-late.C:
		return lockstep.Cut{}, 0, fmt.Errorf("the node did not come back: %+v", c.node.Status())
	case <-ctx.Done():
		return lockstep.Cut{}, 0, ctx.Err()
	}
}

// off cuts the node off, and returns when it has noticed.
func (c *cut) off(ctx context.Context) error {
	if err := c.node.Barrier(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	before := c.node.Status().Failures
	c.link.Cut()
	for c.node.Status().Failures == before {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// shares of a table's rows that are missed, in thousandths.
var shares = []int{1, 10, 100, 1000}

// catchUp: a node that missed changes of some of the rows, against loading again.
func catchUp(ctx context.Context, b *bench) (err error) {
	if err := b.largeTable(ctx, b.rows); err != nil {
		return err
	}
	c, err := b.newCut(ctx, accountsTable("public.large"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close(ctx)) }()
	again, missed, rate := series{}, map[int]series{}, series{}
	list := shares
	if b.quick {
		list = []int{10, 1000}
	}
	for round := range b.rounds {
		for i := range list {
			share := list[(i+round)%len(list)]
			got, cpu, err := c.misses(ctx, func() error {
				return b.exec(ctx, fmt.Sprintf("update large set balance = balance + 1 where id %% 1000 < %d", share))
			})
			if err != nil {
				return err
			}
			missed[share] = append(missed[share], ms(got.At.Sub(got.Began)))
			if share == 1000 {
				if cpu > 0 {
					rate = append(rate, float64(got.Events)/cpu.Seconds())
				}
				if err := b.exec(ctx, "vacuum large"); err != nil {
					return err
				}
			}
		}
		d, err := b.loadOnce(ctx, accountsTable("public.large"))
		if err != nil {
			return err
		}
		again = append(again, ms(d))
	}
	b.sayCatchUp(again, missed, rate)
	if b.quick {
		return nil
	}
	spent := spending{}
	for range b.rounds {
		err := spent.watch(func() error {
			_, _, err := c.misses(ctx, func() error { return b.exec(ctx, "update large set balance = balance + 1") })
			return err
		})
		if err := errors.Join(err, b.exec(ctx, "vacuum large")); err != nil {
			return err
		}
	}
	spent.say(b, whileCatchingUp, "a replay of "+grouped(int64(b.rows))+" events")
	return nil
}

func (b *bench) sayCatchUp(again series, missed map[int]series, rate series) {
	n := grouped(int64(b.rows)) + " rows"
	for _, share := range shares {
		if len(missed[share]) == 0 {
			continue
		}
		var t *target
		if share == 10 {
			t = atMost(1.0 / 25)
		}
		name := fmt.Sprintf("catching up with %s%% of %s", number(float64(share)/10), n)
		b.ratio(name+" / loading again", "from the beginning of the fetch to the published cut: the replay of one missed UPDATE of so many rows, and a load of all", missed[share].over(again), t)
		b.value(name, "ms", "the replay alone", missed[share], nil)
		b.place("catching up against missed events", "replay", float64(b.rows*share/1000), "ms", missed[share])
		b.place("catching up against missed events", "loading again", float64(b.rows*share/1000), "ms", again)
	}
	b.value("loading "+n+" again", "ms", "another node's load", again, nil)
	b.value("replay on one core", "events/s", "events of the largest cut by this process' processor time from reconnecting until it is published: receiving, decoding, applying, collecting garbage", rate, atLeast(300_000))
}
