package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
	"github.com/pglockstep/lockstep/triggers"
)

// blueGreen is two clusters with tables items and later. The first has a
// publication FOR ALL TABLES.
func blueGreen(t *testing.T) (blue, green *pgtest.DB) {
	t.Helper()
	blue, green = own(t, pgtest.With("wal_level", "logical")).New(t), own(t, pgtest.With("wal_level", "logical")).New(t)
	for _, db := range []*pgtest.DB{blue, green} {
		db.Exec(t, "create table items (id int primary key, v int not null); create table later (id int primary key, v int not null)")
	}
	blue.Exec(t, "insert into items select i, 0 from generate_series(1, 100) i; create publication p for all tables")
	return blue, green
}

// installPublished is install where the schema is published with everything else.
func installPublished(t *testing.T, db *pgtest.DB, tables ...string) {
	t.Helper()
	o := triggers.Options{Bell: triggers.BellNotify, Logger: silent, Published: true}
	if err := triggers.Install(deadline(t), db.Pool(t), o, tables...); err != nil {
		t.Fatal(err)
	}
}

// follow subscribes green to blue, and waits until items are copied.
func replicateTo(t *testing.T, blue, green *pgtest.DB) {
	t.Helper()
	green.Exec(t, fmt.Sprintf("create subscription s connection '%s' publication p", blue.DSN()))
	pool := green.Pool(t)
	until(t, "the first copy is made", func() bool {
		var ready bool
		row := pool.QueryRow(deadline(t), "select srsubstate = 'r' from pg_subscription_rel where srrelid = 'items'::regclass")
		return row.Scan(&ready) == nil && ready
	})
}

// delivered waits until green has the items that blue has.
func delivered(t *testing.T, blue, green *pgtest.DB) {
	t.Helper()
	want, pool := itemsOf(t, blue), green.Pool(t)
	until(t, "green has what blue has", func() bool {
		return maps.Equal(rowsFrom(t, pool, "select id, v from items", func(i item) int { return i.ID }), want)
	})
}

// named is what one value of a query is called.
type named struct {
	ID   int
	Text string
}

func only(t *testing.T, db *pgtest.DB, sql string) string {
	t.Helper()
	return rowsOf(t, db, "select 1, coalesce(("+sql+")::text, '')", func(n named) int { return n.ID })[1].Text
}

// The schema goes to the subscriber first. What the publisher's outbox, register,
// nodes and meta then send is left out there, and a node on the subscriber
// follows the subscriber's own log.
func TestAPublicationForAllTablesBringsNoForeignEvents(t *testing.T) {
	blue, green := blueGreen(t)
	install(t, green)
	history := only(t, green, "select history from lockstep.meta")
	installPublished(t, blue, "public.items")
	start(t, blue.Pool(t)) // its row among the nodes travels too
	writers := writeTo(t, blue, &migrated{what: "blue's", name: "items"})
	writers.turn(t)
	replicateTo(t, blue, green)
	install(t, green, "public.items")
	table := itemTable()
	node := startNode(t, green.Pool(t), lockstep.Config{Name: "green"}, table)
	for i := range 3 {
		writers.turn(t)
		if _, err := outbox.Trim(deadline(t), blue.Pool(t), outbox.TrimOptions{HardRows: 1, KeepNewest: 1}); err != nil {
			t.Fatal(err)
		}
		install(t, blue, "public.later") // writes meta and the register
		blue.Exec(t, fmt.Sprintf("insert into later values (%d, 1)", i))
	}
	writers.stop()
	writers.wantHarmless(t)
	delivered(t, blue, green)
	barrier(t, node)
	wantSame(t, green, table)
	if s := node.Status(); s.State != lockstep.Live || s.Failures+s.Resyncs != 0 {
		t.Errorf("%v, %d failures (%v), %d resyncs", s.State, s.Failures, s.LastError, s.Resyncs)
	}
	for sql, want := range map[string]string{
		"select history from lockstep.meta": history, "select string_agg(name, ',') from lockstep.tables": "public.items",
		"select string_agg(name, ',') from lockstep.nodes": "green", "select string_agg(distinct table_name, ',') from lockstep.outbox": "public.items",
		"select string_agg(c.relname, ',') from pg_subscription_rel s join pg_class c on c.oid = s.srrelid where srsubstate <> 'r'": "",
	} {
		if got := only(t, green, sql); got != want {
			t.Errorf("green: %s: %q, want %q", sql, got, want)
		}
	}
}

// What the guard is for. A foreign event whose transaction id green has not
// reached stops its nodes by name; install and a new history bring them back.
func TestWithoutTheGuardForeignEventsComeIn(t *testing.T) {
	blue, green := blueGreen(t)
	install(t, green)
	for _, table := range []string{"outbox", "tables", "nodes", "horizon", "meta"} {
		green.Exec(t, "drop trigger lockstep_foreign on lockstep."+table)
	}
	installPublished(t, blue, "public.items", "public.later")
	replicateTo(t, blue, green)
	install(t, green, "public.items")
	green.Exec(t, "drop trigger lockstep_foreign on lockstep.outbox") // which install has mended
	node, table := start(t, green.Pool(t))
	blue.Exec(t, "do $$ begin for i in 1..2000 loop perform pg_current_xact_id(); commit; end loop; end $$")
	blue.Exec(t, "update items set v = 1 where id = 1")
	until(t, "the node refuses what is not its server's", func() bool {
		s := node.Status()
		return s.State == lockstep.Stale && errors.Is(s.LastError, replay.ErrForeign) && strings.Contains(s.LastError.Error(), "--new-history")
	})
	install(t, green)
	if err := triggers.NewHistory(deadline(t), green.Pool(t), triggers.Options{}); err != nil {
		t.Fatal(err)
	}
	blue.Exec(t, "update items set v = 2 where id = 1")
	delivered(t, blue, green)
	until(t, "the node is live again", func() bool { return node.Status().State == lockstep.Live })
	barrier(t, node)
	wantSame(t, green, table)
}

// A subscriber that lacks a published table stops, with all that it replicates:
// install refuses to bring that about unasked.
func TestASubscriberWithoutTheSchemaStopsUntilItHasIt(t *testing.T) {
	blue, green := blueGreen(t)
	replicateTo(t, blue, green)
	if err := triggers.Install(deadline(t), blue.Pool(t), triggers.Options{Logger: silent}, "public.items"); !errors.Is(err, triggers.ErrPublished) {
		t.Fatalf("install under a publication FOR ALL TABLES: %v", err)
	}
	blue.Exec(t, "update items set v = 1")
	delivered(t, blue, green)
	installPublished(t, blue, "public.items")
	blue.Exec(t, "update items set v = 2")
	until(t, "green has stopped and says why", func() bool {
		return strings.Contains(green.Server().Logs(), `logical replication target relation "lockstep.`)
	})
	if got := itemsOf(t, green); got[1].V != 1 {
		t.Errorf("green has gone on: %v", got[1])
	}
	install(t, green)
	delivered(t, blue, green)
}

// Nodes move from blue to green with their connections: they load once, as a
// difference, because green's history is another one.
func TestNodesMoveFromBlueToGreenAndLoadOnce(t *testing.T) {
	blue, green := blueGreen(t)
	install(t, green)
	installPublished(t, blue, "public.items")
	replicateTo(t, blue, green)
	install(t, green, "public.items")

	var at atomic.Pointer[pgx.ConnConfig]
	at.Store(configOf(t, blue))
	pool := blue.Pool(t, func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			to := at.Load()
			cc.Host, cc.Port, cc.User, cc.Password, cc.Database, cc.Fallbacks = to.Host, to.Port, to.User, to.Password, to.Database, to.Fallbacks
			return nil
		}
	})
	node, table := start(t, pool)
	writers := writeTo(t, blue, &migrated{what: "blue's", name: "items"})
	writers.turn(t)
	token, err := table.Put(deadline(t), item{1000, 1})
	if err != nil {
		t.Fatal(err)
	}
	// The switch: blue is written no more, green has everything and is fed no more.
	writers.stop()
	delivered(t, blue, green)
	green.Exec(t, "drop subscription s")
	install(t, green, "public.items")
	at.Store(configOf(t, green))
	blue.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	pool.Reset()
	green.Exec(t, "insert into items values (1001, 1)")
	until(t, "the node has what was written to green", func() bool { _, ok := table.Get(1001); return ok })
	barrier(t, node)
	wantSame(t, green, table)
	s := node.Status()
	if last := s.Loads[len(s.Loads)-1]; s.Resyncs != 1 || last.Reason != replay.HistoryChanged {
		t.Errorf("%d resyncs, the last load %+v", s.Resyncs, last)
	}
	if err := node.WaitFor(deadline(t), token); !errors.Is(err, lockstep.ErrHistory) {
		t.Errorf("a token of blue's: %v", err)
	}
	writersOfGreen := writeTo(t, green, &migrated{what: "green's", name: "items"})
	writersOfGreen.turn(t)
	writersOfGreen.stop()
	barrier(t, node)
	wantSame(t, green, table)
	if mode := only(t, green, "select mode from lockstep.tables where name = 'public.items'"); mode != "statement" {
		t.Errorf("capture on green is by %s", mode)
	}
}

func configOf(t *testing.T, db *pgtest.DB) *pgx.ConnConfig {
	t.Helper()
	c, err := pgx.ParseConfig(db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
