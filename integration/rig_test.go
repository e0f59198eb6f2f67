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
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/logbuf"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

var silent = slog.New(slog.DiscardHandler)

// fresh is a database in the shared cluster, for a test that leaves nothing running.
func fresh(t *testing.T) *pgtest.DB {
	t.Helper()
	pgtest.Server(t) // goes on after the test
	noLeaks(t)
	return pgtest.New(t)
}

// own is a cluster for a test that breaks it, and leaves nothing running.
func own(t *testing.T, opts ...pgtest.Option) *pgtest.Cluster {
	t.Helper()
	noLeaks(t)
	return pgtest.Own(t, opts...)
}

// noLeaks fails the test if, after all of its other cleanups, something runs that did not before.
func noLeaks(t *testing.T, but ...goleak.Option) {
	t.Helper()
	// Toxiproxy's own: a link whose destination has gone may keep a piece that nobody takes, on either side of the toxic.
	but = append(but, goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"))
	t.Cleanup(func() { goleak.VerifyNone(t, but...) })
}

// deadline bounds a test that waits for what never comes.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// install puts capture with the bell on tables.
func install(t *testing.T, db *pgtest.DB, tables ...string) {
	t.Helper()
	o := triggers.Options{Bell: triggers.BellNotify, Logger: silent}
	if err := triggers.Install(deadline(t), db.Pool(t), o, tables...); err != nil {
		t.Fatal(err)
	}
}

// startNode starts a node that ends with the test.
func startNode(t *testing.T, pool *pgxpool.Pool, cfg lockstep.Config, tables ...lockstep.AnyTable) *lockstep.Node {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = t.Name()
	}
	log := &logbuf.Buffer{}
	cfg.Logger, cfg.DetectMutation = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})), true
	node, err := lockstep.Start(deadline(t), pool, cfg, tables...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := node.Close(ctx); err != nil {
			t.Error(err)
		}
		if said := log.String(); t.Failed() && said != "" {
			t.Logf("node %s warned:\n%s", cfg.Name, said)
		}
	})
	return node
}

type item struct {
	ID int
	V  int
}

func itemTable() *lockstep.Table[int, item] {
	return lockstep.NewTable("public.items", func(i item) int { return i.ID })
}

// items is table items, rows 1 to 100, captured.
func items(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, "create table items (id int primary key, v int not null); insert into items select i, 0 from generate_series(1, 100) i")
	install(t, db, "public.items")
}

func start(t *testing.T, pool *pgxpool.Pool) (*lockstep.Node, *lockstep.Table[int, item]) {
	t.Helper()
	table := itemTable()
	return startNode(t, pool, lockstep.Config{}, table), table
}

// poolAt is a pool of the test's.
func poolAt(t *testing.T, dsn string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(deadline(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// proxied is a pool whose connections go through a proxy.
func proxied(t *testing.T, db *pgtest.DB) (*pgxpool.Pool, *toxiproxy.Proxy) {
	t.Helper()
	return throughProxy(t, db, db.Pool(t))
}

// throughProxy is a pool like another one, through a proxy.
func throughProxy(t *testing.T, db *pgtest.DB, like *pgxpool.Pool) (*pgxpool.Pool, *toxiproxy.Proxy) {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	proxy := toxiproxy.NewProxy(server, "postgres", "127.0.0.1:0", db.Server().Addr())
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	at, config := netip.MustParseAddrPort(proxy.Listen), like.Config()
	config.ConnConfig.Host, config.ConnConfig.Port = at.Addr().String(), at.Port()
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, proxy
}

// until asks again and again, for a minute, until the answer is yes.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	pgtest.Until(t, time.Minute, what, yes)
}

// barrier brings the node to what is committed now.
func barrier(t *testing.T, node *lockstep.Node) {
	t.Helper()
	if err := node.Barrier(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// feed is a subscription to a table that is past its current rows.
type feed[K comparable, T any] struct {
	t    *testing.T
	list chan lockstep.Change[K, T]
}

func subscribe[K comparable, T any](t *testing.T, table *lockstep.Table[K, T]) *feed[K, T] {
	t.Helper()
	f := &feed[K, T]{t, make(chan lockstep.Change[K, T], 10_000)}
	ctx, cancel := context.WithCancel(context.Background())
	done, live := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for c, err := range table.Changes(ctx) {
			switch {
			case err != nil:
				return
			case c.Op == lockstep.OpLive:
				close(live)
			case c.Op != lockstep.OpCurrent:
				select {
				case f.list <- c:
				case <-ctx.Done():
				}
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-live
	return f
}

// upTo takes changes up to the first that is the last one wanted.
func (f *feed[K, T]) upTo(last func(lockstep.Change[K, T]) bool) (list []lockstep.Change[K, T]) {
	f.t.Helper()
	ctx := deadline(f.t)
	for {
		select {
		case c := <-f.list:
			list = append(list, c)
			if last(c) {
				return list
			}
		case <-ctx.Done():
			f.t.Fatalf("the last change never came: %v", list)
		}
	}
}

// sqlState is the code of an error of the server's, "" of any other.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// rowsOf is what a query finds, by key.
func rowsOf[K comparable, T any](t *testing.T, db *pgtest.DB, sql string, key func(T) K) map[K]T {
	t.Helper()
	return rowsFrom(t, db.Pool(t), sql, key)
}

// rowsFrom is rowsOf on a pool that is there, for whoever asks again and again.
func rowsFrom[K comparable, T any](t *testing.T, pool *pgxpool.Pool, sql string, key func(T) K) map[K]T {
	t.Helper()
	rows, _ := pool.Query(deadline(t), sql) // CollectRows has its error
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[K]T, len(list))
	for _, r := range list {
		found[key(r)] = r
	}
	return found
}

// itemsOf are the items that the database holds.
func itemsOf(t *testing.T, db *pgtest.DB) map[int]item {
	t.Helper()
	return rowsOf(t, db, "select id, v from items", func(i item) int { return i.ID })
}
