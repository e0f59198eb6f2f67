package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pause"
)

// crowd are nodes on one table, all in this process, each with connections of its own.
type crowd struct {
	config lockstep.Config // of each node, but for its name
	nodes  []*lockstep.Node
	tables []*lockstep.Table[int, account] // one of each node
	pool   *pgxpool.Pool
	wire   wire
}

// newCrowd has no nodes yet.
func (b *bench) newCrowd(ctx context.Context) (c *crowd, err error) {
	c = &crowd{}
	c.pool, err = c.wire.pool(ctx, b.server.DSN("postgres"))
	return c, err
}

// wire counts what goes over connections.
type wire struct {
	received atomic.Int64 // bytes that came from the server
	asks     atomic.Int64 // round trips: times that something was sent
}

// pool connects by the wire.
func (w *wire) pool(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	dial := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &counted{conn, w}, nil
	}
	return pgxpool.NewWithConfig(ctx, cfg)
}

// counted is a connection that is counted.
type counted struct {
	net.Conn

	wire *wire
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.received.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	c.wire.asks.Add(1)
	return c.Conn.Write(p)
}

// grow starts nodes until there are n, some at a time.
func (c *crowd) grow(ctx context.Context, n int, table string) error {
	for len(c.nodes) < n {
		some := min(8, n-len(c.nodes))
		nodes, tables, errs := make([]*lockstep.Node, some), make([]*lockstep.Table[int, account], some), make([]error, some)
		var all sync.WaitGroup
		for i := range some {
			cfg := c.config
			cfg.Name, cfg.MaxLoads = fmt.Sprint("bench", len(c.nodes)+i), -1
			tables[i] = accountsTable(table)
			all.Go(func() { nodes[i], errs[i] = lockstep.Start(ctx, c.pool, cfg, tables[i]) })
		}
		all.Wait()
		for i := range some {
			if errs[i] == nil {
				c.nodes, c.tables = append(c.nodes, nodes[i]), append(c.tables, tables[i])
			}
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) looks() (n uint64) {
	for _, node := range c.nodes {
		s := node.Status()
		n += s.Fetches + s.Stills
	}
	return n
}

func (c *crowd) close(ctx context.Context) error {
	errs := make([]error, len(c.nodes))
	var all sync.WaitGroup
	for i, node := range c.nodes {
		all.Go(func() { errs[i] = node.Close(ctx) })
	}
	all.Wait()
	c.pool.Close()
	return errors.Join(errs...)
}

// spent is what nodes asked of the server in some time.
type spent struct {
	took    time.Duration
	cpu     time.Duration // of the server
	looks   float64
	commits float64 // transactions of any kind, also the register's
	bytes   float64
}

// spend measures what happens while fn runs.
func (c *crowd) spend(ctx context.Context, b *bench, fn func() error) (s spent, err error) {
	commits := func() (n int64, err error) {
		err = b.pool.QueryRow(ctx, "select sum(xact_commit)::bigint from pg_stat_database").Scan(&n)
		return n, err
	}
	before, err := commits()
	if err != nil {
		return s, err
	}
	began, cpu, looks, bytes := time.Now(), b.serverCPU(), c.looks(), c.wire.received.Load()
	if err := fn(); err != nil {
		return s, err
	}
	s = spent{took: time.Since(began), cpu: b.serverCPU() - cpu, looks: float64(c.looks() - looks), bytes: float64(c.wire.received.Load() - bytes)}
	after, err := commits()
	s.commits = float64(after - before)
	return s, err
}

// idle: what nodes cost that have nothing to do.
func idle(ctx context.Context, b *bench) (err error) {
	if err := b.writerTables(ctx); err != nil {
		return err
	}
	if err := b.exec(ctx, "drop table if exists large"); err != nil { // another part's: autovacuum would still be at it
		return err
	}
	var floor series // which --quick does not print
	if !b.quick {
		if floor, err = b.asking(ctx, b.idle); err != nil {
			return err
		}
	}
	c, err := b.newCrowd(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close(ctx)) }()
	if err := c.grow(ctx, b.idle, "public.ours"); err != nil {
		return err
	}
	if err := wait(ctx, min(3*b.quiet/2, 3*time.Second)); err != nil { // until what starting them took is counted, and they are calm
		return err
	}
	var queries, fetched, share, each series
	for range b.rounds {
		s, err := c.spend(ctx, b, func() error { return wait(ctx, b.quiet) })
		if err != nil {
			return err
		}
		n, sec := float64(b.idle), s.took.Seconds()
		queries, fetched = append(queries, s.commits/n/sec), append(fetched, s.looks/n/sec)
		if s.cpu > 0 {
			share, each = append(share, shareOfHundred(s.cpu, s.took, b.idle)), append(each, float64(s.cpu.Microseconds())/s.looks)
		}
	}
	b.value("an idle node", "queries/s", "transactions that the server counted, by nodes; a look is one round trip and one transaction", queries, atMost(5))
	b.value("100 idle nodes: of one core of Postgres", "%", fmt.Sprintf("processor time of the server and all its processes, measured with %d nodes", b.idle), share, atMost(5))
	b.value("100 connections that ask SELECT 1 as often as nodes beat: of one core of Postgres", "%", fmt.Sprintf("the same, of %d connections that ask for one value, prepared, every %v: what asking that often costs whoever does it", b.idle, idleBeat), floor, nil)
	b.value("an idle node: looks", "looks/s", "fetches, and beats that found nothing to fetch, as nodes count them", fetched, nil)
	b.value("an idle node: a look", "µs of Postgres", "the server's processor time by the looks", each, nil)
	return nil
}

// shareOfHundred is what a hundred would take of one core, in percent, where n took so much of it in some time.
func shareOfHundred(cpu, took time.Duration, n int) float64 {
	return 100 * cpu.Seconds() / took.Seconds() * 100 / float64(n)
}

// idleBeat is how often a node looks of its own accord that has long found nothing.
const idleBeat = 500 * time.Millisecond

// asking is what n connections cost that ask at every beat for one value, in percent of a core for a hundred;
// nothing where processor time is not known.
func (b *bench) asking(ctx context.Context, n int) (share series, err error) {
	asking, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	defer func() {
		stop()
		all.Wait()
		if p := failed.Load(); p != nil {
			err = errors.Join(err, *p)
		}
	}()
	for range n {
		conn, err := pgx.Connect(ctx, b.server.DSN("postgres"))
		if err != nil {
			return nil, err
		}
		all.Go(func() {
			defer func() { _ = conn.Close(ctx) }() // it only asked
			if err := askAtEveryBeat(asking, conn); err != nil {
				failed.Store(&err)
			}
		})
	}
	for range b.rounds {
		began, cpu := time.Now(), b.serverCPU()
		if err := wait(ctx, b.quiet); err != nil {
			return nil, err
		}
		if took := b.serverCPU() - cpu; took > 0 {
			share = append(share, shareOfHundred(took, time.Since(began), n))
		}
	}
	return share, nil
}

func askAtEveryBeat(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Prepare(ctx, "one", "select 1"); err != nil {
		return err
	}
	tick := time.NewTicker(idleBeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if r := conn.PgConn().ExecPrepared(ctx, "one", nil, nil, nil).Read(); r.Err != nil && ctx.Err() == nil {
			return r.Err
		}
	}
}

// wait waits for d; the error is that of a context that ends before.
func wait(ctx context.Context, d time.Duration) error {
	if !pause.For(ctx, d) {
		return ctx.Err()
	}
	return nil
}
