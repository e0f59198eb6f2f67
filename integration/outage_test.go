package integration

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

type item struct {
	ID int
	V  int
}

// proxied is a pool whose connections go through a proxy that can be cut.
func proxied(t *testing.T, db *pgtest.DB) (*pgxpool.Pool, *toxiproxy.Proxy) {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	proxy := toxiproxy.NewProxy(server, "postgres", "127.0.0.1:0", db.Server().Addr())
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	at := netip.MustParseAddrPort(proxy.Listen)
	return db.Pool(t, func(c *pgxpool.Config) { c.ConnConfig.Host, c.ConnConfig.Port = at.Addr().String(), at.Port() }), proxy
}

// items is a database with table items, rows 1 to 100, captured.
func items(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, "create table items (id int primary key, v int not null); insert into items select i, 0 from generate_series(1, 100) i")
	o := triggers.Options{Bell: triggers.BellNotify, Logger: slog.New(slog.DiscardHandler)}
	if err := triggers.Install(t.Context(), db.Pool(t), o, "public.items"); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, pool *pgxpool.Pool) (*lockstep.Node, *lockstep.Table[int, item]) {
	t.Helper()
	table := lockstep.NewTable("public.items", func(i item) int { return i.ID })
	node, err := lockstep.Start(t.Context(), pool, lockstep.Config{Name: t.Name(), Logger: slog.New(slog.DiscardHandler)}, table)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := node.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return node, table
}

// reached waits until a subscriber has seen row 1 with a value, and returns what it saw of row 1.
func reached(t *testing.T, changes <-chan int, want int) (seen []int) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		select {
		case v := <-changes:
			seen = append(seen, v)
			if v == want {
				return seen
			}
		case <-deadline:
			t.Fatalf("row 1 never became %d: %v", want, seen)
		}
	}
}

// watch sends the value of row 1 after each of its changes.
func watch(t *testing.T, table *lockstep.Table[int, item]) <-chan int {
	t.Helper()
	out := make(chan int, 10_000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	live := make(chan struct{})
	go func() {
		defer close(done)
		for c, err := range table.Changes(ctx) {
			switch {
			case err != nil:
				return
			case c.Op == lockstep.OpLive:
				close(live)
			case c.Key == 1 && c.Op != lockstep.OpCurrent:
				out <- c.New.V
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-live
	return out
}

// Real sockets from end to end: follow, be cut off, keep answering, be healed,
// replay. Nothing is loaded again and nobody misses or doubles a change.
func TestNodeThatWasCutOffReplaysWhatItMissed(t *testing.T) {
	db := pgtest.New(t)
	items(t, db)
	pool, proxy := proxied(t, db)
	node, table := start(t, pool)
	changes := watch(t, table)

	db.Exec(t, "update items set v = 1 where id = 1")
	reached(t, changes, 1)

	proxy.Stop()
	for v := 2; v <= 20; v++ {
		if _, err := db.Pool(t).Exec(t.Context(), "update items set v = $1 where id = 1", v); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok := table.Get(1); !ok || got.V != 1 {
		t.Errorf("cut off, the node answers %v, %v", got, ok)
	}
	if _, err := table.Put(t.Context(), item{2, 2}); !errors.Is(err, lockstep.ErrNotCommitted) && !errors.Is(err, lockstep.ErrOutcomeUnknown) {
		t.Errorf("cut off, a write says %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := node.Barrier(short); err == nil {
		t.Error("cut off, a barrier passed")
	}
	if s := node.Status(); s.State == lockstep.Live || s.LastError == nil {
		t.Errorf("cut off, the node says it is %v (last error %v)", s.State, s.LastError)
	}

	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	seen := reached(t, changes, 20)
	for i, v := range seen {
		if v != i+2 {
			t.Fatalf("a subscriber saw %v", seen)
		}
	}
	if err := node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := node.Status()
	if s.State != lockstep.Live || s.Replays == 0 || s.EventsReplayed < 19 || s.Resyncs+s.Reloads != 0 || len(s.Loads) != 1 {
		t.Errorf("%v, %d replays of %d events, %d resyncs, loads %+v", s.State, s.Replays, s.EventsReplayed, s.Resyncs, s.Loads)
	}
}

func TestNodeComesBackFromEachKindOfFailureWithoutLoading(t *testing.T) {
	for name, fail := range map[string]func(t *testing.T, c *pgtest.Cluster, db *pgtest.DB){
		"the listening backend is terminated": func(t *testing.T, _ *pgtest.Cluster, db *pgtest.DB) {
			db.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep bell'")
		},
		"the fetching backend is terminated": func(t *testing.T, _ *pgtest.Cluster, db *pgtest.DB) {
			db.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep fetch'")
		},
		"Postgres is killed": func(t *testing.T, c *pgtest.Cluster, _ *pgtest.DB) {
			if err := c.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := c.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := pgtest.Own(t, pgtest.With("fsync", "on"))
			db := c.New(t)
			items(t, db)
			node, table := start(t, db.Pool(t))
			changes := watch(t, table)
			db.Exec(t, "update items set v = 1 where id = 1")
			reached(t, changes, 1)
			fail(t, c, db)
			db.Exec(t, "update items set v = 2 where id = 1")
			reached(t, changes, 2)
			if s := node.Status(); s.Resyncs+s.Reloads != 0 || s.Sessions < 2 {
				t.Errorf("%d sessions, %d resyncs, %d reloads: %+v", s.Sessions, s.Resyncs, s.Reloads, s.Loads)
			}
		})
	}
}

// A black hole: nothing is refused and nothing is answered.
func TestNodeFindsOutThatNobodyAnswers(t *testing.T) {
	db := pgtest.New(t)
	items(t, db)
	var hole hole
	pool := db.Pool(t, func(c *pgxpool.Config) { c.ConnConfig.DialFunc = hole.dial })
	node, table := start(t, pool)
	changes := watch(t, table)
	hole.open()
	short, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if err := node.Barrier(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a barrier into the hole: %v", err)
	}
	if s := node.Status(); s.State == lockstep.Live {
		t.Errorf("the node calls itself live after %v without an answer", s.Staleness)
	}
	db.Exec(t, "update items set v = 5 where id = 1")
	hole.close()
	reached(t, changes, 5)
}

func TestNewHistoryLoadsAgainAndSaysSo(t *testing.T) {
	db := pgtest.New(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	db.Exec(t, "update items set v = 9 where id = 7")
	if err := node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := triggers.NewHistory(t.Context(), db.Pool(t), triggers.Options{}); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "update items set v = 10 where id = 7")
	if err := node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := table.Get(7); got.V != 10 {
		t.Errorf("row 7 is %v", got)
	}
	if s := node.Status(); s.Resyncs != 1 || s.Loads[len(s.Loads)-1].Reason != "history changed" {
		t.Errorf("%d resyncs: %+v", s.Resyncs, s.Loads)
	}
}
