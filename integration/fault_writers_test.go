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

// A SERIALIZABLE database is one for the application. A node's fetches take no
// predicate lock, which would make writers fail that do not without it: here
// the anomaly of a read-only transaction, between two writers that are fine alone.
func TestANodeNeverMakesASerializableWriterFail(t *testing.T) {
	db := fresh(t)
	items(t, db)
	// By the key and not by whole tables, or the writers are not fine alone.
	db.Exec(t, fmt.Sprintf(`create table elsewhere (id int); alter database %[1]s set default_transaction_isolation = 'serializable';
		alter database %[1]s set enable_seqscan = off; alter database %[1]s set enable_bitmapscan = off`, db.Name))
	node, table := start(t, db.Pool(t))
	w := watched(t, node, table)
	keeper := db.Conn(t) // while it is open the locks of whoever commits are kept
	do(t, keeper, "begin isolation level serializable; select from elsewhere; insert into elsewhere values (1)")
	const locked = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where l.mode = 'SIReadLock' and a.application_name like 'lockstep %'"

	failed := func(between func()) (n int) {
		t.Helper()
		for i := range 10 {
			a, b := db.Conn(t), db.Conn(t)
			do(t, a, "begin isolation level serializable; select v from items where id = 1; select v from items where id = 2") // sees the old 2
			do(t, b, "begin isolation level serializable; select v from items where id = 2")
			do(t, b, "update items set v = v + 1 where id = 2")
			do(t, b, "commit")
			between()
			_, err := a.Exec(deadline(t), "update items set v = $1 where id = 1", i)
			if err == nil {
				_, err = a.Exec(deadline(t), "commit")
			}
			switch sqlState(err) {
			case "40001":
				n++
			default:
				if err != nil {
					t.Fatal(err)
				}
			}
			_ = a.Close(t.Context()) // what is open in it ends
		}
		return n
	}
	if n := failed(func() { barrier(t, node) }); n != 0 {
		t.Errorf("%d of 10 writers failed beside a node", n)
	}
	if n := ask[int](t, db, locked); n != 0 {
		t.Errorf("the node's connections hold %d predicate locks", n)
	}
	// The same with a reader that is SERIALIZABLE: else this test shows nothing.
	other := db.Conn(t)
	if n := failed(func() {
		do(t, other, "begin isolation level serializable; select v from items where id = 1; select v from items where id = 2; commit")
	}); n == 0 {
		t.Error("no writer fails beside a serializable reader either")
	}
	do(t, keeper, "commit")

	// And writers that retry, with a node beside them.
	const writers, each = 4, 25
	retries := make(chan int, writers)
	for range writers {
		conn := db.Conn(t)
		go func() {
			n := 0
			for done := 0; done < each; {
				_, err := conn.Exec(deadline(t), "begin isolation level serializable; update items set v = (select max(v) from items where id in (3, 4)) + 1 where id = 3; commit")
				if err == nil {
					done++
					continue
				}
				if n++; sqlState(err) != "40001" {
					t.Error(err)
					break
				}
				_, _ = conn.Exec(deadline(t), "rollback") // it has failed already
			}
			retries <- n
		}()
	}
	total := 0
	for range writers {
		total += <-retries
	}
	t.Logf("%d commits of serializable writers, %d retries", writers*each, total)
	w.end()
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
	if i, _ := table.Get(3); i.V != writers*each {
		t.Errorf("row 3 is %d after %d increments", i.V, writers*each)
	}
}
