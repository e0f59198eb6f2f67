package stream_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
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
	stream.MeasureEvery(t, 3*time.Second)
	r := newRig(t)
	relay := r.relay(t).leads(t)
	pool, used := r.counted(t)
	f := r.nodeOf(t, pool, registering(200*time.Millisecond), func(_ *lockstep.Config, s *stream.Source) { s.Idle = 300 * time.Millisecond }).onStream(t)
	conn := r.Conn(t)
	_, was := r.row(t, conn, t.Name())
	var uses int64
	var asked, told, rows uint64
	again := func() {
		uses, asked, told, rows = used.Load(), f.n.Asked.Load(), f.n.Told.Load(), relay.Counters().Rows.Load()
	}
	again()
	until(t, "the clocks were compared twice, and the row was written ten times, while nobody asked Postgres", func() bool {
		if used.Load() != uses || f.n.Asked.Load() != asked { // an answer that is late: where the machine has much else to do
			again()
		}
		return f.n.Told.Load() >= told+2 && relay.Counters().Rows.Load() >= rows+10
	})
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
		_, was := r.row(t, lock, f.Status().Name)
		until(t, "its row is written", func() bool {
			_, beat := r.row(t, lock, f.Status().Name)
			return beat.After(was)
		})
		if n := relay.Counters().Runs.Load(); n != 1 {
			t.Errorf("the relay has begun %d runs", n)
		}
	})
	t.Run("nodes may not ask it", func(t *testing.T) {
		r := newRig(t, func(c *natsserver.Config) { c.Users = users([]string{"_INBOX.>", stream.Asks("lockstep")}, nil) })
		relay := r.relay(t, as("relay")).leads(t)
		r.writesItself(t, relay, func(_ *lockstep.Config, s *stream.Source) { s.Options = login("node") })
		if said := r.log.String(); !strings.Contains(said, "level=WARN msg=\"NATS says that something is wrong\"") || !strings.Contains(said, "lockstep.asks") {
			t.Error("nobody says which permission is missing")
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

// A question that somebody has made does nothing, nor does one that somebody has kept for long.
func TestForgedQuestionsAndKeptOnesAreRefused(t *testing.T) {
	stream.KeptFor(t, 2*time.Second)
	r := newRig(t)
	relay := r.relay(t).leads(t)
	nc, _ := r.jetstream(t)
	var overheard atomic.Pointer[[]byte] // the newest
	if _, err := nc.Subscribe(stream.Asks("lockstep"), func(m *nats.Msg) { overheard.Store(&m.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	f := r.node(t, registering(100*time.Millisecond)).onStream(t)
	until(t, "a question was overheard", func() bool { return overheard.Load() != nil && relay.Counters().Rows.Load() > 0 })
	question := bytes.Clone(*overheard.Load())
	answered := func(q []byte) bool {
		_, err := nc.Request(stream.Asks("lockstep"), q, time.Second)
		return err == nil
	}
	until(t, "one that was kept for a moment is answered", func() bool {
		question = bytes.Clone(*overheard.Load())
		return answered(question)
	})
	forged := bytes.Clone(question)
	forged[len(forged)-40] ^= 1
	for _, q := range [][]byte{nil, []byte("x"), forged} {
		refused := relay.Counters().Refused.Load()
		if answered(q) || relay.Counters().Refused.Load() == refused {
			t.Errorf("%q is answered", q)
		}
	}
	until(t, "one that was kept for long is refused", func() bool {
		refused := relay.Counters().Refused.Load()
		return !answered(question) && relay.Counters().Refused.Load() > refused
	})
	r.same(t, f, "the end")
}
