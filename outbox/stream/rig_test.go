package stream_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/logbuf"
	"github.com/pglockstep/lockstep/internal/natsserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox/stream"
	"github.com/pglockstep/lockstep/triggers"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// limit is for what never comes.
const limit = 30 * time.Second

type item struct {
	ID int    `db:"id"`
	V  string `db:"v"`
}

// rig is a database with table a (id int primary key, v text), captured, a NATS server, and a stream
// of the test's own.
type rig struct {
	*pgtest.DB
	pool *pgxpool.Pool
	dir  string
	nats *natsserver.Server
	log  *logbuf.Buffer
}

func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func newRig(t *testing.T, change ...func(*natsserver.Config)) *rig {
	t.Helper()
	pgtest.Server(t) // goes on after the test
	noLeaks(t)
	return rigOn(t, pgtest.New(t), change...)
}

func rigOn(t *testing.T, db *pgtest.DB, change ...func(*natsserver.Config)) *rig {
	t.Helper()
	db.Exec(t, "create table a (id int primary key, v text not null)")
	r := &rig{DB: db, pool: db.Pool(t), dir: t.TempDir(), log: &logbuf.Buffer{}}
	if err := triggers.Install(t.Context(), r.pool, triggers.Options{Logger: slog.New(slog.DiscardHandler)}, "public.a"); err != nil {
		t.Fatal(err)
	}
	cfg := natsserver.Config{Dir: r.dir}
	for _, f := range change {
		f(&cfg)
	}
	r.start(t, cfg)
	return r
}

func (r *rig) start(t *testing.T, cfg natsserver.Config) {
	t.Helper()
	s, err := natsserver.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.nats = s
	t.Cleanup(s.Stop)
}

func (r *rig) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r.log, nil)) }

// running is a relay that runs.
type running struct {
	*stream.Relay
	kill func()
}

// relay starts a relay that ends with the test, or when it is killed.
func (r *rig) relay(t *testing.T, change ...func(*stream.RelayConfig)) *running {
	t.Helper()
	cfg := stream.RelayConfig{Pool: r.pool, URL: r.nats.URL(), Logger: r.logger().With("relay", len(change))}
	for _, f := range change {
		f(&cfg)
	}
	relay, err := stream.NewRelay(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, relay)
}

func start(t *testing.T, relay *stream.Relay) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	kill := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the relay: %v", err)
		}
	})
	t.Cleanup(kill)
	return &running{relay, kill}
}

func (r *running) leads(t *testing.T) *running {
	t.Helper()
	until(t, "the relay leads and publishes", func() bool {
		return r.Counters().Leads.Load() && r.Counters().Batches.Load() > 1
	})
	return r
}

// follower is a node on the stream.
type follower struct {
	*lockstep.Node
	table *lockstep.Table[int, item]
	n     *stream.Counters
}

func (r *rig) node(t *testing.T, change ...func(*lockstep.Config, *stream.Source)) *follower {
	t.Helper()
	return r.nodeOf(t, r.pool, change...)
}

func (r *rig) nodeOf(t *testing.T, pool *pgxpool.Pool, change ...func(*lockstep.Config, *stream.Source)) *follower {
	t.Helper()
	f := &follower{table: lockstep.NewTable("public.a", func(i item) int { return i.ID }), n: new(stream.Counters)}
	src := stream.Source{URL: r.nats.URL(), Counters: f.n}
	cfg := lockstep.Config{Name: t.Name(), Register: -1, Retention: -1, Logger: r.logger()}
	for _, c := range change {
		c(&cfg, &src)
	}
	cfg.Source = src
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var err error
	if f.Node, err = lockstep.Start(ctx, pool, cfg, f.table); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := f.Node.Close(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return f
}

// askedFor is how often Postgres was asked, but for the clocks, of which a slow machine decides.
func (f *follower) askedFor() uint64 { return f.n.Asked.Load() - f.n.Clocks.Load() }

// has waits until the node shows the row.
func (f *follower) has(t *testing.T, id int, v string) {
	t.Helper()
	until(t, fmt.Sprintf("row %d is %q", id, v), func() bool {
		row, ok := f.table.Get(id)
		return ok && row.V == v
	})
}

// onStream waits until the node is live on the stream and a batch has been taken.
func (f *follower) onStream(t *testing.T) *follower {
	t.Helper()
	until(t, "the node is on the stream", func() bool {
		s := f.Status()
		return s.State == lockstep.Live && s.Bell == "stream" && f.n.Batches.Load() > 0
	})
	return f
}

// until asks again and again until the answer is yes.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	pgtest.Until(t, limit, what, yes)
}

// put writes a row.
func (r *rig) put(t *testing.T, id int, v string) {
	t.Helper()
	r.Exec(t, "insert into a values ($1, $2) on conflict (id) do update set v = excluded.v", id, v)
}
