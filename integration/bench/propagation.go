package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
)

// propagation: from the moment COMMIT is sent until the commit is known elsewhere.
func propagation(ctx context.Context, b *bench) error {
	run := func(b *bench) error {
		if err := b.writerTables(ctx); err != nil {
			return err
		}
		if err := b.steady(ctx); err != nil {
			return err
		}
		for _, nodes := range []int{1, 8} {
			if err := b.storm(ctx, nodes); err != nil {
				return err
			}
		}
		return nil
	}
	if b.quick {
		return run(b)
	}
	return b.logical(ctx, run) // logical replication is one of the peers
}

// way is one way to learn of a commit: it takes up a clock, and stops.
type way struct {
	name, table, ring string
	start             func(ctx context.Context, c *clock) (stop func() error, err error)
}

// steady: at 100 commits a second of each, in turns.
func (b *bench) steady(ctx context.Context) error {
	list := []way{
		{"bare NOTIFY", "plain", "select pg_notify('bare', $1::bigint::text)", b.bare},
		{"lockstep", "ours", "", b.node},
	}
	if !b.quick {
		peers, err := b.propagationPeers(ctx)
		if err != nil {
			return err
		}
		list = append(list, peers...)
		list = append(list,
			way{askedWay, "plain", "select pg_notify('asked', $1::bigint::text)", b.asked(false)},
			way{askedSameWay, "plain", "select pg_notify('asked', $1::bigint::text)", b.asked(true)})
	}
	took := map[string]map[float64]series{}
	for w := range inTurns(b.rounds, list) {
		d, err := b.timeWay(ctx, w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if took[w.name] == nil {
			took[w.name] = map[float64]series{}
		}
		for _, q := range []float64{0.5, 0.99} {
			took[w.name][q] = append(took[w.name][q], ms(quantile(d, q)))
		}
	}
	bare, ours := took["bare NOTIFY"], took["lockstep"]
	b.value("100 commits/s, commit to visible: median, lockstep less bare NOTIFY", "ms", "from COMMIT sent to the row in memory, and to a notification that says only that something happened", ours[0.5].less(bare[0.5]), atMost(0.4))
	b.value(askedLess, "ms", "the same for a listener that then asks for one value over another connection: whoever trusts no notification pays this", took[askedWay][0.5].less(bare[0.5]), nil)
	b.value(askedSameLess, "ms", "the same over the connection that listens", took[askedSameWay][0.5].less(bare[0.5]), nil)
	b.ratio("100 commits/s, commit to visible: p99, lockstep / bare NOTIFY", "the same at the 99th percentile", ours[0.99].over(bare[0.99]), atMost(4))
	for _, w := range list {
		b.value("100 commits/s, commit to visible: median, "+w.name, "ms", "from COMMIT sent until it is known to another connection's owner", took[w.name][0.5], nil)
		b.value("100 commits/s, commit to visible: p99, "+w.name, "ms", "the same at the 99th percentile", took[w.name][0.99], nil)
		if w.ring == "" && w.name != "lockstep" {
			b.ratio("100 commits/s, commit to visible: median, "+w.name+" / lockstep", "how many times as long it takes until the row is in a map", took[w.name][0.5].over(ours[0.5]), nil)
		}
	}
	return nil
}

func (b *bench) timeWay(ctx context.Context, w way) ([]time.Duration, error) {
	c := newClock(b.commits)
	stop, err := w.start(ctx, c)
	if err != nil {
		return nil, err
	}
	err = b.timed(ctx, c, w.table, w.ring)
	return c.times(), errors.Join(err, stop())
}

func (b *bench) bare(ctx context.Context, c *clock) (func() error, error) {
	stop, err := b.listen(ctx, "bare", func(_ *pgx.Conn, payload string) {
		if n, err := strconv.ParseInt(payload, 10, 64); err == nil {
			c.arrive(n)
		}
	})
	return func() error { stop(); return nil }, err
}

const (
	askedWay      = "bare NOTIFY and a SELECT"
	askedLess     = "100 commits/s, commit to visible: median, bare NOTIFY and a SELECT less bare NOTIFY"
	askedSameWay  = "bare NOTIFY and a SELECT on its connection"
	askedSameLess = "100 commits/s, commit to visible: median, bare NOTIFY and a SELECT on its connection less bare NOTIFY"
)

// asked is bare, and then asks the server for one value: over another connection, or over the same that listens.
func (b *bench) asked(same bool) func(ctx context.Context, c *clock) (func() error, error) {
	return func(ctx context.Context, c *clock) (func() error, error) {
		other, err := b.pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		var failed error // set before stop returns
		stop, err := b.listen(ctx, "asked", func(ear *pgx.Conn, payload string) {
			conn := other.Conn()
			if same {
				conn = ear
			}
			n, err := strconv.ParseInt(payload, 10, 64)
			if err == nil {
				_, err = conn.Exec(ctx, "select $1::bigint", n)
			}
			if err != nil {
				failed = err
				return
			}
			c.arrive(n)
		})
		if err != nil {
			other.Release()
			return nil, err
		}
		return func() error {
			stop()
			other.Release()
			return failed
		}, nil
	}
}

func (b *bench) node(ctx context.Context, c *clock) (func() error, error) {
	ours := accountsTable("public.ours")
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench", Register: -1}, ours)
	if err != nil {
		return nil, err
	}
	c.follow(ctx, ours)
	return func() error { return node.Close(ctx) }, nil // ends the subscription
}

// storm: 16 writers at the highest rate that they reach, and nodes that follow.
func (b *bench) storm(ctx context.Context, nodes int) error {
	var p50, p99, rate, late series
	for range b.rounds {
		took, n, err := b.stormOnce(ctx, nodes)
		if err != nil {
			return err
		}
		for i, d := range took {
			if d >= 250*time.Millisecond {
				late = append(late, float64(len(took)-i))
				break
			}
		}
		if len(took) > 0 && took[len(took)-1] < 250*time.Millisecond {
			late = append(late, 0)
		}
		p50, p99, rate = append(p50, ms(quantile(took, 0.5))), append(p99, ms(quantile(took, 0.99))), append(rate, n)
	}
	name := "highest rate, 1 node"
	if nodes > 1 {
		name = fmt.Sprintf("highest rate, %d nodes", nodes)
	}
	b.value(name+", commit to visible: p99", "ms", "16 writers without a pause; from COMMIT sent to the row in a node's memory", p99, atMost(25))
	b.value(name+", commit to visible: those that took 250 ms or more", "commits", "who waits for a beat waits for as long, or longer", late, atMost(0))
	b.value(name+", commit to visible: median", "ms", "the same at the median", p50, nil)
	b.value(name+": rate", "commits/s", "what the writers reached meanwhile", rate, nil)
	return nil
}

// stormOnce returns all nodes' times, in ascending order, and the commits a second.
func (b *bench) stormOnce(ctx context.Context, nodes int) ([]time.Duration, float64, error) {
	const most = 200_000
	clocks := make([]*clock, nodes)
	first := newClock(most)
	for i := range clocks {
		ours := accountsTable("public.ours")
		// None of the changes may be left out of the figures.
		node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: fmt.Sprint("bench", i), Register: -1, MaxLoads: -1, MaxLag: most, CoalesceAfter: most}, ours)
		if err != nil {
			return nil, 0, err
		}
		defer func() { _ = node.Close(ctx) }() // what was measured stands
		clocks[i] = first
		if i > 0 {
			clocks[i] = first.again()
		}
		clocks[i].follow(ctx, ours)
	}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for w := range 16 {
		wg.Go(func() {
			if err := b.storming(ctx, first, w, &next, began.Add(b.span)); err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := failed.Load(); err != nil {
		return nil, 0, *err
	}
	n := min(int(next.Load()), most)
	for _, c := range clocks {
		c.stop(n)
		if err := c.wait(ctx); err != nil {
			return nil, 0, err
		}
	}
	return timesOf(clocks), float64(n) / took.Seconds(), nil
}

// storming commits numbers without a pause, each writer in rows of its own.
func (b *bench) storming(ctx context.Context, c *clock, writer int, next *atomic.Int64, end time.Time) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for time.Now().Before(end) {
		i := int(next.Add(1)) - 1
		if i >= len(c.sent) {
			return nil
		}
		if err := commitNumber(ctx, conn, c, i, 1+writer+16*rand.IntN(accounts/16), "ours", ""); err != nil {
			return err
		}
	}
	return nil
}
