package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox/wal"
	"github.com/pglockstep/lockstep/triggers"
)

// logged is the configuration of a node that reads the log, or does not start.
var logged = lockstep.Config{Bell: lockstep.BellWAL, WAL: wal.Bell{}}

// decoded is a cluster of the test's own whose log can be decoded.
func decoded(t *testing.T, opts ...pgtest.Option) *pgtest.Cluster {
	t.Helper()
	// A server that goes on sending while a toxic is taken away leaves the proxy with
	// a packet that nobody takes from it any more.
	noLeaks(t, goleak.IgnoreTopFunction("github.com/Shopify/toxiproxy/v2/toxics.(*NoopToxic).Pipe"))
	return pgtest.Own(t, append(opts, pgtest.With("wal_level", "logical"), pgtest.With("max_prepared_transactions", "10"))...)
}

// rings installs a bell.
func rings(t *testing.T, db *pgtest.DB, bell triggers.Bell) {
	t.Helper()
	if err := triggers.Install(deadline(t), db.Pool(t), triggers.Options{Bell: bell, Logger: silent}); err != nil {
		t.Fatal(err)
	}
}

// count is a query's number; -1 where the server does not answer.
func count(ctx context.Context, conn *pgx.Conn, sql string) (n int) {
	if err := conn.QueryRow(ctx, "select ("+sql+")::int").Scan(&n); err != nil {
		return -1
	}
	return n
}

func hearsByWAL(t *testing.T, node *lockstep.Node) {
	t.Helper()
	until(t, "the node reads the log", func() bool {
		s := node.Status()
		return s.State == lockstep.Live && s.Bell == "wal" && s.WhyBell == ""
	})
}

// With beats an hour apart only a ring can bring a commit. None of them notifies.
func TestEachCommitArrivesByTheLogAlone(t *testing.T) {
	c := decoded(t)
	db := c.New(t)
	items(t, db)
	rings(t, db, triggers.BellWAL)
	cfg := logged
	cfg.Beat, cfg.MaxStale = time.Hour, 2*time.Hour
	table := itemTable()
	node := startNode(t, db.Pool(t), cfg, table)
	hearsByWAL(t, node)
	changes := subscribe(t, table)
	conn := db.Conn(t)
	if n := count(t.Context(), conn, "select count(*) from pg_trigger where tgname = 'lockstep_announce'"); n != 0 {
		t.Errorf("%d triggers notify", n)
	}
	for v := 1; v <= 50; v++ {
		sql := fmt.Sprintf("update items set v = %d where id = 1", v)
		switch v % 3 {
		case 1:
			sql = "begin; " + sql + "; prepare transaction 'lockstep'"
			db.Exec(t, sql)
			sql = "commit prepared 'lockstep'"
		case 2:
			sql = "set synchronous_commit = off; " + sql
		}
		db.Exec(t, sql)
		changes.upTo(rowOneIs(v))
	}
	barrier(t, node) // numbers that were seen too early are settled
	var wg sync.WaitGroup
	for w := range 4 {
		conn := db.Conn(t)
		wg.Go(func() {
			for i := range 100 {
				if _, err := conn.Exec(t.Context(), "update items set v = v + 1 where id = $1", 2+w*20+i%20); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	until(t, "what many have written is there", func() bool {
		sum := 0
		for id, i := range table.All() {
			if id > 1 {
				sum += i.V
			}
		}
		return sum == 400
	})
	wantSame(t, db, table)
	if s := node.Status(); s.Unrung != 0 || s.Resyncs+s.Reloads != 0 || s.Sessions != 1 || s.Bell != "wal" {
		t.Errorf("%d beats found what nobody rang for; %d sessions, bell %s", s.Unrung, s.Sessions, s.Bell)
	}
}

func TestNodeThatReadsTheLogReplaysWhatItMissedWhenCutOff(t *testing.T) {
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			c := decoded(t)
			db := c.New(t)
			items(t, db)
			rings(t, db, triggers.BellWAL)
			replaysAfterACut(t, db, name, cut, logged)
		})
	}
}

func TestNodeThatReadsTheLogComesBackFromEachKindOfFailureWithoutLoading(t *testing.T) {
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			c := decoded(t, pgtest.With("fsync", "on"))
			db := c.New(t)
			items(t, db)
			rings(t, db, triggers.BellWAL)
			table := itemTable()
			node := startNode(t, db.Pool(t), logged, table)
			hearsByWAL(t, node)
			replaysAfterAFailure(t, c, db, node, table, fail)
			hearsByWAL(t, node)
			conn := db.Conn(t)
			// A slot of before the failure is none any more.
			until(t, "the node has one slot", func() bool {
				return count(t.Context(), conn, "select count(*) from pg_replication_slots") == 1
			})
			if err := node.Close(deadline(t)); err != nil {
				t.Error(err)
			}
			if n := count(t.Context(), conn, "select count(*) from pg_replication_slots"); n != 0 {
				t.Errorf("%d slots are left behind", n)
			}
		})
	}
}

// What nobody asked for is found all the same: by an error of the server's before
// version 18, which is a new session, and by its beats from then on.
func TestAPublicationThatIsDroppedByHandCostsTimeOnly(t *testing.T) {
	c := decoded(t)
	db := c.New(t)
	items(t, db)
	rings(t, db, triggers.BellWAL)
	table := itemTable()
	node := startNode(t, db.Pool(t), lockstep.Config{WAL: wal.Bell{}}, table)
	hearsByWAL(t, node)
	changes := subscribe(t, table)
	db.Exec(t, "drop publication lockstep_bell")
	for v := 1; v <= 20; v++ {
		db.Exec(t, "update items set v = v + 1 where id = 1")
		changes.upTo(rowOneIs(v))
	}
	if c.Version() < 180000 {
		until(t, "the node says what is missing", func() bool {
			s := node.Status()
			return s.Bell == "poll" && strings.Contains(s.WhyBell, "run lockstep install --bell wal")
		})
	} else if s := node.Status(); s.Unrung == 0 {
		t.Error("no beat found what nobody rang for")
	}
	barrier(t, node)
	wantSame(t, db, table)
	if s := node.Status(); s.Resyncs+s.Reloads != 0 {
		t.Errorf("%d resyncs, %d reloads", s.Resyncs, s.Reloads)
	}
}

// A running node goes over to the bell that install puts in place.
func TestNodesGoOverToAnotherBellWithoutALoad(t *testing.T) {
	c := decoded(t)
	db := c.New(t)
	items(t, db)
	table, plain := itemTable(), itemTable()
	node := startNode(t, db.Pool(t), lockstep.Config{Name: "with", WAL: wal.Bell{}}, table)
	without := startNode(t, db.Pool(t), lockstep.Config{Name: "without"}, plain)
	for i, step := range []struct {
		install             triggers.Bell
		with, without, lack string
	}{
		{triggers.BellNotify, "notify", "notify", ""},
		{triggers.BellWAL, "wal", "poll", "Config.WAL"},
		{triggers.BellOff, "poll", "poll", "the bell is off"},
		{triggers.BellWAL, "wal", "poll", "Config.WAL"},
		{triggers.BellNotify, "notify", "notify", ""},
	} {
		rings(t, db, step.install)
		until(t, "both nodes use bell "+string(step.install), func() bool {
			a, b := node.Status(), without.Status()
			return a.State == lockstep.Live && b.State == lockstep.Live && a.Bell == step.with && b.Bell == step.without && strings.Contains(b.WhyBell, step.lack)
		})
		db.Exec(t, fmt.Sprintf("update items set v = %d", i+1))
		barrier(t, node)
		barrier(t, without)
		wantSame(t, db, table)
		wantSame(t, db, plain)
	}
	for _, n := range []*lockstep.Node{node, without} {
		if s := n.Status(); s.Resyncs+s.Reloads != 0 || len(s.Loads) != 1 {
			t.Errorf("%s: %d resyncs, %d reloads", s.Name, s.Resyncs, s.Reloads)
		}
	}
}

// Where the log is ahead of what is visible (a commit waits for a synchronous
// standby), the ring comes first and the row later, unlost.
func TestACommitThatIsInTheLogAndNotYetVisibleIsSeenWhenItIs(t *testing.T) {
	c := decoded(t, pgtest.With("synchronous_standby_names", "nobody"), pgtest.With("synchronous_commit", "local"))
	db := c.New(t)
	items(t, db)
	rings(t, db, triggers.BellWAL)
	table := itemTable()
	node := startNode(t, db.Pool(t), logged, table)
	hearsByWAL(t, node)
	changes := subscribe(t, table)
	conn, writer := db.Conn(t), db.Conn(t)
	if _, err := writer.Exec(t.Context(), "set synchronous_commit = on"); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func(ctx context.Context) {
		_, err := writer.Exec(ctx, "update items set v = 1 where id = 1")
		wrote <- err
	}(deadline(t))
	until(t, "the commit waits, and the node has looked for it", func() bool {
		return count(t.Context(), conn, "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == 1 && node.Status().HandedOutSeq == 1
	})
	if got, _ := table.Get(1); got.V != 0 {
		t.Errorf("what is not committed for others is visible: %v", got)
	}
	db.Exec(t, "alter system set synchronous_standby_names = ''")
	db.Exec(t, "select pg_reload_conf()")
	changes.upTo(rowOneIs(1))
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	wantSame(t, db, table)
}
