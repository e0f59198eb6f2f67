//go:build unix

package integration

import (
	"errors"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
	"github.com/pglockstep/lockstep/triggers"
)

// moved is a database that has come to another cluster with its outbox, and a
// node that had followed it in the first one.
type moved struct {
	db      *pgtest.DB // where it is now
	proxy   *toxiproxy.Proxy
	node    *lockstep.Node
	table   *lockstep.Table[int, item]
	changes *feed[int, item]
	had     map[int]item
}

// wantRefusedUntilANewHistory checks that nobody follows an outbox whose
// transaction ids are another cluster's, that everybody is told the command
// that makes an end of it, and that after it all is well: nothing of the old
// outbox ever comes out as new.
func (m *moved) wantRefusedUntilANewHistory(t *testing.T) {
	t.Helper()
	refused := func(err error) bool {
		return errors.Is(err, outbox.ErrForeignCluster) && strings.Contains(err.Error(), "run lockstep install --new-history")
	}
	if _, err := lockstep.Start(deadline(t), m.db.Pool(t), lockstep.Config{Logger: silent}, itemTable()); !refused(err) {
		t.Errorf("a node was started on another cluster's outbox: %v", err)
	}
	m.proxy.Upstream = m.db.Server().Addr()
	if err := m.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the node says that the outbox is another cluster's", func() bool {
		s := m.node.Status()
		return s.State == lockstep.Stale && refused(s.LastError) && strings.Contains(s.Reason, "--new-history")
	})

	// What the command does.
	if err := triggers.NewHistory(deadline(t), m.db.Pool(t), triggers.Options{Logger: silent}); err != nil {
		t.Fatal(err)
	}
	if err := triggers.Install(deadline(t), m.db.Pool(t), triggers.Options{Logger: silent}); err != nil {
		t.Fatal(err)
	}
	if found, err := triggers.Inspect(deadline(t), m.db.Pool(t), triggers.Options{}); err != nil || len(found) > 0 {
		t.Errorf("after a new history there are findings: %v, %v", found, err)
	}
	conn := m.db.Conn(t)
	move(t, conn, 7, 8, 9)
	barrier(t, m.node)
	wantResync(t, m.node, replay.HistoryChanged)
	wantSame(t, m.db, m.table)
	wantTold(t, m.db, m.changes, m.had)

	_, fresh := start(t, m.db.Pool(t))
	changes := subscribe(t, fresh)
	move(t, conn, 9, 10, 11)
	m.changes.upTo(func(c lockstep.Change[int, item]) bool { return c.Key == 10 })
	told := changes.upTo(func(c lockstep.Change[int, item]) bool { return c.Key == 10 })
	wantDifferences(t, told, map[int]lockstep.Op{9: lockstep.OpUpdate, 10: lockstep.OpUpdate})
	wantSame(t, m.db, fresh)
}

// A dump that is restored into another cluster brings an outbox whose
// transaction ids are another cluster's: some of them are still to come there.
func TestADumpInAnotherClusterIsRefusedUntilANewHistory(t *testing.T) {
	c, other := own(t, pgtest.Trust), pgtest.Own(t, pgtest.Trust)
	db := c.New(t)
	items(t, db)
	conn := db.Conn(t)
	run(t, conn, "do $$ begin for i in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end $$")
	move(t, conn, 1, 2, 5)
	pool, proxy := proxied(t, db)
	node, table := quiet(t, pool)
	readers(t, node, table)
	dump := db.Program(t, "", "pg_dump", "-d", db.DSN())
	move(t, conn, 3, 4, 6) // not in the dump
	barrier(t, node)
	m := &moved{proxy: proxy, node: node, table: table, changes: subscribe(t, table), had: held(table)}
	proxy.Stop()
	if err := c.Halt(pgserver.Fast); err != nil {
		t.Fatal(err)
	}

	other.New(t).Exec(t, "create database "+db.Name+" template template0")
	m.db = other.Has(db)
	m.db.Exec(t, "create role lockstep_capture nologin; create table in_between (id int primary key)") // so that oids differ
	m.db.Program(t, dump, "psql", "-v", "ON_ERROR_STOP=1", "-q", "-d", m.db.DSN())
	there := m.db.Conn(t)
	if last, next := lastXid(t, there), highestXid(t, there); last <= next {
		t.Fatalf("the outbox ends at transaction %d, the cluster is at %d: nothing of it could come out as new", last, next)
	}
	m.wantRefusedUntilANewHistory(t)
}

// A dump restored over its own database, in the same cluster, brings an outbox
// whose ids mean what they meant. Only the tables' oids are others.
func TestADumpRestoredOverItsDatabaseLeadsToADifferenceAndNoMore(t *testing.T) {
	c := own(t)
	db, admin := c.New(t), c.New(t).Conn(t)
	items(t, db)
	conn := db.Conn(t)
	move(t, conn, 1, 2, 5)
	pool, proxy := proxied(t, db)
	node, table := quiet(t, pool)
	readers(t, node, table)
	dump := db.Program(t, "", "pg_dump", "-d", db.DSN())
	move(t, conn, 3, 4, 6) // not in the dump
	run(t, conn, "insert into items values (200, 0)")
	barrier(t, node)
	changes, had := subscribe(t, table), held(table)

	proxy.Stop()
	run(t, admin, "drop database "+db.Name+" with (force)")
	run(t, admin, "create database "+db.Name+" template template0")
	db.Program(t, dump, "psql", "-v", "ON_ERROR_STOP=1", "-q", "-d", db.DSN())
	_, err := lockstep.Start(deadline(t), db.Pool(t), lockstep.Config{Logger: silent}, itemTable())
	if !errors.Is(err, outbox.ErrTable) || !strings.Contains(err.Error(), "run lockstep install") {
		t.Errorf("a node was started before the register was brought up to date: %v", err)
	}
	move(t, db.Conn(t), 7, 8, 9) // captured all the same
	install(t, db)
	move(t, db.Conn(t), 9, 10, 11)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	wantDifference(t, db, node, table, changes, had)
}
