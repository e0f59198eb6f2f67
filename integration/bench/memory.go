package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/pause"
)

// testAccounts are rows as the tables have them.
func testAccounts(n int) []account {
	rows := make([]account, n)
	for i := range rows {
		rows[i] = account{ID: i, Manager: i / 10, Balance: int64(i), Note: fmt.Sprint("note of ", i)}
	}
	return rows
}

// newCache is a cache of rows, loaded as a node loads them.
func newCache(rows []account) (*cache.Store, *cache.Table[int, account], error) {
	table := cache.NewTable[int, account]("accounts")
	store, err := cache.NewStore(cache.Options{}, table, cache.NewTable[int, account]("others"))
	if err != nil {
		return nil, nil, err
	}
	w := store.Begin()
	defer w.Abort() // or it is published
	r := table.Replace(w, nil)
	for _, a := range rows {
		if err := r.Put(a.ID, a); err != nil {
			return nil, nil, err
		}
	}
	if err := r.Done(); err != nil {
		return nil, nil, err
	}
	w.Publish(nil)
	return store, table, nil
}

// views: a View over two tables, and what it allocates.
func (b *bench) views() error {
	one, two := cache.NewTable[int, account]("one"), cache.NewTable[int, account]("two")
	store, err := cache.NewStore(cache.Options{}, one, two)
	if err != nil {
		return err
	}
	defer store.Close()
	w := store.Begin()
	for _, a := range testAccounts(1000) {
		one.Put(w, cache.Origin{}, a.ID, a)
		two.Put(w, cache.Origin{}, a.ID, a)
	}
	w.Publish(nil)
	var sum uint64
	look := func(v *cache.View) { sum += v.Revision() }
	var empty series
	for range b.rounds {
		began := time.Now()
		for range b.looks {
			store.View(look)
		}
		empty = append(empty, float64(time.Since(began).Nanoseconds())/float64(b.looks))
	}
	allocs := testing.AllocsPerRun(1000, func() { store.View(look) })
	got := testing.AllocsPerRun(1000, func() { a, _ := one.Get(7); sum += uint64(a.Balance) })
	b.value("a View over two tables, opened and closed", "ns", "nothing is read in it", empty, atMost(200))
	b.value("a View over two tables: allocations", "a call", "counted over 1,000 calls", series{allocs}, atMost(0))
	b.value("Get: allocations", "a call", "counted over 1,000 calls", series{got}, atMost(0))
	if sum == 0 {
		return fmt.Errorf("nothing was read")
	}
	return nil
}

// memory: what a row takes beyond its key and its value.
func memory(ctx context.Context, b *bench) error {
	var idle, under series
	for range b.rounds {
		i, u, err := b.memoryOnce(ctx)
		if err != nil {
			return err
		}
		idle, under = append(idle, i), append(under, u)
	}
	n := grouped(int64(b.rows))
	b.value("memory beyond keys and values, "+n+" rows", "bytes/row", "the live heap after a load, less the keys and the rows with their strings", idle, atMost(96))
	b.ratio("the same with views of up to 1 s open while 20,000 rows/s are applied / without", "live heap beyond keys and values, at the end of a second with a view open from its beginning", under.over(idle), atMost(1.3))
	return nil
}

func (b *bench) memoryOnce(ctx context.Context) (idle, under float64, err error) {
	before := liveHeap()
	store, table, err := newCache(testAccounts(b.rows))
	if err != nil {
		return 0, 0, err
	}
	defer store.Close()
	own := 0
	for _, a := range table.All() {
		own += 8 + 40 + (len(a.Note)+7)/8*8 // a string's bytes are allocated in eights at least
	}
	idle = (liveHeap() - before - float64(own)) / float64(b.rows)
	stop := feed(ctx, b.rows, func(rows []account) error { return putAll(store, table, rows) })
	view := store.OpenView()
	pause.For(ctx, time.Second)
	under = (liveHeap() - before - float64(own)) / float64(b.rows)
	view.Close()
	err = stop()
	runtime.KeepAlive(table)
	return idle, under, err
}

// liveHeap is what is reachable, in bytes.
func liveHeap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func putAll(store *cache.Store, table *cache.Table[int, account], rows []account) error {
	w := store.Begin()
	for _, a := range rows {
		table.Put(w, cache.Origin{}, a.ID, a)
	}
	w.Publish(nil)
	return nil
}

// feed applies 20,000 rows a second, 200 at a time, of random keys below n, until it is stopped.
func feed(ctx context.Context, n int, put func([]account) error) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		batch := make([]account, 200)
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				done <- nil
				return
			}
			for i := range batch {
				id := rand.IntN(n)
				batch[i] = account{ID: id, Manager: id / 10, Balance: int64(id) + 1, Note: "another note"}
			}
			if err := put(batch); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() error {
		cancel()
		return <-done
	}
}
