package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/puzpuzpuz/xsync/v4"

	"github.com/pglockstep/lockstep/cache"
)

// get: a look-up of a random key, and its value read.
func get(_ context.Context, b *bench) error {
	table := cache.NewTable[int, account]("get")
	store, err := cache.NewStore(cache.Options{}, table)
	if err != nil {
		return err
	}
	defer store.Close()
	plain := xsync.NewMap[int, *account]()
	w := store.Begin()
	for i := range b.rows {
		a := account{ID: i, Balance: int64(i), Note: "note"}
		table.Put(w, cache.Origin{}, i, a)
		plain.Store(i, &a)
	}
	w.Publish(nil)
	const looks = 2_000_000
	keys := make([]int, looks)
	for i := range keys {
		keys[i] = rand.IntN(b.rows)
	}
	var sum int64
	took := map[string]series{}
	for range b.rounds {
		began := time.Now()
		for _, k := range keys {
			if a, ok := plain.Load(k); ok {
				sum += a.Balance
			}
		}
		took["xsync"] = append(took["xsync"], float64(time.Since(began).Nanoseconds())/looks)
		began = time.Now()
		for _, k := range keys {
			if a, ok := table.Get(k); ok {
				sum += a.Balance
			}
		}
		took["ours"] = append(took["ours"], float64(time.Since(began).Nanoseconds())/looks)
	}
	line(fmt.Sprintf("random key of %d, xsync.Map, ns", b.rows), took["xsync"])
	line(fmt.Sprintf("random key of %d, Get, ns", b.rows), took["ours"])
	line("Get / xsync.Map, value read", took["ours"].over(took["xsync"]))
	began := time.Now()
	for range looks {
		store.View(func(v *cache.View) { sum += int64(v.Revision()) })
	}
	line("a View opened and closed, ns", time.Since(began).Nanoseconds()/looks)
	if sum == 0 {
		return fmt.Errorf("nothing was read")
	}
	return nil
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
