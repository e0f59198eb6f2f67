package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// toxic adds a toxic to a proxy in both directions.
func toxic(t *testing.T, proxy *toxiproxy.Proxy, kind, attributes string) (remove func()) {
	t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		spec := fmt.Sprintf(`{"name": %q, "type": %q, "stream": %q, "attributes": {%s}}`, stream, kind, stream, attributes)
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(spec)); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for _, stream := range []string{"upstream", "downstream"} {
			if err := proxy.Toxics.RemoveToxic(context.Background(), stream); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// cuts are the ways in which a network takes a node's server away. Each
// returns what heals it.
var cuts = map[string]func(t *testing.T, proxy *toxiproxy.Proxy) (heal func()){
	"connections are closed and new ones refused": func(t *testing.T, proxy *toxiproxy.Proxy) func() {
		proxy.Stop()
		return func() {
			if err := proxy.Start(); err != nil {
				t.Fatal(err)
			}
		}
	},
	"connections are reset": func(t *testing.T, proxy *toxiproxy.Proxy) func() {
		return toxic(t, proxy, "reset_peer", `"timeout": 0`)
	},
	"packets are dropped": func(t *testing.T, proxy *toxiproxy.Proxy) func() {
		return toxic(t, proxy, "timeout", `"timeout": 0`)
	},
	"packets are held back": func(t *testing.T, proxy *toxiproxy.Proxy) func() {
		return toxic(t, proxy, "latency", `"latency": 3600000`)
	},
}

// values are what row 1 became, in the order in which a subscriber was told.
func values(list []lockstep.Change[int, item]) (v []int) {
	for _, c := range list {
		if c.Key == 1 {
			v = append(v, c.New.V)
		}
	}
	return v
}

func rowOneIs(v int) func(lockstep.Change[int, item]) bool {
	return func(c lockstep.Change[int, item]) bool { return c.Key == 1 && c.New.V == v }
}

// wantEach checks that a subscriber was told first, first+1, ... last.
func wantEach(t *testing.T, got []int, first, last int) {
	t.Helper()
	ok := len(got) == last-first+1
	for i, v := range got {
		ok = ok && v == first+i
	}
	if !ok {
		t.Errorf("a subscriber saw %v, want each of %d to %d once and in order", got, first, last)
	}
}

// wantSame compares the node's items with the table's.
func wantSame(t *testing.T, db *pgtest.DB, table *lockstep.Table[int, item]) {
	t.Helper()
	want := itemsOf(t, db)
	if got := maps.Collect(table.All()); !maps.Equal(got, want) {
		t.Errorf("the node has %v, the database %v", got, want)
	}
}

// Real sockets from end to end: follow, be cut off, keep answering, be healed,
// replay. Nothing is loaded again and nobody misses or doubles a change.
func TestNodeThatWasCutOffReplaysWhatItMissed(t *testing.T) {
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			items(t, db)
			replaysAfterACut(t, db, name, cut, lockstep.Config{})
		})
	}
}

// replaysAfterACut cuts a node off while its database is written to, and heals it.
func replaysAfterACut(t *testing.T, db *pgtest.DB, name string, cut func(*testing.T, *toxiproxy.Proxy) func(), cfg lockstep.Config) {
	t.Helper()
	direct := db.Pool(t)
	pool, proxy := proxied(t, db)
	table := itemTable()
	node := startNode(t, pool, cfg, table)
	changes := subscribe(t, table)
	db.Exec(t, "update items set v = 1 where id = 1")
	changes.upTo(rowOneIs(1))
	barrier(t, node)
	began := time.Now()

	heal := cut(t, proxy)
	for v := 2; v <= 20; v++ {
		if _, err := direct.Exec(t.Context(), "update items set v = $1 where id = 1", v); err != nil {
			t.Fatal(err)
		}
	}
	cutOff(t, node, table, began)
	heal()

	wantEach(t, values(changes.upTo(rowOneIs(20))), 2, 20)
	barrier(t, node)
	wantSame(t, db, table)
	s := node.Status()
	if s.State != lockstep.Live || s.Resyncs+s.Reloads != 0 || len(s.Loads) != 1 {
		t.Errorf("%v, %d resyncs, loads %+v", s.State, s.Resyncs, s.Loads)
	}
	if s.Sessions > 1 && (s.Replays == 0 || s.EventsReplayed < 19) {
		t.Errorf("%d sessions, %d replays of %d events", s.Sessions, s.Replays, s.EventsReplayed)
	}
	if s.Sessions == 1 && name != "packets are held back" {
		t.Error("the first session outlived it: nothing was cut")
	}
}

// cutOff holds a node without its server to what it promises.
func cutOff(t *testing.T, node *lockstep.Node, table *lockstep.Table[int, item], began time.Time) {
	t.Helper()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := table.Put(short, item{2, 2})
	var we *lockstep.WriteError
	if !errors.As(err, &we) || !errors.Is(err, lockstep.ErrNotCommitted) && !errors.Is(err, lockstep.ErrOutcomeUnknown) || strings.Contains(err.Error(), "\n") {
		t.Errorf("cut off, a write says %v", err)
	}
	if err := node.Barrier(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cut off, a barrier says %v", err)
	}
	until(t, "the node notices that it is stale", func() bool { return node.Status().State != lockstep.Live })
	if s := node.Status(); s.Reason == "" || s.Since.Before(began) || s.Since.After(time.Now()) || s.Staleness <= 0 {
		t.Errorf("cut off, it is %v since %v (cut at %v) because of %q, %v behind", s.State, s.Since, began, s.Reason, s.Staleness)
	}
	if got, ok := table.Get(1); !ok || got.V != 1 {
		t.Errorf("cut off, it answers %v, %v", got, ok)
	}
}

// A load sees more transactions than the server can be asked for by a new session. Where
// nothing happens after it, the node's row in the register shows that the server still has
// them; a node that writes none must load again.
func TestAQuietDatabaseIsNotLoadedAgain(t *testing.T) {
	db := fresh(t)
	items(t, db)
	db.Exec(t, "do $$ begin for n in 1..1100 loop update items set v = n where id = 1; commit; end loop; end $$")
	for register, resyncs := range map[time.Duration]uint64{time.Hour: 0, -1: 1} {
		t.Run(fmt.Sprint(register), func(t *testing.T) {
			node := startNode(t, db.Pool(t), lockstep.Config{Register: register}, itemTable())
			pool := db.Pool(t)
			if register > 0 {
				until(t, "the node writes its row", func() (written bool) {
					err := pool.QueryRow(t.Context(), "select exists (select from lockstep.nodes where name = $1)", t.Name()).Scan(&written)
					return err == nil && written
				})
				fetches := node.Status().Fetches
				until(t, "the session outlives the row", func() bool { return node.Status().Fetches > fetches+4 })
			}
			db.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep fetch' and datname = current_database()")
			until(t, "the node is back", func() bool { s := node.Status(); return s.Sessions == 2 && s.State == lockstep.Live })
			if s := node.Status(); s.Resyncs != resyncs || s.Replays != 1-resyncs {
				t.Errorf("%d resyncs and %d replays: %+v", s.Resyncs, s.Replays, s.Loads)
			}
		})
	}
}

// update writes a value to row 1, however often the server goes away.
func update(ctx context.Context, pool *pgxpool.Pool, v int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// Whether an attempt that failed was committed is seen from the row.
		if _, err := pool.Exec(ctx, "update items set v = $1 where id = 1 and v = $2", v, v-1); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// failures are the ways in which a server breaks.
var failures = map[string]func(t *testing.T, c *pgtest.Cluster, db *pgtest.DB) error{
	"the listening backend is terminated": func(t *testing.T, _ *pgtest.Cluster, db *pgtest.DB) error {
		db.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep bell'")
		return nil
	},
	"the fetching backend is terminated": func(t *testing.T, _ *pgtest.Cluster, db *pgtest.DB) error {
		db.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep fetch'")
		return nil
	},
	"Postgres is restarted": func(t *testing.T, c *pgtest.Cluster, _ *pgtest.DB) error {
		return c.Restart(t.Context())
	},
	"Postgres is stopped at once and started": func(t *testing.T, c *pgtest.Cluster, _ *pgtest.DB) error {
		return errors.Join(c.Halt(pgserver.Immediate), c.Restart(t.Context()))
	},
	"Postgres is killed and started": func(t *testing.T, c *pgtest.Cluster, _ *pgtest.DB) error {
		return errors.Join(c.Kill(), c.Restart(t.Context()))
	},
}

// Whatever of the server's breaks while it is written to, the node replays.
func TestNodeComesBackFromEachKindOfFailureWithoutLoading(t *testing.T) {
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			c := own(t, pgtest.With("fsync", "on"))
			db := c.New(t)
			items(t, db)
			node, table := start(t, db.Pool(t))
			replaysAfterAFailure(t, c, db, node, table, fail)
		})
	}
}

// replaysAfterAFailure writes one value after another, and breaks the server in the middle.
func replaysAfterAFailure(t *testing.T, c *pgtest.Cluster, db *pgtest.DB, node *lockstep.Node, table *lockstep.Table[int, item], fail func(*testing.T, *pgtest.Cluster, *pgtest.DB) error) {
	t.Helper()
	changes := subscribe(t, table)
	const last = 200
	wrote, halfway := make(chan error, 1), make(chan struct{})
	go func(ctx context.Context, pool *pgxpool.Pool) {
		for v := 1; v <= last; v++ {
			if err := update(ctx, pool, v); err != nil {
				wrote <- err
				return
			}
			if v == last/4 {
				close(halfway)
			}
		}
		wrote <- nil
	}(deadline(t), db.Pool(t))
	<-halfway
	if err := fail(t, c, db); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	wantEach(t, values(changes.upTo(rowOneIs(last))), 1, last)
	barrier(t, node)
	wantSame(t, db, table)
	if s := node.Status(); s.Resyncs+s.Reloads != 0 || s.Sessions < 2 || s.Replays == 0 || len(s.Loads) != 1 {
		t.Errorf("%d sessions, %d replays, %d resyncs, %d reloads: %+v", s.Sessions, s.Replays, s.Resyncs, s.Reloads, s.Loads)
	}
}

// A backend that ends in the middle of a long answer leaves no half of it.
func TestFetchThatBreaksInTheMiddleLeavesNothing(t *testing.T) {
	db := fresh(t)
	items(t, db)
	pool, proxy := proxied(t, db)
	table := itemTable()
	node := startNode(t, pool, lockstep.Config{MaxLag: 1_000_000}, table)
	changes := subscribe(t, table)
	faster := toxic(t, proxy, "bandwidth", `"rate": 300`)
	const rows = 250_000
	db.Exec(t, fmt.Sprintf("insert into items select i, 7 from generate_series(1001, %d) i", 1000+rows))
	conn := db.Conn(t)
	until(t, "the fetch is in the middle of its answer", func() bool {
		var terminated bool
		err := conn.QueryRow(t.Context(), `select coalesce(bool_or(pg_terminate_backend(pid)), false) from pg_stat_activity
			where application_name = 'lockstep fetch' and datname = current_database() and wait_event = 'ClientWrite'`).Scan(&terminated)
		return err == nil && terminated
	})
	if n := table.Len(); n != 100 {
		t.Errorf("%d rows are visible in the middle of a transaction of %d", n, rows)
	}
	faster()
	seen := map[int]bool{}
	changes.upTo(func(c lockstep.Change[int, item]) bool {
		if c.Op != lockstep.OpInsert || seen[c.Key] || c.New.V != 7 {
			t.Fatalf("a subscriber saw %v", c)
		}
		seen[c.Key] = true
		return len(seen) == rows
	})
	barrier(t, node)
	if s := node.Status(); table.Len() != 100+rows || s.Sessions < 2 || s.Resyncs+s.Reloads != 0 || s.EventsReplayed < rows {
		t.Errorf("%d rows; %d sessions, %d resyncs, %d events replayed", table.Len(), s.Sessions, s.Resyncs, s.EventsReplayed)
	}
}
