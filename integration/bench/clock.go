package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
)

// numbers are handed out once in a process, so that no reader takes an old row for a new one.
var numbers atomic.Int64

// clock times commits: each writes a number of its own, from after, and the
// number arrives elsewhere.
type clock struct {
	after      int64
	sent, came []atomic.Int64 // nanoseconds since began, by number; 0: not yet
	began      time.Time
	left       atomic.Int64  // that have not arrived
	all        chan struct{} // closed when none is left
	once       sync.Once
}

// newClock has room for n commits.
func newClock(n int) *clock {
	c := &clock{sent: make([]atomic.Int64, n), came: make([]atomic.Int64, n), began: time.Now(), all: make(chan struct{})}
	c.after = numbers.Add(int64(n)) - int64(n)
	c.left.Store(int64(n))
	return c
}

func (c *clock) now() int64 { return max(1, int64(time.Since(c.began))) }

// send notes that the i-th commit begins now, and arrive that its number is there.
func (c *clock) send(i int) { c.sent[i].Store(c.now()) }

func (c *clock) arrive(number int64) {
	i := number - c.after - 1
	if i < 0 || i >= int64(len(c.came)) || !c.came[i].CompareAndSwap(0, c.now()) {
		return
	}
	if c.left.Add(-1) == 0 {
		c.once.Do(func() { close(c.all) })
	}
}

// stop lets no more than the first n be waited for.
func (c *clock) stop(n int) {
	if c.left.Add(int64(n-len(c.came))) <= 0 {
		c.once.Do(func() { close(c.all) })
	}
}

// wait waits until all have arrived.
func (c *clock) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	select {
	case <-c.all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d commits never arrived: %w", c.left.Load(), ctx.Err())
	}
}

// again is a clock of the same commits, for another who waits for them.
func (c *clock) again() *clock {
	d := &clock{after: c.after, sent: c.sent, came: make([]atomic.Int64, len(c.came)), began: c.began, all: make(chan struct{})}
	d.left.Store(int64(len(c.came)))
	return d
}

func (c *clock) times() []time.Duration { return timesOf([]*clock{c}) }

// timesOf those that were sent and came, in ascending order.
func timesOf(clocks []*clock) []time.Duration {
	var list []time.Duration
	for _, c := range clocks {
		for i := range c.sent {
			if sent, came := c.sent[i].Load(), c.came[i].Load(); sent != 0 && came != 0 {
				list = append(list, time.Duration(came-sent))
			}
		}
	}
	slices.Sort(list)
	return list
}

// follow notes the balances that updates bring to a table, until ctx ends. It
// returns when nothing can be missed any more.
func (c *clock) follow(ctx context.Context, table *lockstep.Table[int, account]) {
	live := make(chan struct{})
	go func() {
		for change, err := range table.Changes(ctx) {
			if err != nil {
				return
			}
			switch change.Op {
			case lockstep.OpLive:
				close(live)
			case lockstep.OpUpdate:
				c.arrive(change.New.Balance)
			}
		}
	}()
	select {
	case <-live:
	case <-ctx.Done():
	}
}

// timed commits about 100 times a second, each time another row, until c is
// full, and waits until all have arrived. ring, where there is one, is called in
// the transaction with the number.
func (b *bench) timed(ctx context.Context, c *clock, table, ring string) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := range c.sent {
		<-tick.C
		if err := commitNumber(ctx, conn, c, i, 1+i%accounts, table, ring); err != nil {
			return err
		}
	}
	return c.wait(ctx)
}

// commitNumber updates a row to the i-th number of the clock, which starts at COMMIT.
func commitNumber(ctx context.Context, conn *pgxpool.Conn, c *clock, i, id int, table, ring string) error {
	number := c.after + int64(i) + 1
	batch := &pgx.Batch{}
	batch.Queue("begin")
	batch.Queue("update "+table+" set balance = $1 where id = $2", number, id)
	if ring != "" {
		batch.Queue(ring, number)
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	c.send(i)
	_, err := conn.Exec(ctx, "commit")
	return err
}
