package integration

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/replay"
)

// subscribed is a publisher and a subscriber of table items in one cluster of
// the test's own, which must not wait for each other: so the slot is made by hand.
func subscribed(t *testing.T) (publisher, subscriber *pgtest.DB, subscribe func()) {
	t.Helper()
	c := own(t, pgtest.With("wal_level", "logical"))
	publisher, subscriber = c.New(t), c.New(t)
	return publisher, subscriber, subscribing(t, publisher, subscriber)
}

// subscribing makes table items in both and publishes it; the function subscribes.
func subscribing(t *testing.T, publisher, subscriber *pgtest.DB) (subscribe func()) {
	t.Helper()
	for _, db := range []*pgtest.DB{publisher, subscriber} {
		db.Exec(t, "create table items (id int primary key, v int not null)")
	}
	publisher.Exec(t, "insert into items select i, 0 from generate_series(1, 100) i; create publication p for table items")
	return func() {
		t.Helper()
		publisher.Exec(t, "select pg_create_logical_replication_slot('s', 'pgoutput')")
		subscriber.Exec(t, fmt.Sprintf("create subscription s connection '%s' publication p with (create_slot = false, slot_name = 's')", publisher.DSN()))
		until(t, "the first copy is made", func() bool {
			var ready bool
			row := subscriber.Pool(t).QueryRow(deadline(t), "select bool_and(srsubstate = 'r') from pg_subscription_rel")
			return row.Scan(&ready) == nil && ready
		})
	}
}

// Apply workers fire row triggers that are ALWAYS, and no statement triggers.
func TestATableFedByASubscriptionIsFollowed(t *testing.T) {
	publisher, subscriber, subscribe := subscribed(t)
	subscribe()
	install(t, subscriber, "public.items")
	node, table := start(t, subscriber.Pool(t))
	loads := len(node.Status().Loads)
	for _, sql := range []string{
		"insert into items values (101, 1), (102, 2)",
		"update items set v = v + 1",
		"update items set id = -id where id < 10",
		"begin; delete from items where id = 50; insert into items values (50, 51); update items set v = 52 where id = 50; commit",
		"delete from items where id > 90",
		"begin; update items set v = 0; rollback",
		"truncate items",
		"insert into items values (7, 7)",
	} {
		publisher.Exec(t, sql)
		want := itemsOf(t, publisher)
		until(t, "the node on the subscriber has what the publisher has after "+sql, func() bool {
			return maps.Equal(maps.Collect(table.All()), want)
		})
	}
	subscriber.Exec(t, "insert into items values (8, 8)") // a write of the subscriber's own
	barrier(t, node)
	if i, ok := table.Get(8); !ok || i.V != 8 {
		t.Errorf("a local row is %v, %v", i, ok)
	}
	if n := len(node.Status().Loads); n != loads {
		t.Errorf("%d loads after the first", n-loads)
	}
}

// A subscription that comes later makes statement capture blind: the node says
// so, and another install mends it.
func TestASubscriptionThatComesLaterIsNamedUntilInstallMendsIt(t *testing.T) {
	publisher, subscriber, subscribe := subscribed(t)
	install(t, subscriber, "public.items")
	node, table := start(t, subscriber.Pool(t))
	subscribe()
	publisher.Exec(t, "update items set v = 5")
	until(t, "the node does not call the table live, and says why", func() bool {
		s := node.Status().Tables[0]
		return !s.Live && s.Problem != nil && strings.Contains(s.Problem.Error(), "a subscription feeds it")
	})
	install(t, subscriber, "public.items")
	publisher.Exec(t, "update items set v = 6 where id = 1")
	until(t, "the node has what the publisher has", func() bool {
		return node.Status().Tables[0].Live && maps.Equal(maps.Collect(table.All()), itemsOf(t, publisher))
	})
}

// Two clusters, and the publisher's writers without a pause: before the
// subscription, while it copies, and while it is switched off and on. A node
// needs one install after the subscription, and no load brings what an event should have.
func TestATableFedFromAnotherClusterIsFollowedUnderTraffic(t *testing.T) {
	publisher := own(t, pgtest.With("wal_level", "logical")).New(t)
	subscriber := own(t, pgtest.With("wal_level", "logical")).New(t)
	subscribe := subscribing(t, publisher, subscriber)
	writers := writeTo(t, publisher, &migrated{what: "the publisher's", name: "items"})
	writers.turn(t)
	subscribe()
	install(t, subscriber, "public.items")
	var tables []*lockstep.Table[int, item]
	var nodes []*lockstep.Node
	for i := range 2 {
		table := itemTable()
		tables, nodes = append(tables, table), append(nodes, startNode(t, subscriber.Pool(t), lockstep.Config{Name: fmt.Sprint("node-", i)}, table))
	}
	// The subscriber's own writes go between.
	for i, sql := range []string{"alter subscription s disable", "alter subscription s enable", "select 1", "select 1"} {
		writers.turn(t)
		subscriber.Exec(t, sql)
		subscriber.Exec(t, fmt.Sprintf("insert into items values (-%[1]d, 1); update items set v = v + 1 where id < 0; delete from items where id = -%[1]d", i+1))
	}
	writers.stop()
	want := itemsOf(t, publisher)
	for i, node := range nodes {
		until(t, "the node on the subscriber has what the publisher has", func() bool { return maps.Equal(maps.Collect(tables[i].All()), want) })
		barrier(t, node)
		wantSame(t, subscriber, tables[i])
		s := node.Status()
		for _, l := range s.Loads[1:] {
			if l.Reason != replay.Drift { // a TRUNCATE gives the table another file
				t.Errorf("a load after the first: %+v", l)
			}
		}
		if s.State != lockstep.Live || s.Failures != 0 {
			t.Errorf("%v, %d failures (%v)", s.State, s.Failures, s.LastError)
		}
	}
	writers.wantHarmless(t)
}
