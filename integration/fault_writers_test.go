package integration

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
)

// idleFor is how long writers stay idle within their transactions: seconds, or
// minutes where -long was given.
func idleFor() time.Duration {
	d := 3 * time.Second
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "long" {
			d = max(d, min(*longFlag/4, 3*time.Minute))
		}
	})
	return d
}

// idlers are transactions that have written and then do nothing: row 1000+i is
// each one's own.
func idlers(t *testing.T, db *pgtest.DB, n int) (open []*pgx.Conn) {
	t.Helper()
	for i := range n {
		conn := db.Conn(t)
		do(t, conn, "begin")
		do(t, conn, "insert into items values ($1, 1)", 1000+i)
		open = append(open, conn)
	}
	return open
}

// Whoever idles within a transaction holds up nobody, and is seen when it is over.
func TestAWriterThatIdlesInItsTransactionHoldsUpNobody(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	changes := subscribe(t, table)
	w := watched(t, node, table)
	open := idlers(t, db, 5)
	conn, began, v := db.Conn(t), time.Now(), 0
	for tick := time.NewTicker(20 * time.Millisecond); time.Since(began) < idleFor(); <-tick.C {
		v++
		do(t, conn, "update items set v = $1 where id = 1", v)
		seenAs(t, node, table, v)
		if table.Len() != 100 {
			t.Fatalf("%d rows while the idle ones are not committed", table.Len())
		}
	}
	for i, c := range open {
		if i%2 == 0 {
			do(t, c, "commit")
		} else {
			do(t, c, "rollback")
		}
	}
	w.end()
	t.Logf("%d commits were seen meanwhile", v)
	do(t, conn, "update items set v = $1 where id = 1", v+1)
	wantEach(t, values(changes.upTo(rowOneIs(v+1))), 1, v+1)
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
	if table.Len() != 103 {
		t.Errorf("%d rows, want the 100 and the 3 that were committed", table.Len())
	}
}

// A transaction that has begun to write before everything that was trimmed is
// not below the horizon when it commits: every node applies it.
func TestTrimmingNeverPassesAWriterThatIsOlderThanWhatItTrims(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	pool, proxy := proxied(t, db)
	away, awayTable := start(t, pool)
	changes, awayChanges := subscribe(t, table), subscribe(t, awayTable)
	w, awayWatch := watched(t, node, table), watched(t, away, awayTable)

	long := db.Conn(t)
	do(t, long, "begin")
	do(t, long, "insert into items values (1000, 1)")
	var xid uint64
	if err := long.QueryRow(t.Context(), "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	writer := db.Conn(t)
	for v := 1; v <= 50; v++ {
		do(t, writer, "update items set v = $1 where id = 1", v)
	}
	seenAs(t, away, awayTable, 50)
	heal := cuts["packets are dropped"](t, proxy)
	for v := 51; v <= 100; v++ {
		do(t, writer, "update items set v = $1 where id = 1", v)
	}
	trim := func() uint64 {
		t.Helper()
		for _, o := range []outbox.TrimOptions{
			{KeepAge: time.Nanosecond, Spare: -1, KeepNewest: 1},
			{KeepAge: time.Nanosecond, HardAge: time.Nanosecond, KeepRows: 1, HardRows: 1, KeepNewest: 1},
		} {
			if _, err := outbox.Trim(deadline(t), db.Pool(t), o); err != nil {
				t.Fatal(err)
			}
		}
		return ask[uint64](t, db, "select xid::text::bigint from lockstep.horizon")
	}
	if h := trim(); h > xid {
		t.Fatalf("the horizon is %d, above the open transaction %d", h, xid)
	}
	do(t, long, "insert into items values (1001, 1)")
	do(t, long, "commit")
	heal()
	for _, f := range []*feed[int, item]{changes, awayChanges} {
		list := f.upTo(func(c lockstep.Change[int, item]) bool { return c.Key == 1001 })
		wantEach(t, values(list), 1, 100)
	}
	for _, n := range []*lockstep.Node{node, away} {
		barrier(t, n)
		onlyTheFirstLoad(t, n)
	}
	wantSame(t, db, table)
	wantSame(t, db, awayTable)
	w.end()
	awayWatch.end()
	if h := trim(); h <= xid {
		t.Errorf("the horizon is %d after the transaction %d is over", h, xid)
	}
	late, lateTable := start(t, db.Pool(t))
	barrier(t, late)
	wantSame(t, db, lateTable)
}

// A user's own deferred trigger runs after our announcement and writes tables
// that are followed. What it writes is part of the transaction for every node.
func TestWhatADeferredTriggerWritesAfterTheRingIsSeenWithItsTransaction(t *testing.T) {
	db := fresh(t)
	items(t, db)
	db.Exec(t, `create table orders (id int primary key, v int not null); create table notes (id int primary key, v int not null);
		create function later() returns trigger language plpgsql as $$ begin
			insert into items values (1000 + new.id, new.v);
			update items set v = new.v where id = 1;
			return null;
		end $$;
		create constraint trigger later after insert on orders deferrable initially deferred for each row execute function later();
		create constraint trigger later after insert on notes deferrable initially deferred for each row execute function later()`)
	install(t, db, "public.orders") // and notes are not followed: its transaction's first event is written at commit
	table, orders := itemTable(), lockstep.NewTable("public.orders", func(i item) int { return i.ID })
	node := startNode(t, db.Pool(t), lockstep.Config{}, table, orders)
	w := watched(t, node, table)
	changes := subscribe(t, table)
	for v := 1; v <= 40; v++ {
		if v%2 == 0 {
			db.Exec(t, fmt.Sprintf("insert into orders values (%d, %d)", v, v))
		} else {
			db.Exec(t, fmt.Sprintf("insert into notes values (%d, %d)", v, v))
		}
		until(t, "what the trigger wrote is seen", func() bool {
			ok := false
			node.View(func(view *lockstep.View) {
				one, _ := table.At(view).Get(1)
				_, order := orders.At(view).Get(v)
				_, made := table.At(view).Get(1000 + v)
				ok = one.V == v
				if ok != made || v%2 == 0 && ok != order {
					t.Errorf("half of a transaction: %v, %v, %v", one, order, made)
				}
			})
			return ok
		})
	}
	wantEach(t, values(changes.upTo(rowOneIs(40))), 1, 40)
	w.end()
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
}
