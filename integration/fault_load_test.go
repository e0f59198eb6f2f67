package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
)

// whole checks that a view holds the rows 1 to 100, all with one value.
func whole(t *testing.T, node *lockstep.Node, table *lockstep.Table[int, item]) (v int) {
	t.Helper()
	node.View(func(view *lockstep.View) {
		n, first, rows := 0, -1, table.At(view)
		for id, i := range rows.All() {
			if n == 0 {
				first = i.V
			}
			if i.V != first || id < 1 || id > 100 {
				t.Errorf("a row of another transaction: %v beside v = %d", i, first)
				return
			}
			n++
		}
		if n != 100 {
			t.Errorf("a state with %d rows", n)
		}
		v = first
	})
	return v
}

// Whatever empties, fills or rewrites a table while a node loads it: the node
// starts with a state that was committed, never with none or half of one.
func TestATableThatIsEmptiedOrRewrittenWhileANodeLoadsIsNeverSeenHalf(t *testing.T) {
	const starts = 12
	for name, disturb := range map[string]func(i int) string{
		"emptied and filled": func(i int) string {
			return fmt.Sprintf("begin; truncate items; insert into items select i, %d from generate_series(1, 100) i; commit", i)
		},
		"rewritten by another type": func(i int) string {
			return fmt.Sprintf("begin; update items set v = %d; alter table items alter v type %s; commit", i, []string{"int", "bigint"}[i%2])
		},
		"rewritten in its order":            func(i int) string { return fmt.Sprintf("update items set v = %d; cluster items using items_pkey", i) },
		"emptied, and that was rolled back": func(i int) string { return fmt.Sprintf("begin; truncate items; rollback; update items set v = %d", i) },
	} {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			items(t, db)
			ctx, cancel := context.WithCancel(t.Context())
			disturbed := make(chan int, 1)
			go func(pool *pgxpool.Pool) {
				n := 0
				for ctx.Err() == nil {
					if _, err := pool.Exec(context.WithoutCancel(ctx), disturb(n+1)); err != nil {
						t.Errorf("%s: %v", disturb(n+1), err)
						break
					}
					n++
				}
				disturbed <- n
			}(db.Pool(t))
			pool, views := db.Pool(t), 0
			for range starts {
				views += loads(t, pool)
			}
			cancel()
			n := <-disturbed
			node, table := start(t, pool)
			barrier(t, node)
			wantSame(t, db, table)
			if v := whole(t, node, table); v != n {
				t.Errorf("after %d transactions v is %d", n, v)
			}
			t.Logf("%d transactions beside %d starts, %d views", n, starts, views)
			if n < starts {
				t.Errorf("only %d transactions beside %d starts: they did not disturb", n, starts)
			}
		})
	}
}

// loads starts a node, looks at it for some cuts, and closes it.
func loads(t *testing.T, pool *pgxpool.Pool) (views int) {
	t.Helper()
	table := itemTable()
	node, err := lockstep.Start(deadline(t), pool, lockstep.Config{Logger: silent, Register: -1, Retention: -1}, table)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for before := 0; node.Status().Fetches < 6; <-tick.C {
		v := whole(t, node, table)
		if v < before {
			t.Errorf("it went from %d to %d", before, v)
		}
		before = v
		views++
	}
	closing, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := node.Close(closing); err != nil {
		t.Error(err)
	}
	return views
}

// A transaction of a million rows is seen whole or not at all, by nodes that
// follow it and by subscribers however far behind it throws them.
func TestATransactionOfAMillionRowsIsSeenWholeOrNotAtAll(t *testing.T) {
	rows := 1_000_000
	if raceEnabled {
		rows /= 5 // which takes as long
	}
	db := fresh(t)
	items(t, db)
	table := itemTable()
	node, err := lockstep.Start(deadline(t), db.Pool(t), lockstep.Config{Name: t.Name(), Logger: silent}, table) // without DetectMutation, which hashes each
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	behind, ahead := make(chan struct{}), make(chan struct{})
	type told struct{ resets, current, inserted int }
	heard := make(chan told, 1)
	go func() {
		var n told
		lives := 0
		for c, err := range table.Changes(ctx) {
			if err != nil {
				break
			}
			switch c.Op {
			case lockstep.OpLive:
				if lives++; lives == 1 {
					close(behind) // it has what was there; now it is busy
					select {
					case <-ahead:
					case <-ctx.Done():
					}
				} else {
					heard <- n
					return
				}
			case lockstep.OpReset:
				n = told{resets: n.resets + 1}
			case lockstep.OpCurrent:
				n.current++
			default:
				n.inserted++
			}
		}
		heard <- n
	}()
	<-behind
	w := watched(t, node, table)
	began := time.Now()
	if _, err := db.Conn(t).Exec(ctx, "insert into items select i, 1 from generate_series(101, $1::int) i", rows+100); err != nil {
		t.Fatal(err)
	}
	committed := time.Now()
	until(t, "the rows are seen", func() bool {
		n := table.Len()
		if n != 100 && n != rows+100 {
			t.Fatalf("%d of %d rows are visible", n, rows)
		}
		return n != 100
	})
	t.Logf("written in %v, seen %v later", committed.Sub(began), time.Since(committed))
	w.end()
	if s := node.Status(); s.Unrung != 0 || s.Sessions != 1 {
		t.Errorf("%d unrung, %d sessions, last error %v", s.Unrung, s.Sessions, s.LastError)
	}
	close(ahead)
	if n := <-heard; n != (told{resets: 1, current: rows + 100}) {
		t.Errorf("a subscriber that was too far behind heard %+v, want a reset and the %d rows", n, rows+100)
	}
	barrier(t, node)
	if n := ask[int](t, db, "select count(*) from items"); n != table.Len() {
		t.Errorf("%d rows, the table has %d", table.Len(), n)
	}
	onlyTheFirstLoad(t, node)
}
