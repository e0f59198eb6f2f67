package integration

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// crowding has a server write to items on its own, by some sessions, a transaction for each of some thousand rows a second, until it is
// stopped: more than a client could ask for, also where other work takes the processors.
func crowding(t *testing.T, db *pgtest.DB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 3 {
		conn := db.Conn(t)
		if _, err := conn.Exec(t.Context(), "set synchronous_commit = off"); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for ctx.Err() == nil {
				_, err := conn.Exec(context.WithoutCancel(ctx), `do $$ begin for i in 1..500 loop
					case i % 3 when 0 then insert into items values (1000 + i, i) on conflict (id) do update set v = items.v + 1;
					when 1 then update items set v = v + 1 where id = i % 100 + 1;
					else delete from items where id = 1000 + i - 2; end case;
					commit; end loop; end $$`)
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop = func() { cancel(); all.Wait() }
	t.Cleanup(stop)
	return stop
}

// A crowd takes the bell down and its end brings it back, on a real server, while the node's connections are cut in either state.
// Nothing of the bell is on the server while it rests, and the node holds what the tables hold throughout.
func TestANodeWhoseBellRestsHoldsWhatTheTablesHold(t *testing.T) {
	c := decoded(t)
	db := c.New(t)
	items(t, db)
	rings(t, db, triggers.BellWAL)
	pool, proxy := proxied(t, db)
	table := itemTable()
	cfg := logged
	cfg.Bell, cfg.Register = lockstep.BellAuto, -1
	node := startNode(t, pool, cfg, table)
	hearsByWAL(t, node)
	conn := db.Conn(t)
	const slots = "select count(*) from pg_replication_slots where database = current_database()"
	same := func(when string) {
		t.Helper()
		barrier(t, node)
		if got, want := maps.Collect(table.All()), rowsOf(t, db, "select id, v from items", func(i item) int { return i.ID }); !maps.Equal(got, want) {
			t.Errorf("%s the node holds %d rows, and the table %d others", when, len(got), len(want))
		}
	}
	rests := func() {
		t.Helper()
		until(t, "the bell rests", func() bool {
			s := node.Status()
			return s.State == lockstep.Live && s.Bell == "poll" && strings.Contains(s.WhyBell, "rests while") && count(t.Context(), conn, slots) == 0
		})
	}

	stop := crowding(t, db)
	rests()
	proxy.Stop() // the next session has a bell of its own, which hangs, and rests in its turn
	until(t, "the node is cut off", func() bool { return node.Status().State != lockstep.Live })
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	rests()
	stop()
	same("after the crowd")
	hearsByWAL(t, node)
	changes := subscribe(t, table)
	db.Exec(t, "update items set v = -1 where id = 7")
	changes.upTo(func(c lockstep.Change[int, item]) bool { return c.Key == 7 })
	same("by the bell")
	if s := node.Status(); s.Resyncs != 0 || s.Reloads != 0 || count(t.Context(), conn, slots) != 1 {
		t.Errorf("%d resyncs, %d reloads, %d slots", s.Resyncs, s.Reloads, count(t.Context(), conn, slots))
	}
}
