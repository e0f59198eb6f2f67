package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox/stream"
)

const (
	fannedTable = "fanned" // what the nodes hold
	fannedRows  = 2000
	timedNodes  = 8 // at the most, of which it is noted when a commit is visible
)

// fleet is a crowd that follows Postgres directly, or a stream that a relay fills.
type fleet struct {
	*crowd
	nats, relay *helper // nil: directly
}

// newFleet has no nodes yet. nats is nil for one that follows Postgres directly.
func (b *bench) newFleet(ctx context.Context, nats *helper, register time.Duration) (*fleet, error) {
	c, err := b.newCrowd(ctx)
	if err != nil {
		return nil, err
	}
	const most = 1 << 20 // none of the changes may be left out of the figures
	c.config = lockstep.Config{Register: register, Retention: -1, MaxLag: most, CoalesceAfter: most}
	f := &fleet{crowd: c, nats: nats}
	if nats == nil {
		return f, nil
	}
	c.config.Source = stream.Source{URL: nats.said, Idle: time.Second} // so soon nothing is left of the load
	if f.relay, err = startHelper(ctx, "relay", nats.said, b.server.DSN("postgres")); err != nil {
		return nil, errors.Join(err, c.close(ctx))
	}
	return f, nil
}

// grow starts nodes until there are n, and waits until all follow what they are to follow.
func (f *fleet) grow(ctx context.Context, b *bench, n int) error {
	if err := f.crowd.grow(ctx, n, "public."+fannedTable); err != nil {
		return err
	}
	if f.nats == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, node := range f.nodes {
		for s := node.Status(); s.Bell != "stream"; s = node.Status() {
			if err := wait(ctx, 10*time.Millisecond); err != nil {
				return fmt.Errorf("a node does not follow the stream (%s): %w", s.WhyBell, err)
			}
		}
	}
	return f.alone(ctx, b)
}

// alone waits until the connections by which nodes have loaded are closed: only the relay asks Postgres from then on.
func (f *fleet) alone(ctx context.Context, b *bench) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for {
		var n int
		if err := conn.QueryRow(ctx, "select count(*)::int from pg_stat_activity where application_name = 'lockstep fetch'").Scan(&n); err != nil {
			return err
		}
		if n <= 1 {
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d nodes keep a connection to Postgres: %w", n-1, err)
		}
	}
}

func (f *fleet) close(ctx context.Context) error {
	err := f.crowd.close(ctx)
	if f.relay != nil {
		err = errors.Join(err, f.relay.stop())
	}
	return err
}

// asked is what nodes and relay have asked Postgres for, and of that the nodes.
func (f *fleet) asked() (all, nodes traffic, err error) {
	nodes = traffic{Asks: f.wire.asks.Load(), Bytes: f.wire.received.Load()}
	if f.relay == nil {
		return nodes, nodes, nil
	}
	all, err = f.relay.traffic()
	return traffic{all.Asks + nodes.Asks, all.Bytes + nodes.Bytes, all.Rows}, nodes, err
}

// burden is what commits at some rate have cost while a fleet followed.
type burden struct {
	spent

	n         int     // commits
	asks, own float64 // round trips to Postgres of nodes and relay, and of them the nodes'
	nodesCPU  time.Duration
	natsCPU   time.Duration
	visible   []time.Duration // from COMMIT sent to the row in a node, in ascending order
}

func (s *burden) rate() float64 { return float64(s.n) / s.took.Seconds() }

// bear measures what commits at a rate cost. A nil fleet: the writers alone.
func (b *bench) bear(ctx context.Context, f *fleet, rate int) (s burden, err error) {
	first := newClock(2 * rate * int(max(time.Second, b.watched)/time.Second))
	var clocks []*clock
	watching, stop := context.WithCancel(ctx)
	defer stop()
	if f == nil {
		if f, err = b.newFleet(ctx, nil, -1); err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, f.close(ctx)) }()
	}
	for i := range min(timedNodes, len(f.nodes)) {
		c := first
		if i > 0 {
			c = first.again()
		}
		c.follow(watching, f.tables[i*len(f.tables)/min(timedNodes, len(f.nodes))])
		clocks = append(clocks, c)
	}
	all, nodes, err := f.asked()
	if err != nil {
		return s, err
	}
	cpu, nats := ownCPU(), f.nats.used()
	s.spent, err = f.spend(ctx, b, func() error {
		s.n, err = b.paced(ctx, first, rate)
		return err
	})
	if err != nil {
		return s, err
	}
	s.nodesCPU, s.natsCPU = ownCPU()-cpu, f.nats.used()-nats
	allAfter, nodesAfter, err := f.asked()
	if err != nil {
		return s, err
	}
	s.asks, s.own, s.bytes = float64(allAfter.Asks-all.Asks), float64(nodesAfter.Asks-nodes.Asks), float64(allAfter.Bytes-all.Bytes)
	for _, c := range clocks {
		c.stop(s.n)
		if err := c.wait(ctx); err != nil {
			return s, err
		}
	}
	s.visible = timesOf(clocks)
	return s, nil
}

// paced commits at a rate for as long as fleets are watched, with a writer for each 100 a second, each time
// another row, and returns how many it committed.
func (b *bench) paced(ctx context.Context, c *clock, rate int) (int, error) {
	writers := max(1, rate/100)
	pause := time.Duration(writers) * time.Second / time.Duration(rate)
	end := time.Now().Add(b.watched)
	var next atomic.Int64
	errs := make([]error, writers)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			if errs[w] = wait(ctx, pause*time.Duration(w)/time.Duration(writers)); errs[w] == nil {
				errs[w] = b.pacing(ctx, c, &next, pause, end)
			}
		})
	}
	all.Wait()
	return min(int(next.Load()), len(c.sent)), errors.Join(errs...)
}

// pacing does not make up for what it could not write in time.
func (b *bench) pacing(ctx context.Context, c *clock, next *atomic.Int64, pause time.Duration, end time.Time) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for time.Now().Before(end) {
		i := int(next.Add(1)) - 1
		if i >= len(c.sent) {
			return nil
		}
		if err := commitNumber(ctx, conn, c, i, 1+i%fannedRows, fannedTable, ""); err != nil {
			return err
		}
		<-tick.C
	}
	return nil
}
