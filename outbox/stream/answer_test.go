package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/natsserver"
	"github.com/pglockstep/lockstep/outbox/stream"
	"github.com/pglockstep/lockstep/triggers"
)

// counted is a pool whose use is counted: a node's row goes through it, unless the relay writes it.
func (r *rig) counted(t *testing.T) (pool *pgxpool.Pool, used *atomic.Int64) {
	t.Helper()
	used = new(atomic.Int64)
	return r.Pool(t, func(cfg *pgxpool.Config) {
		cfg.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { used.Add(1); return true, nil }
	}), used
}

// row is the node's row in the register, if there is one.
func (r *rig) row(t *testing.T, conn *pgx.Conn, name string) (bell string, beat time.Time) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "select bell, beat from lockstep.nodes where name = $1", name).Scan(&bell, &beat); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return bell, beat
}

// users are the two that docs/deploy.md names, with what the relay may hear and the node may say beside.
func users(relayHears, nodeSays []string) []natsserver.User {
	return []natsserver.User{
		{Name: "relay", Password: "of relay", Publish: []string{"lockstep.cuts", "$JS.API.STREAM.*.lockstep"}, Subscribe: relayHears, Respond: true},
		{Name: "node", Password: "of node", Subscribe: []string{"_INBOX.>"}, Publish: append(nodeSays, "$JS.API.CONSUMER.CREATE.lockstep.>", "$JS.API.CONSUMER.MSG.NEXT.lockstep.>")},
	}
}

func login(user string) []nats.Option { return []nats.Option{nats.UserInfo(user, "of "+user)} }

func as(user string) func(*stream.RelayConfig) {
	return func(c *stream.RelayConfig) { c.Options = login(user) }
}

func registering(every time.Duration) func(*lockstep.Config, *stream.Source) {
	return func(c *lockstep.Config, _ *stream.Source) { c.Register = every }
}

// A node that is well needs no connection to Postgres: the relay says what the server's clock says, and writes
// the node's row.
func TestTheRelayWritesTheRowsAndSaysTheTime(t *testing.T) {
	stream.MeasureEvery(t, 2*time.Second)
	r := newRig(t)
	relay := r.relay(t).leads(t)
	pool, used := r.counted(t)
	f := r.nodeOf(t, pool, registering(200*time.Millisecond), func(_ *lockstep.Config, s *stream.Source) { s.Idle = 300 * time.Millisecond }).onStream(t)
	conn := r.Conn(t)
	until(t, "the clocks were compared three times, and the row was written ten times", func() bool {
		return f.n.Told.Load() >= 3 && relay.Counters().Rows.Load() >= 10
	})
	before, rows, asked, told := used.Load(), relay.Counters().Rows.Load(), f.askedFor(), f.n.Told.Load()
	_, was := r.row(t, conn, t.Name())
	until(t, "the clocks were compared again, and the row was written again", func() bool {
		return f.n.Told.Load() >= told+3 && relay.Counters().Rows.Load() >= rows+10
	})
	if n := used.Load(); n != before {
		t.Errorf("the node has used its pool %d times", n-before)
	}
	if n := f.askedFor(); n != asked {
		t.Errorf("Postgres was asked %d times", n-asked)
	}
	if bell, beat := r.row(t, conn, t.Name()); bell != "stream" || !beat.After(was) {
		t.Errorf("the row says bell %q, beat %v, before %v", bell, beat, was)
	}
	if s := f.Status(); s.State != lockstep.Live || s.Resyncs+s.Reloads != 0 || f.n.Gaps.Load() != 0 || relay.Counters().Refused.Load() != 0 {
		t.Errorf("state %v (%s), %d resyncs, %d reloads, %d gaps, %d questions were refused", s.State, s.Reason, s.Resyncs, s.Reloads, f.n.Gaps.Load(), relay.Counters().Refused.Load())
	}
	r.same(t, f, "the end")
}

// Where the relay cannot write rows, nodes do, and nothing waits.
func TestNodesWriteTheirRowsThemselvesWhereTheRelayCannot(t *testing.T) {
	t.Run("it may not", func(t *testing.T) {
		r := newRig(t)
		role := r.Role(t)
		sql, err := triggers.Grants(triggers.Options{}, "relay", role.Name)
		if err != nil {
			t.Fatal(err)
		}
		r.Exec(t, sql)
		r.Exec(t, "revoke insert on lockstep.nodes from "+pgx.Identifier{role.Name}.Sanitize())
		relay := r.relay(t, func(c *stream.RelayConfig) { c.Pool = r.PoolAs(t, role) }).leads(t)
		r.writesItself(t, relay)
	})
	t.Run("the register is locked", func(t *testing.T) {
		r := newRig(t)
		relay := r.relay(t).leads(t)
		lock := r.Conn(t)
		f := r.node(t, registering(100*time.Millisecond)).onStream(t)
		until(t, "the relay writes rows", func() bool { return relay.Counters().Rows.Load() > 1 })
		tx, err := lock.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "lock lockstep.nodes in access exclusive mode"); err != nil {
			t.Fatal(err)
		}
		until(t, "it has tried, and lets the nodes do it", func() bool {
			return strings.Contains(r.log.String(), "nodes write their rows in the register themselves")
		})
		r.same(t, f, "while the register is locked")
		if s := f.Status(); s.State != lockstep.Live {
			t.Errorf("state %v (%s)", s.State, s.Reason)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := relay.Counters().Runs.Load(); n != 1 {
			t.Errorf("the relay has begun %d runs", n)
		}
	})
	t.Run("nodes may not ask it", func(t *testing.T) {
		r := newRig(t, func(c *natsserver.Config) { c.Users = users([]string{"_INBOX.>", stream.Asks("lockstep")}, nil) })
		relay := r.relay(t, as("relay")).leads(t)
		r.writesItself(t, relay, func(_ *lockstep.Config, s *stream.Source) { s.Options = login("node") })
		if said := r.log.String(); strings.Count(said, "level=WARN msg=\"NATS says that something is wrong\"") != 1 || !strings.Contains(said, "lockstep.asks") {
			t.Error("a permission that lacks is not said once")
		}
	})
	t.Run("no relay hears the question", func(t *testing.T) {
		r := newRig(t)
		relay := r.relay(t).leads(t)
		r.tampered(t, "deaf", func(m []byte, send func([]byte)) { send(m) })
		r.writesItself(t, relay, on("deaf"))
	})
}

// writesItself starts a node, which writes its row by its own pool.
func (r *rig) writesItself(t *testing.T, relay *running, change ...func(*lockstep.Config, *stream.Source)) {
	t.Helper()
	pool, used := r.counted(t)
	f := r.nodeOf(t, pool, append(change, registering(100*time.Millisecond))...).onStream(t)
	conn, before := r.Conn(t), used.Load()
	until(t, "the node has written its row itself, and again", func() bool {
		bell, _ := r.row(t, conn, t.Name())
		return bell == "stream" && used.Load() >= before+2
	})
	if n := relay.Counters().Rows.Load(); n != 0 {
		t.Errorf("the relay has written %d rows", n)
	}
	r.same(t, f, "the end")
	if s := f.Status(); s.State != lockstep.Live || f.n.Gaps.Load() != 0 {
		t.Errorf("state %v (%s), %d gaps", s.State, s.Reason, f.n.Gaps.Load())
	}
}

// A question that somebody has kept, or made, does nothing.
func TestForgedQuestionsAndKeptOnesAreRefused(t *testing.T) {
	r := newRig(t)
	relay := r.relay(t).leads(t)
	nc, _ := r.jetstream(t)
	stream.KeptFor(t, 2*time.Second)
	var mu sync.Mutex
	var kept []byte
	if _, err := nc.Subscribe(stream.Asks("lockstep"), func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if kept == nil {
			kept = m.Data
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	f := r.node(t, registering(100*time.Millisecond)).onStream(t)
	until(t, "a question was overheard, and its row was written", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return kept != nil && relay.Counters().Rows.Load() > 0
	})
	mu.Lock()
	question := kept
	mu.Unlock()
	reply, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	again := func(m []byte) {
		if err := nc.PublishRequest(stream.Asks("lockstep"), reply.Subject, m); err != nil {
			t.Fatal(err)
		}
	}
	forged := append([]byte(nil), question...)
	forged[len(forged)-40] ^= 1
	refused := relay.Counters().Refused.Load()
	for _, m := range [][]byte{nil, []byte("x"), forged} {
		again(m)
	}
	until(t, "forged ones are refused", func() bool { return relay.Counters().Refused.Load() >= refused+3 })
	until(t, "a kept one is refused after a while", func() bool {
		was := relay.Counters().Refused.Load()
		again(question)
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		answered, err := reply.NextMsg(time.Second)
		return err != nil && answered == nil && relay.Counters().Refused.Load() > was
	})
	r.same(t, f, fmt.Sprint("after ", relay.Counters().Refused.Load()))
}
