package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// kick ends a role's backends.
func kick(t *testing.T, conn *pgx.Conn, role pgtest.Role) {
	t.Helper()
	do(t, conn, "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", role.Name)
}

// A server or a role without a free connection is named, asked at a bounded
// rate, and the node replays when there is one again.
func TestANodeThatIsGivenNoConnectionSaysSoAndReplaysWhenItIs(t *testing.T) {
	type taken struct {
		words []string // what the node says
		free  func()
	}
	limit := func(n int) func(t *testing.T, db *pgtest.DB, admin *pgx.Conn, node pgtest.Role) taken {
		return func(t *testing.T, _ *pgtest.DB, admin *pgx.Conn, node pgtest.Role) taken {
			do(t, admin, fmt.Sprintf("alter role %s connection limit %d", node.Name, n))
			kick(t, admin, node)
			return taken{[]string{"53300", "too many connections for role"}, func() {
				do(t, admin, fmt.Sprintf("alter role %s connection limit -1", node.Name))
			}}
		}
	}
	c := own(t, pgtest.With("max_connections", "16"))
	for name, take := range map[string]func(t *testing.T, db *pgtest.DB, admin *pgx.Conn, node pgtest.Role) taken{
		"the role's limit is none": limit(0),
		"the role's limit is one":  limit(1), // enough to fetch, not to listen
		"all of the server's are taken": func(t *testing.T, db *pgtest.DB, admin *pgx.Conn, node pgtest.Role) taken {
			others, held := db.Role(t), []*pgx.Conn(nil)
			kick(t, admin, node)
			for full := false; !full; { // until none is free and the node has none
				conn, err := pgx.Connect(deadline(t), db.DSNAs(others))
				switch {
				case sqlState(err) == "53300":
					var n int
					if err := admin.QueryRow(deadline(t), "select count(*) from pg_stat_activity where usename = $1", node.Name).Scan(&n); err != nil {
						t.Fatal(err)
					}
					full = n == 0
					kick(t, admin, node)
				case err != nil:
					t.Fatal(err)
				default:
					held = append(held, conn)
				}
			}
			return taken{[]string{"53300"}, func() {
				for _, conn := range held {
					_ = conn.Close(context.Background()) // it has served
				}
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := c.New(t)
			items(t, db)
			admin, writer := db.Conn(t), db.Conn(t) // of the superuser, for whom three are kept
			pool, role := reader(t, db)
			node, table := start(t, pool)
			changes := subscribe(t, table)
			do(t, writer, "update items set v = 1 where id = 1")
			seenAs(t, node, table, 1)

			w := watched(t, node, table)
			took := take(t, db, admin, role)
			for v := 2; v <= 20; v++ {
				do(t, writer, "update items set v = $1 where id = 1", v)
			}
			says(t, node, took.words...)
			short, cancel := context.WithTimeout(t.Context(), 2*maxStale)
			defer cancel()
			if err := node.Barrier(short); err == nil {
				t.Error("without a connection a barrier is passed")
			}
			took.free()
			wantEach(t, values(changes.upTo(rowOneIs(20))), 1, 20)
			w.end()
			barrier(t, node)
			if s := node.Status(); !strings.Contains(s.LastError.Error(), "53300") || s.Replays == 0 {
				t.Errorf("last error %v, %d replays", s.LastError, s.Replays)
			}
			onlyTheFirstLoad(t, node)
		})
	}
}

// tiny are timeouts that a careful administrator gives to a role or a
// database, here much too short for a load or a catch-up.
func tiny(version int) []string {
	names := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"}
	if version >= 170000 {
		names = append(names, "transaction_timeout")
	}
	return names
}

// Timeouts of the role or the database are for the application's statements: a
// node's long load, its long catch-up and its idle connections outlive them.
func TestTimeoutsOfTheRoleOrTheDatabaseCutNoLoadAndNoCatchUpShort(t *testing.T) {
	for _, whose := range []string{"role", "database"} {
		t.Run("of the "+whose, func(t *testing.T) {
			db := fresh(t)
			items(t, db)
			const rows = 20_000
			admin := db.Conn(t)
			do(t, admin, fmt.Sprintf("insert into items select i, 0 from generate_series(101, %d) i", rows))
			pool, role := reader(t, db)
			target := "role " + role.Name
			if whose == "database" {
				target = "database " + db.Name
			}
			for _, name := range tiny(db.Server().Version()) {
				do(t, admin, fmt.Sprintf("alter role current_user in database %s set %s = 0", db.Name, name)) // not for the test's own
				do(t, admin, fmt.Sprintf("alter %s set %s = '10ms'", target, name))
			}
			pool, proxy := throughProxy(t, db, pool)
			slower := func() func() { return toxic(t, proxy, "bandwidth", `"rate": 2000`) }
			// What the node writes of itself goes through the application's pool, and is not at stake.
			faster := slower()
			table := itemTable()
			node := startNode(t, pool, lockstep.Config{Register: -1, Retention: -1, MaxLag: 10 * rows}, table)
			faster()
			if table.Len() != rows {
				t.Fatalf("%d rows are loaded", table.Len())
			}
			t.Logf("the load took %v", node.Status().Loads[0].Took)
			// A load of so large a log is proved by the next event only.
			do(t, admin, "update items set v = 1 where id = 1")
			until(t, "an event has come", func() bool { i, _ := table.Get(1); return i.V == 1 })
			w := watched(t, node, table)
			fetches := node.Status().Fetches
			until(t, "some beats have passed", func() bool { return node.Status().Fetches > fetches+8 })
			if s := node.Status(); s.Sessions != 1 || s.LastError != nil {
				t.Errorf("idle: %d sessions, last error %v", s.Sessions, s.LastError)
			}

			do(t, admin, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'lockstep %' and datname = current_database()")
			slower()
			do(t, admin, "update items set v = 7")
			until(t, "everything is caught up with", func() bool { i, _ := table.Get(rows); return i.V == 7 })
			w.end()
			barrier(t, node)
			wantSame(t, db, table)
			onlyTheFirstLoad(t, node)
			if s := node.Status(); s.Sessions > 3 || strings.Contains(s.LastError.Error(), "timeout") {
				t.Errorf("%d sessions, last error %v", s.Sessions, s.LastError)
			}
		})
	}
}

// The application may set such timeouts itself, on each of its connections: the node's are not among them.
func TestTimeoutsThatAfterConnectSetsCutNoLoadShort(t *testing.T) {
	db := fresh(t)
	items(t, db)
	const rows = 20_000 // which takes longer than the timeouts
	db.Exec(t, fmt.Sprintf("insert into items select i, 0 from generate_series(101, %d) i", rows))
	var sets []string
	for _, name := range tiny(db.Server().Version()) {
		if name != "idle_session_timeout" { // which ends an idle connection, as it was asked to
			// Long enough for a BEGIN and the SET LOCAL that comes with it, also where the processors are busy.
			sets = append(sets, "set "+name+" = '30ms'")
		}
	}
	pool := db.Pool(t, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, strings.Join(sets, "; "))
			return err
		}
	})
	table := itemTable()
	node := startNode(t, pool, lockstep.Config{Register: -1, Retention: -1}, table)
	w := watched(t, node, table)
	db.Exec(t, "update items set v = 7")
	until(t, "a long transaction is applied", func() bool { i, _ := table.Get(rows); return i.V == 7 })
	w.end()
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
	if s := node.Status(); s.Sessions != 1 || s.LastError != nil {
		t.Errorf("%d sessions, last error %v", s.Sessions, s.LastError)
	}
}
