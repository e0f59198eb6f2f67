//go:build unix

package integration

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/natsserver"
	"github.com/pglockstep/lockstep/outbox/stream"
)

// relayed is a NATS server and a relay that publishes there, until the test ends.
func relayed(t *testing.T, pool *pgxpool.Pool) *natsserver.Server {
	t.Helper()
	s, err := natsserver.Start(natsserver.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	relay, err := stream.NewRelay(stream.RelayConfig{Pool: pool, URL: s.URL(), Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the relay: %v", err)
		}
	})
	until(t, "the relay publishes", func() bool { return relay.Counters().Batches.Load() > 1 })
	return s
}

// onStream waits until a node follows the stream.
func onStream(t *testing.T, node *lockstep.Node) {
	t.Helper()
	until(t, "the node follows the stream", func() bool {
		s := node.Status()
		return s.State == lockstep.Live && s.Bell == "stream"
	})
}

// A node has applied, from the stream, asynchronous commits that a crash then takes, and
// their ids go to others. Neither the batches of before the crash nor those of
// after it may be put together with what is read in the other life of the server.
func TestACrashThatTakesWhatCameOverTheStreamIsNoticed(t *testing.T) {
	for name, idle := range map[string]time.Duration{"with a connection open": time.Hour, "with none": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			c := forgetful(t)
			db := c.New(t)
			items(t, db)
			db.Exec(t, "insert into items values (101, 0)")
			pool, proxy := proxied(t, db)
			server, counters := relayed(t, pool), new(stream.Counters)
			table := itemTable()
			node := startNode(t, pool, lockstep.Config{Register: -1, Retention: -1,
				Source: stream.Source{URL: server.URL(), Idle: idle, Counters: counters}}, table)
			onStream(t, node)
			readers(t, node, table)
			changes := subscribe(t, table)
			until(t, "the clock is measured", func() bool { return counters.Asked.Load() >= 2 })
			holdLog(t, db)
			conn := writeWhatIsLost(t, db)
			changes.upTo(func(c lockstep.Change[int, item]) bool { return c.Key == 71 })
			lost, had, taken := lastXid(t, conn), held(table), counters.Batches.Load()
			until(t, "heartbeats come", func() bool { return counters.Batches.Load() > taken+3 })
			onStream(t, node)

			loseAndReuse(t, c, db, proxy, lost)
			wantDifference(t, db, node, table, changes, had)
			onStream(t, node)
			move(t, db.Conn(t), 5, 6, 3)
			until(t, "the node shows it", func() bool { row, _ := table.Get(6); return row.V == itemsOf(t, db)[6].V })
			wantSame(t, db, table)
		})
	}
}
