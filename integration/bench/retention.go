package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pglockstep/lockstep"
)

var (
	retentionFor   = flag.Duration("for", 20*time.Minute, "retention: how long it writes")
	retentionKeep  = flag.Duration("keep", time.Minute, "retention: how long events are kept")
	retentionRate  = flag.Int("rate", 2000, "retention: writes in a second")
	retentionEvery = flag.Duration("every", 10*time.Second, "retention: time between two samples")
)

// retained is what one sample has found.
type retained struct {
	at           time.Duration // since the beginning
	rows, window int64         // in the outbox, and of these younger than they are kept
	table, index int64         // bytes
	dead, vacuum int64         // dead rows as the statistics know them, and autovacuum's runs
	p50, p99     time.Duration // of fetches, since the last sample
	rate         float64       // writes in a second since the last sample
}

// retention: single updates at a steady rate while two nodes follow and trim by themselves. The outbox's files
// against what the live window takes where it lies packed, and the latency of a fetch (a Barrier's) over time.
func retention(ctx context.Context, b *bench) error {
	if err := b.writerTables(ctx); err != nil {
		return err
	}
	var nodes []*lockstep.Node
	defer func() {
		for _, n := range nodes {
			_ = n.Close(context.WithoutCancel(ctx)) // the process ends
		}
	}()
	for i := range 2 {
		ours := lockstep.NewTable("public.ours", func(a account) int { return a.ID })
		node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: fmt.Sprint("bench-", i), Retention: *retentionKeep}, ours)
		if err != nil {
			return err
		}
		nodes = append(nodes, node)
	}
	ctx, cancel := context.WithTimeout(ctx, *retentionFor)
	defer cancel()
	fetches := &latencies{}
	var all sync.WaitGroup
	defer all.Wait()
	var written atomic.Int64
	failed := make(chan error, 16)
	const writers = 8
	for i := range writers {
		all.Go(func() { failed <- b.writeAt(ctx, i, writers, &written) })
	}
	all.Go(func() { failed <- fetches.measure(ctx, nodes[0]) })
	samples, err := b.sampleOutbox(ctx, fetches, &written, failed)
	cancel()
	if err != nil {
		return err
	}
	return b.sumUp(context.WithoutCancel(ctx), samples)
}

// writeAt makes its share of the rate, each write in a transaction of its own. It does not make up for what it could not write in time.
func (b *bench) writeAt(ctx context.Context, writer, writers int, written *atomic.Int64) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	defer conn.Release()
	tick := time.NewTicker(time.Duration(writers) * time.Second / time.Duration(*retentionRate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := conn.Exec(ctx, "update ours set balance = balance + 1 where id = $1", 1+(n*writers+writer)%accounts); err != nil {
			return ended(ctx, err)
		}
		written.Add(1)
	}
}

// ended is nil for an error that came of the end of the time.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// latencies are those of the fetches since they were last taken.
type latencies struct {
	mu   sync.Mutex
	list []time.Duration
}

func (l *latencies) measure(ctx context.Context, node *lockstep.Node) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		began := time.Now()
		if err := node.Barrier(ctx); err != nil {
			return ended(ctx, err)
		}
		l.mu.Lock()
		l.list = append(l.list, time.Since(began))
		l.mu.Unlock()
	}
}

func (l *latencies) take() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list
	l.list = nil
	slices.Sort(list)
	return list
}

// sampleOutbox looks until the time is over.
func (b *bench) sampleOutbox(ctx context.Context, fetches *latencies, written *atomic.Int64, failed <-chan error) ([]retained, error) {
	fmt.Printf("  %8s %10s %12s %12s %12s %10s %8s %8s %10s %10s\n", "seconds", "writes/s", "rows", "in window", "table bytes", "index bytes", "dead", "vacuums", "p50", "p99")
	tick := time.NewTicker(*retentionEvery)
	defer tick.Stop()
	began := time.Now()
	last, before := began, int64(0)
	var samples []retained
	for {
		select {
		case <-ctx.Done():
			return samples, nil
		case err := <-failed:
			if err != nil {
				return nil, err
			}
			continue
		case <-tick.C:
		}
		s := retained{at: time.Since(began)}
		err := b.pool.QueryRow(ctx, `select count(*), count(*) filter (where at > clock_timestamp() - $1::interval),
			pg_table_size('lockstep.outbox'), pg_indexes_size('lockstep.outbox') from lockstep.outbox`, *retentionKeep).Scan(&s.rows, &s.window, &s.table, &s.index)
		if err == nil {
			err = b.pool.QueryRow(ctx, "select n_dead_tup, autovacuum_count from pg_stat_user_tables where schemaname = 'lockstep' and relname = 'outbox'").Scan(&s.dead, &s.vacuum)
		}
		if err != nil {
			return samples, ended(ctx, err)
		}
		took, n, now := fetches.take(), written.Load(), time.Now()
		s.p50, s.p99, s.rate = quantile(took, 0.5), quantile(took, 0.99), float64(n-before)/now.Sub(last).Seconds()
		last, before = now, n
		samples = append(samples, s)
		fmt.Printf("  %8.0f %10.0f %12d %12d %12d %10d %8d %8d %10v %10v\n", s.at.Seconds(), s.rate, s.rows, s.window, s.table, s.index, s.dead, s.vacuum,
			s.p50.Round(10*time.Microsecond), s.p99.Round(10*time.Microsecond))
	}
}

// sumUp compares the outbox with what is to be kept, once that has been written, and the first quarter of the time with the last.
func (b *bench) sumUp(ctx context.Context, samples []retained) error {
	steady := slices.DeleteFunc(slices.Clone(samples), func(s retained) bool { return s.at < *retentionKeep })
	if len(steady) < 4 {
		return errors.New("fewer than four samples after the window was full: write for longer, or look more often")
	}
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var rows, table, index int64
	_, err = conn.Exec(ctx, "create temp table packed as select * from lockstep.outbox order by xid, seq")
	if err == nil {
		_, err = conn.Exec(ctx, "alter table packed add primary key (xid, seq)")
	}
	if err == nil {
		err = conn.QueryRow(ctx, "select count(*), pg_table_size('packed'), pg_indexes_size('packed') from packed").Scan(&rows, &table, &index)
	}
	if err != nil {
		return fmt.Errorf("pack the outbox: %w", err)
	}
	if rows == 0 {
		return errors.New("the outbox is empty")
	}
	var tables, indexes series
	for _, s := range steady {
		tables = append(tables, float64(s.table)/(float64(s.window)*float64(table)/float64(rows)))
		indexes = append(indexes, float64(s.index)/(float64(s.window)*float64(index)/float64(rows)))
	}
	quarter := len(steady) / 4
	first, last := steady[:quarter], steady[len(steady)-quarter:]
	b.value("bytes of an event and its index entry, packed", "bytes", "what the live window takes at the least", series{float64(table+index) / float64(rows)}, nil)
	b.ratio("outbox table / live window", "the table's file over the events younger than they are kept, packed", tables, atMost(3))
	b.ratio("outbox index / live window", "the same for the index", indexes, atMost(3))
	b.ratio("fetch p50, last quarter of the time / first", "the latency of a Barrier", quarters(first, last, func(s retained) time.Duration { return s.p50 }), nil)
	b.ratio("fetch p99, last quarter of the time / first", "the same", quarters(first, last, func(s retained) time.Duration { return s.p99 }), nil)
	for _, s := range samples {
		x := s.at.Round(time.Second).Seconds()
		b.place("Bytes of the outbox, seconds", "table", x, "bytes", series{float64(s.table)})
		b.place("Bytes of the outbox, seconds", "index", x, "bytes", series{float64(s.index)})
		b.place("Latency of a fetch, seconds", "p50", x, "ms", series{ms(s.p50)})
		b.place("Latency of a fetch, seconds", "p99", x, "ms", series{ms(s.p99)})
	}
	return nil
}

// quarters compares the last samples with the first, one by one.
func quarters(first, last []retained, of func(retained) time.Duration) series {
	var a, z series
	for i := range first {
		a, z = append(a, of(first[i]).Seconds()), append(z, of(last[i]).Seconds())
	}
	return z.over(a)
}
