package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"time"

	"github.com/pglockstep/lockstep"
)

// bounded: how much memory a node takes beside its cache while it catches up
// with a cut of many events over few rows, which must not grow with the events.
func bounded(ctx context.Context, b *bench) (err error) {
	rows := max(100, min(100_000, b.missed/100))
	if err := b.largeTable(ctx, rows); err != nil {
		return err
	}
	table := accountsTable("public.large")
	c, err := b.newCut(ctx, table)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close(ctx)) }()
	var beside []series
	for _, events := range []int{b.missed / 100, b.missed / 10, b.missed} {
		s, err := b.boundedOnce(ctx, c, table, rows, events)
		if err != nil {
			return err
		}
		beside = append(beside, s)
	}
	b.ratio(fmt.Sprintf("memory beside the cache, a cut of %s events / of a tenth of them", grouped(int64(b.missed))), "the highest heap less the live heap before: it is bounded where this is about 1", beside[2].over(beside[1]), nil)
	return nil
}

func (b *bench) boundedOnce(ctx context.Context, c *cut, table *lockstep.Table[int, account], rows, events int) (series, error) {
	before := liveHeap()
	peak := watchHeap(ctx)
	var highest float64
	got, _, err := c.misses(ctx, func() error {
		for range max(1, events/rows) {
			if err := b.exec(ctx, "update large set balance = balance + 1"); err != nil {
				return err
			}
		}
		return b.exec(ctx, "vacuum large")
	})
	highest = peak()
	if err != nil {
		return nil, err
	}
	beside := series{max(0, highest-before) / (1 << 20)}
	name := fmt.Sprintf("a cut of %s events over %s rows", grouped(int64(got.Events)), grouped(int64(rows)))
	b.value(name+": memory beside the cache", "MiB", "the highest heap in use, garbage and all, from before the node was cut off until it had the cut, less the live heap before", beside, nil)
	b.value(name+": replayed", "events/s", "from the beginning of the fetch until the cut was published", series{float64(got.Events) / got.At.Sub(got.Began).Seconds()}, nil)
	b.value(name+": the cache itself", "MiB", "as Table.Bytes estimates it", series{float64(table.Bytes()) / (1 << 20)}, nil)
	b.place("memory beside the cache against missed events", "highest heap less the live heap before", float64(events), "MiB", beside)
	return beside, nil
}

// watchHeap samples the heap in use until it is stopped, which returns the highest.
func watchHeap(ctx context.Context) (stop func() float64) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan float64, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		highest := 0.0
		for {
			select {
			case <-tick.C:
				metrics.Read(sample)
				highest = max(highest, float64(sample[0].Value.Uint64()))
			case <-ctx.Done():
				done <- highest
				return
			}
		}
	}()
	return func() float64 {
		cancel()
		return <-done
	}
}
