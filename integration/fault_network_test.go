package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
)

// trio are three nodes of one database, each with a network of its own.
type trio struct {
	nodes   [3]*lockstep.Node
	tables  [3]*lockstep.Table[int, item]
	feeds   [3]*feed[int, item]
	watches [3]*watch
	proxies [3]*toxiproxy.Proxy
}

// Two of three nodes are cut off at once, and then the third as well. Whoever
// is not follows; whoever was replays.
func TestTwoOfThreeNodesAreCutOffAndThenAllOfThem(t *testing.T) {
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			items(t, db)
			var n trio
			for i := range n.nodes {
				var pool *pgxpool.Pool
				pool, n.proxies[i] = proxied(t, db)
				n.tables[i] = itemTable()
				n.nodes[i] = startNode(t, pool, lockstep.Config{Name: fmt.Sprintf("node-%d", i)}, n.tables[i])
				n.feeds[i] = subscribe(t, n.tables[i])
				n.watches[i] = watched(t, n.nodes[i], n.tables[i])
			}
			conn, v := db.Conn(t), 0
			write := func(who ...int) {
				t.Helper()
				for range 10 {
					v++
					do(t, conn, "update items set v = $1 where id = 1", v)
					for _, i := range who {
						seenAs(t, n.nodes[i], n.tables[i], v)
					}
				}
			}
			stale := func(who ...int) {
				t.Helper()
				for _, i := range who {
					until(t, "a node that is cut off says so", func() bool { return n.nodes[i].Status().State != lockstep.Live })
				}
			}
			write(0, 1, 2)
			healFirst, healSecond := cut(t, n.proxies[0]), cut(t, n.proxies[1])
			write(2)
			stale(0, 1)
			write(2)
			healThird := cut(t, n.proxies[2])
			write()
			stale(2)
			healFirst()
			write(0)
			healSecond()
			healThird()
			write(0, 1, 2)
			for i, node := range n.nodes {
				n.watches[i].end()
				wantEach(t, values(n.feeds[i].upTo(rowOneIs(v))), 1, v)
				barrier(t, node)
				wantSame(t, db, n.tables[i])
				onlyTheFirstLoad(t, node)
			}
		})
	}
}

// A network that is slow, or brings everything in crumbs, makes a node late and
// nothing else: it loads nothing again, and says how old its state is.
func TestASlowNetworkMakesANodeLateAndNothingElse(t *testing.T) {
	for name, slow := range map[string]func(t *testing.T, proxy *toxiproxy.Proxy) (heal func()){
		"a narrow band": func(t *testing.T, proxy *toxiproxy.Proxy) func() {
			return toxic(t, proxy, "bandwidth", `"rate": 60`)
		},
		"everything comes in crumbs": func(t *testing.T, proxy *toxiproxy.Proxy) func() {
			return toxic(t, proxy, "slicer", `"average_size": 24, "size_variation": 16, "delay": 200`)
		},
		"every packet takes its time": func(t *testing.T, proxy *toxiproxy.Proxy) func() {
			return toxic(t, proxy, "latency", `"latency": 100, "jitter": 80`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			items(t, db)
			pool, proxy := proxied(t, db)
			node, table := start(t, pool)
			changes := subscribe(t, table)
			w := watched(t, node, table)
			heal := slow(t, proxy)
			conn := db.Conn(t)
			for v := 1; v <= 5; v++ {
				do(t, conn, "update items set v = $1 where id = 1", v)
				seenAs(t, node, table, v)
			}
			// Much at once: some hundred thousand bytes.
			do(t, conn, "insert into items select i, 1 from generate_series(1001, 2000) i")
			for v := 6; v <= 20; v++ {
				do(t, conn, "update items set v = $1 where id = 1", v)
			}
			seenAs(t, node, table, 20)
			// A session that begins in it catches up in it.
			do(t, conn, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'lockstep %' and datname = current_database()")
			do(t, conn, "insert into items select i, 1 from generate_series(3001, 3500) i")
			for v := 21; v <= 30; v++ {
				do(t, conn, "update items set v = $1 where id = 1", v)
			}
			seenAs(t, node, table, 30)
			w.end()
			heal()
			wantEach(t, values(changes.upTo(rowOneIs(30))), 1, 30)
			barrier(t, node)
			wantSame(t, db, table)
			onlyTheFirstLoad(t, node)
			if s := node.Status(); s.Sessions > 3 || s.Replays == 0 {
				t.Errorf("%d sessions, %d replays, last error %v", s.Sessions, s.Replays, s.LastError)
			}
		})
	}
}

// A server that has several addresses, and answers at none, is said in one line.
func TestAServerThatAnswersAtNoneOfItsAddressesIsSaidInOneLine(t *testing.T) {
	db := fresh(t)
	items(t, db)
	like, proxy := proxied(t, db)
	config := like.Config()
	config.ConnConfig.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1", "127.0.0.2"}, nil }
	config.ConnConfig.Host = "db.invalid"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	node, table := start(t, pool)
	w := watched(t, node, table)
	proxy.Stop()
	says(t, node, "127.0.0.1", "127.0.0.2", "refused")
	if _, err := table.Put(deadline(t), item{1, 1}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a write: %q", err)
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the node is live again", func() bool { return node.Status().State == lockstep.Live })
	w.end()
	onlyTheFirstLoad(t, node)
}
