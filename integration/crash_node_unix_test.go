//go:build unix

package integration

import (
	"context"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/replay"
)

// wantResync checks that a node has loaded again, once, for a reason, and is live.
func wantResync(t *testing.T, node *lockstep.Node, why replay.Reason) {
	t.Helper()
	s := node.Status()
	if last := s.Loads[len(s.Loads)-1]; s.Resyncs != 1 || last.Reason != why || last.Detail == "" {
		t.Errorf("%d resyncs, loads %+v, want one because of %q", s.Resyncs, s.Loads, why)
	}
	goesLive(t, node)
}

// goesLive waits until a node says that it is live: on a slow machine its last
// fetch may be some seconds old.
func goesLive(t *testing.T, node *lockstep.Node) {
	t.Helper()
	until(t, "the node is live", func() bool { return node.Status().State == lockstep.Live })
}

// wantTold checks that a subscriber who had some items is told what really
// differs now, each once, and nothing else.
func wantTold(t *testing.T, db *pgtest.DB, changes *feed[int, item], had map[int]item) {
	t.Helper()
	want := differences(had, itemsOf(t, db))
	changes.mark(t, db)
	told := changes.upTo(isMark)
	wantDifferences(t, told[:len(told)-1], want)
}

// A kill takes asynchronous commits that the node has applied; their ids, and
// those of transactions that were rolled back or still open, go to others. The
// node notices, and makes good exactly what differs, with its readers served.
func TestACrashThatTakesAppliedCommitsLeadsToADifferenceAndNoMore(t *testing.T) {
	for name, empty := range map[string]bool{"after other events": false, "from an outbox that was empty at the load": true} {
		t.Run(name, func(t *testing.T) {
			c := forgetful(t)
			db := c.New(t)
			items(t, db)
			if !empty {
				db.Exec(t, "insert into items values (101, 0)")
			}
			pool, proxy := proxied(t, db)
			node, table := quiet(t, pool)
			readers(t, node, table)
			changes := subscribe(t, table)
			holdLog(t, db)
			conn := writeWhatIsLost(t, db)
			barrier(t, node)
			lost, had := lastXid(t, conn), held(table)
			if had[3].V != -7 && had[3].V != 7 {
				t.Fatalf("the node has not applied what is to be lost: %v", had[3])
			}
			changes.upTo(func(c lockstep.Change[int, item]) bool { return c.Key == 71 })

			loseAndReuse(t, c, db, proxy, lost)
			wantDifference(t, db, node, table, changes, had)
		})
	}
}

// writeWhatIsLost commits, without waiting for the disk, and rolls back and leaves open, on the connection that it returns and
// another one. The log must be held.
func writeWhatIsLost(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	conn, open := careless(t, db), careless(t, db)
	burn(t, conn, 3)
	run(t, open, "begin; update items set v = v + 1 where id = 9")
	move(t, conn, 3, 4, 7)
	run(t, conn, "begin; update items set v = 1000 where id < 9; rollback")
	run(t, conn, "insert into items values (200, 0)")
	run(t, conn, "delete from items where id = 101")
	move(t, conn, 51, 71, 1) // what the first one afterwards does, too
	return conn
}

// loseAndReuse crashes the server out of the node's sight, and gives the ids up to lost to other transactions.
func loseAndReuse(t *testing.T, c *pgtest.Cluster, db *pgtest.DB, proxy *toxiproxy.Proxy, lost uint64) {
	t.Helper()
	proxy.Stop()
	crash(t, c)
	moveUpTo(t, db, lost)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
}

// What nobody has lost is replayed: ids that were only in memory go to
// writers after the crash, and the node misses none of them.
func TestACrashThatTakesNothingAppliedIsReplayed(t *testing.T) {
	for name, empty := range map[string]bool{"after other events": false, "from an outbox that was empty at the load": true} {
		t.Run(name, func(t *testing.T) {
			c := forgetful(t)
			db := c.New(t)
			items(t, db)
			if !empty {
				move(t, db.Conn(t), 1, 2, 5)
			}
			conn := careless(t, db)
			holdLog(t, db)
			burn(t, conn, 5)
			pool, proxy := proxied(t, db)
			node, table := quiet(t, pool)
			readers(t, node, table)
			changes := subscribe(t, table)
			burn(t, conn, 5)
			barrier(t, node)
			burnt, had := highestXid(t, conn), held(table)

			proxy.Stop()
			crash(t, c)
			moveUpTo(t, db, burnt)
			if err := proxy.Start(); err != nil {
				t.Fatal(err)
			}
			barrier(t, node)
			if s := node.Status(); s.Resyncs+s.Reloads != 0 || s.Replays != 1 {
				t.Errorf("%d resyncs, %d reloads, %d replays: %+v", s.Resyncs, s.Reloads, s.Replays, s.Loads)
			}
			wantSame(t, db, table)
			if len(differences(had, held(table))) == 0 {
				t.Error("nothing was written under the ids: this test no longer shows anything")
			}
			changes.mark(t, db)
			changes.upTo(isMark)
		})
	}
}

// The last commit that a node has applied can survive while one that it applied
// before does not.
func TestACommitLostBehindASurvivorIsNoticed(t *testing.T) {
	c := forgetful(t)
	db := c.New(t)
	items(t, db)
	pool, proxy := proxied(t, db)
	node, table := quiet(t, pool)
	readers(t, node, table)
	changes := subscribe(t, table)
	holdLog(t, db)
	lost := lostBehindASurvivor(t, &scene{db: db, all: []interface{ Barrier(context.Context) error }{node}})
	had := held(table)
	changes.upTo(func(c lockstep.Change[int, item]) bool { return c.Key == 4 })

	proxy.Stop()
	crash(t, c)
	survived := itemsOf(t, db)
	if survived[3].V == 0 || survived[5].V != 0 || had[3].V == 0 || had[5].V == 0 {
		t.Fatalf("before the crash the node had %v and %v, after it the database %v and %v", had[3], had[5], survived[3], survived[5])
	}
	moveUpTo(t, db, lost)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	wantDifference(t, db, node, table, changes, had)
}

// A load can see a commit that is not in the log on disk, of a transaction
// that is older than all that the load takes for its anchor. Until an event
// from after the load was applied nothing shows that it has survived a crash.
func TestAnOldTransactionThatALoadHasSeenAndACrashTakesIsNoticed(t *testing.T) {
	c := forgetful(t)
	db := c.New(t)
	items(t, db)
	old := careless(t, db)
	run(t, old, "begin")
	move(t, old, 3, 4, 7)
	db.Exec(t, "insert into items select 1000 + i, 0 from generate_series(1, 5000) i")
	holdLog(t, db)
	run(t, old, "commit")
	pool, proxy := proxied(t, db)
	node, table := quiet(t, pool)
	readers(t, node, table)
	changes, had := subscribe(t, table), held(table)

	proxy.Stop()
	crash(t, c)
	if survived := itemsOf(t, db); survived[3].V != 0 || had[3].V == 0 {
		t.Fatalf("the node had %v, after the crash there is %v", had[3], survived[3])
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	wantDifference(t, db, node, table, changes, had)
}

// wantDifference waits for a load that a missing transaction has led to: the node ends equal to the table, and
// a subscriber is told of what differs from what the node had, and of nothing else.
func wantDifference(t *testing.T, db *pgtest.DB, node *lockstep.Node, table *lockstep.Table[int, item], changes *feed[int, item], had map[int]item) {
	t.Helper()
	barrier(t, node)
	wantResync(t, node, replay.AnchorMissing)
	wantSame(t, db, table)
	wantTold(t, db, changes, had)
}
