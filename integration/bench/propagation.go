package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
)

// commitToKnown updates a row, rings where it is told how, and returns the time
// from COMMIT until the number arrives.
func commitToKnown(ctx context.Context, conn *pgx.Conn, table, ring string, n int64, arrived <-chan int64) (time.Duration, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // or it is committed
	if _, err := tx.Exec(ctx, "update "+table+" set balance = $1 where id = 1", n); err != nil {
		return 0, err
	}
	if ring != "" {
		if _, err := tx.Exec(ctx, ring, n); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	if err := tx.Commit(ctx); err != nil {
		return 0, err
	}
	for {
		select {
		case got := <-arrived:
			if got == n {
				return time.Since(began), nil
			}
		case <-time.After(10 * time.Second):
			return 0, fmt.Errorf("number %d never arrived", n)
		}
	}
}

// propagation: from the moment COMMIT is sent until the commit is known
// elsewhere, at about 100 commits a second of either kind, each of which updates one
// row. A bare NOTIFY says only that something happened; ours has the row.
func propagation(ctx context.Context, b *bench) error {
	if err := b.writerTables(ctx); err != nil {
		return err
	}
	ours := lockstep.NewTable("public.ours", func(a account) int { return a.ID })
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench"}, ours)
	if err != nil {
		return err
	}
	defer func() { _ = node.Close(ctx) }() // the process ends
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	seen := balances(watching, ours)
	heard := make(chan int64, 1000)
	stop, err := b.listen(ctx, "bare", func(payload string) {
		n, _ := strconv.ParseInt(payload, 10, 64)
		heard <- n
	})
	if err != nil {
		return err
	}
	defer stop()
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var bare, visible []time.Duration
	tick := time.NewTicker(5 * time.Millisecond) // one of each in 10 ms
	defer tick.Stop()
	for n := range int64(200 * b.rounds) {
		<-tick.C
		d, err := commitToKnown(ctx, conn.Conn(), "plain", "select pg_notify('bare', $1::bigint::text)", n+1, heard)
		if err != nil {
			return err
		}
		bare = append(bare, d)
		<-tick.C
		if d, err = commitToKnown(ctx, conn.Conn(), "ours", "", n+1, seen); err != nil {
			return err
		}
		visible = append(visible, d)
	}
	slices.Sort(bare)
	slices.Sort(visible)
	for _, s := range []struct {
		name string
		d    []time.Duration
	}{{"bare NOTIFY", bare}, {"lockstep, row visible", visible}} {
		line("commit to known, "+s.name+": p50, p99, highest", fmt.Sprintf("%v, %v, %v", quantile(s.d, 0.5), quantile(s.d, 0.99), s.d[len(s.d)-1]))
	}
	line("lockstep - bare NOTIFY at the median", quantile(visible, 0.5)-quantile(bare, 0.5))
	line("lockstep / bare NOTIFY at p99", fmt.Sprintf("%.3g", float64(quantile(visible, 0.99))/float64(quantile(bare, 0.99))))
	return nil
}

// balances are those of rows that become visible by an UPDATE, until ctx ends.
func balances(ctx context.Context, table *lockstep.Table[int, account]) <-chan int64 {
	seen := make(chan int64, 1000)
	go func() {
		for c, err := range table.Changes(ctx) {
			if err != nil {
				return
			}
			if c.Op == lockstep.OpUpdate {
				seen <- c.New.Balance
			}
		}
	}()
	return seen
}
