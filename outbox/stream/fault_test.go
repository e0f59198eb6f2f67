package stream_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/natsserver"
	"github.com/pglockstep/lockstep/outbox/stream"
)

// same waits until the node shows what the table holds, after a mark that is written now.
func (r *rig) same(t *testing.T, f *follower, mark string) {
	t.Helper()
	r.put(t, 0, mark)
	f.has(t, 0, mark)
	rows, err := r.Conn(t).Query(t.Context(), "select id, v from a")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var want item
		if err := rows.Scan(&want.ID, &want.V); err != nil {
			t.Fatal(err)
		}
		n++
		if got, ok := f.table.Get(want.ID); !ok || got != want {
			t.Errorf("row %d is %q, want %q", want.ID, got.V, want.V)
		}
	}
	if got := f.table.Len(); got != n {
		t.Errorf("the node has %d rows, the table %d", got, n)
	}
}

// neverResynced checks that nothing that happened made the node load again.
func (f *follower) neverResynced(t *testing.T) {
	t.Helper()
	if s := f.Status(); s.Resyncs+s.Reloads != 0 || len(s.Loads) != 1 {
		t.Errorf("%d resyncs and %d reloads: %+v", s.Resyncs, s.Reloads, s.Loads)
	}
}

// writers write until they are stopped.
func (r *rig) writers(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for w := range 3 {
		conn := r.Conn(t)
		rng := rand.New(rand.NewPCG(uint64(w), 7))
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				sql := fmt.Sprintf("insert into a values (%d, '%d') on conflict (id) do update set v = excluded.v", 1+rng.IntN(50), i)
				switch rng.IntN(4) {
				case 0:
					sql = fmt.Sprintf("delete from a where id = %d", 1+rng.IntN(50))
				case 1:
					sql = "begin; " + sql + "; select pg_sleep(0.003); rollback"
				case 2:
					sql = "begin; " + sql + "; select pg_sleep(0.005); commit"
				}
				if _, err := conn.Exec(ctx, sql); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", sql, err)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(stop)
	return stop
}

// jetstream is a connection to NATS, closed at the test's end.
func (r *rig) jetstream(t *testing.T) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(r.nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	t.Cleanup(func() { nc.Close(); <-closed })
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// tampered republishes the messages of one stream on another, as it pleases.
func (r *rig) tampered(t *testing.T, to string, tamper func(m []byte, send func([]byte))) {
	t.Helper()
	nc, js := r.jetstream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: to, Subjects: []string{stream.Subject(to)}}); err != nil {
		t.Fatal(err)
	}
	send := func(m []byte) {
		if err := nc.Publish(stream.Subject(to), m); err != nil && !nc.IsClosed() {
			t.Error(err)
		}
	}
	if _, err := nc.Subscribe(stream.Subject("lockstep"), func(m *nats.Msg) { tamper(m.Data, send) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func on(name string) func(*lockstep.Config, *stream.Source) {
	return func(_ *lockstep.Config, s *stream.Source) { s.Stream = name }
}

func TestMessagesAreForgedDoubledReorderedAndDropped(t *testing.T) {
	r := newRig(t)
	r.relay(t).leads(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var held [][]byte
	r.tampered(t, "crooked", func(m []byte, send func([]byte)) {
		switch rng.IntN(8) {
		case 0: // dropped
		case 1:
			send(m)
			send(m)
		case 2: // comes after the next ones
			held = append(held, m)
		case 3: // forged, in what it says and not in what it is
			bad := append([]byte{}, m...)
			bad[len(bad)/2] ^= 1
			send(bad)
			send(m)
		case 4: // of a run that nobody has heard of
			bad := append([]byte{}, m...)
			bad[5] ^= 0xff
			send(bad)
			send([]byte("what is this?"))
			send(m)
		default:
			send(m)
		}
		if len(held) > 3 {
			for _, i := range rng.Perm(len(held)) {
				send(held[i])
			}
			held = nil
		}
	})
	f := r.node(t, on("crooked")).onStream(t)
	stop := r.writers(t)
	until(t, "much has been taken", func() bool {
		return f.n.Batches.Load() > 300 && f.n.Forged.Load() > 20 && f.n.Foreign.Load() > 5 && f.n.Gaps.Load() > 20 && f.n.Passed.Load() > 20
	})
	stop()
	r.same(t, f, "the end")
	f.neverResynced(t)
	if s := f.Status(); s.Gaps.Misjudged != 0 {
		t.Errorf("%+v", s.Gaps)
	}
	t.Logf("taken %d, passed by %d, gaps %d, forged %d, foreign %d; Postgres was asked %d times", f.n.Batches.Load(), f.n.Passed.Load(),
		f.n.Gaps.Load(), f.n.Forged.Load(), f.n.Foreign.Load(), f.n.Asked.Load())
}

func away(d time.Duration) func(*lockstep.Config, *stream.Source) {
	return func(_ *lockstep.Config, s *stream.Source) { s.Away, s.Return = d, 200*time.Millisecond }
}

func TestNATSGoesAndComesBack(t *testing.T) {
	for name, lost := range map[string]bool{"with its disk": false, "without its disk": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.relay(t).leads(t)
			f := r.node(t, away(1500*time.Millisecond)).onStream(t)
			stop := r.writers(t)
			r.nats.Stop()
			until(t, "the node follows Postgres", func() bool {
				s := f.Status()
				return s.State == lockstep.Live && s.Bell == "notify" && strings.Contains(s.WhyBell, "not on the stream")
			})
			if lost {
				if err := os.RemoveAll(r.dir); err != nil {
					t.Fatal(err)
				}
			}
			r.start(t, natsserver.Config{Dir: r.dir, Port: r.nats.Port})
			n := f.n.Batches.Load()
			until(t, "the node is back on the stream", func() bool {
				s := f.Status()
				return s.State == lockstep.Live && s.Bell == "stream" && s.WhyBell == "" && f.n.Batches.Load() > n+10
			})
			stop()
			r.same(t, f, "the end")
			f.neverResynced(t)
		})
	}
}

// deleteStream takes the stream away from under whoever follows it.
func (r *rig) deleteStream(t *testing.T) {
	t.Helper()
	_, js := r.jetstream(t)
	if err := js.DeleteStream(t.Context(), "lockstep"); err != nil {
		t.Fatal(err)
	}
}

func TestTheStreamIsDeleted(t *testing.T) {
	r := newRig(t)
	relay := r.relay(t).leads(t)
	f := r.node(t, away(time.Second)).onStream(t)
	r.deleteStream(t) // the relay makes it again
	n := f.n.Batches.Load()
	until(t, "batches come again", func() bool { return f.Status().Bell == "stream" && f.n.Batches.Load() > n+5 })
	r.same(t, f, "of the new stream")
	relay.kill()
	r.deleteStream(t) // nobody does
	until(t, "the node follows Postgres", func() bool { return f.Status().Bell == "notify" })
	r.same(t, f, "directly")
	r.relay(t).leads(t)
	until(t, "the node is back", func() bool { return f.Status().Bell == "stream" })
	r.same(t, f, "over the stream again")
	f.neverResynced(t)
}

// proxied puts a proxy in front of NATS for a relay.
func (r *rig) proxied(t *testing.T) (*toxiproxy.Proxy, func(*stream.RelayConfig)) {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "nats", "127.0.0.1:0", strings.TrimPrefix(r.nats.URL(), "nats://"))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return proxy, func(c *stream.RelayConfig) { c.URL = "nats://" + proxy.Listen }
}

// The stream has a batch and the relay does not know: it publishes it again in a larger one, or another relay
// does after its end.
func TestTheAnswerToABatchIsLost(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("and the relay is killed: %v", killed), func(t *testing.T) {
			r := newRig(t)
			proxy, behind := r.proxied(t)
			relay := r.relay(t, behind).leads(t)
			f := r.node(t, away(time.Hour)).onStream(t)
			stop := r.writers(t)
			if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(`{"name": "deaf", "type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`)); err != nil {
				t.Fatal(err)
			}
			unsent := relay.Counters().Unsent.Load()
			_, js := r.jetstream(t)
			until(t, "the stream has a batch of which the relay does not know", func() bool {
				s, err := js.Stream(t.Context(), "lockstep")
				return err == nil && s.CachedInfo().State.LastSeq > relay.Counters().Messages.Load()
			})
			if killed { // it still waits for the answer
				relay.kill()
				relay = r.relay(t)
			} else {
				until(t, "the relay gives it up", func() bool { return relay.Counters().Unsent.Load() > unsent })
				proxy.Toxics.ResetToxics(t.Context())
			}
			n := f.n.Batches.Load()
			until(t, "batches come", func() bool { return f.n.Batches.Load() > n+20 })
			relay.leads(t)
			stop()
			r.same(t, f, "the end")
			f.neverResynced(t)
			if s := f.Status(); s.Gaps.Misjudged != 0 || s.Bell != "stream" {
				t.Errorf("the node follows by %s: %s; %+v", s.Bell, s.WhyBell, s.Gaps)
			}
		})
	}
}

// A relay that has lost NATS while another reaches it is of no use as the one that leads.
func TestALeaderWithoutNATSLetsAnotherLead(t *testing.T) {
	r := newRig(t)
	proxy, behind := r.proxied(t)
	quick := func(c *stream.RelayConfig) { c.TakeOver = 100 * time.Millisecond }
	first := r.relay(t, quick, behind).leads(t)
	second := r.relay(t, quick)
	f := r.node(t).onStream(t)
	proxy.Stop()
	second.leads(t)
	if first.Counters().Leads.Load() {
		t.Error("both lead")
	}
	n := f.n.Batches.Load()
	until(t, "its batches come", func() bool { return f.n.Batches.Load() > n+3 })
	second.kill()
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	first.leads(t)
	r.same(t, f, "the end")
	f.neverResynced(t)
}

// NATS' machine is gone without a word: connections seem to stand.
func TestALeaderWhoseNATSIsSilentLetsAnotherLead(t *testing.T) {
	r := newRig(t)
	proxy, behind := r.proxied(t)
	quick := func(c *stream.RelayConfig) { c.TakeOver = 100 * time.Millisecond }
	r.relay(t, quick, behind).leads(t)
	second := r.relay(t, quick)
	for _, way := range []string{"upstream", "downstream"} {
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(`{"name": "` + way + `", "type": "timeout", "stream": "` + way + `", "attributes": {"timeout": 0}}`)); err != nil {
			t.Fatal(err)
		}
	}
	second.leads(t)
}

// One that waits for the lead bears what one that leads bears.
func TestAStandbyThatHasNeverLedOutlivesAnOutageOfPostgres(t *testing.T) {
	r := newRig(t)
	quick := func(c *stream.RelayConfig) { c.TakeOver = 100 * time.Millisecond }
	first := r.relay(t, quick).leads(t)
	second := r.relay(t, quick, func(c *stream.RelayConfig) {
		c.Pool = r.Pool(t, func(p *pgxpool.Config) { p.ConnConfig.RuntimeParams["application_name"] = "second" })
	})
	conn := r.Conn(t)
	pid := func() (pid int) {
		if err := conn.QueryRow(t.Context(), "select coalesce(max(pid), 0) from pg_stat_activity where application_name = 'second' and datname = current_database()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	until(t, "it waits", func() bool { return pid() != 0 && strings.Contains(r.log.String(), "another relay leads") })
	was := pid()
	if _, err := conn.Exec(t.Context(), "select pg_terminate_backend($1)", was); err != nil {
		t.Fatal(err)
	}
	until(t, "it is back", func() bool { now := pid(); return now != 0 && now != was })
	first.kill()
	second.leads(t)
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("run twice: %v", err)
	}
}

// A node goes on with the connections that it has when another relay leads.
func TestANodeIsHandedOverToTheNextRelay(t *testing.T) {
	r := newRig(t)
	first := r.relay(t).leads(t)
	var made atomic.Int64
	pool := r.Pool(t, func(p *pgxpool.Config) {
		p.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { made.Add(1); return nil }
	})
	f := r.nodeOf(t, pool, away(time.Hour), func(_ *lockstep.Config, s *stream.Source) { s.Idle = time.Hour }).onStream(t)
	r.put(t, 1, "one")
	f.has(t, 1, "one")
	before, sessions := made.Load(), f.Status().Sessions
	first.kill()
	second := r.relay(t).leads(t)
	until(t, "another session follows", func() bool { s := f.Status(); return s.Sessions > sessions && s.State == lockstep.Live })
	r.same(t, f, "the end")
	if n := made.Load() - before; n != 0 || second.Counters().Batches.Load() == 0 {
		t.Errorf("%d more connections", n)
	}
	f.neverResynced(t)
}

func TestARelayIsKilledAndAnotherTakesOver(t *testing.T) {
	for _, stage := range []string{"fetched", "published"} {
		t.Run("when it has "+stage, func(t *testing.T) {
			r := newRig(t)
			cfg := stream.RelayConfig{Pool: r.pool, URL: r.nats.URL(), Logger: r.logger()}
			first, err := stream.NewRelay(cfg)
			if err != nil {
				t.Fatal(err)
			}
			died := make(chan struct{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			isArmed := make(chan struct{})
			first.Hook(func(at string) {
				select {
				case <-isArmed:
					if at == stage {
						cancel() // nothing more is sent, and the connections end
					}
				default:
				}
			})
			go func() {
				defer close(died)
				if err := first.Run(ctx); err != nil {
					t.Errorf("the relay: %v", err)
				}
			}()
			(&running{Relay: first}).leads(t)
			second := r.relay(t)
			f := r.node(t).onStream(t)
			stop := r.writers(t)
			n := f.n.Batches.Load()
			until(t, "batches come", func() bool { return f.n.Batches.Load() > n+20 })
			close(isArmed)
			<-died
			second.leads(t)
			n = f.n.Batches.Load()
			until(t, "the other's batches come", func() bool { return f.n.Batches.Load() > n+20 })
			stop()
			r.same(t, f, "the end")
			f.neverResynced(t)
			if s := f.Status(); s.Bell != "stream" {
				t.Errorf("the node follows by %s: %s", s.Bell, s.WhyBell)
			}
		})
	}
}

func TestANodeStartsWithoutTheStreamAndGoesOverToIt(t *testing.T) {
	r := newRig(t)
	r.put(t, 1, "one")
	f := r.node(t, away(time.Second))
	if s := f.Status(); s.Bell != "notify" || !strings.Contains(s.WhyBell, "not on the stream") {
		t.Errorf("bell %s: %q", s.Bell, s.WhyBell)
	}
	f.has(t, 1, "one")
	relay := r.relay(t).leads(t)
	f.onStream(t)
	r.same(t, f, "over the stream")
	relay.kill()
	until(t, "the node follows Postgres", func() bool { return f.Status().Bell == "notify" })
	r.same(t, f, "directly")
	r.relay(t).leads(t)
	until(t, "the node is back", func() bool { return f.Status().Bell == "stream" })
	r.same(t, f, "over the stream again")
	f.neverResynced(t)
}

// held is a relay whose work can be held up.
func (r *rig) held(t *testing.T) (hold, release func()) {
	t.Helper()
	relay, err := stream.NewRelay(stream.RelayConfig{Pool: r.pool, URL: r.nats.URL(), Logger: r.logger()})
	if err != nil {
		t.Fatal(err)
	}
	var gate sync.Mutex
	relay.Hook(func(stage string) {
		if stage == "fetched" {
			gate.Lock()
			defer gate.Unlock()
		}
	})
	shut := false
	release = func() {
		if shut {
			shut = false
			gate.Unlock()
		}
	}
	start(t, relay).leads(t)
	t.Cleanup(release) // before the relay is killed
	return func() { shut = true; gate.Lock() }, release
}

func TestWhoWaitsIsAnsweredByPostgres(t *testing.T) {
	r := newRig(t)
	hold, release := r.held(t)
	f := r.node(t, away(time.Hour)).onStream(t)
	hold()
	r.put(t, 1, "behind the relay")
	if err := f.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if row, _ := f.table.Get(1); row.V != "behind the relay" {
		t.Errorf("after the barrier row 1 is %q", row.V)
	}
	if _, err := f.table.Put(t.Context(), item{2, "its own"}); err != nil {
		t.Fatal(err)
	}
	if row, _ := f.table.Get(2); row.V != "its own" {
		t.Errorf("after Put row 2 is %q", row.V)
	}
	until(t, "the node is stale: the relay hangs", func() bool { return f.Status().State == lockstep.Stale })
	release()
	until(t, "the node is live", func() bool { return f.Status().State == lockstep.Live })
	r.same(t, f, "the end")
	f.neverResynced(t)
}

func TestALargeTransactionComesInParts(t *testing.T) {
	r := newRig(t, func(c *natsserver.Config) { c.MaxPayload = 32 << 10 })
	relay := r.relay(t).leads(t)
	f := r.node(t).onStream(t)
	until(t, "the clock is measured", func() bool { return f.n.Asked.Load() >= 2 })
	asked, sent := f.askedFor(), relay.Counters().Messages.Load()-relay.Counters().Batches.Load()
	r.Exec(t, "insert into a select i, repeat('x', 10000) from generate_series(1, 300) i")
	until(t, "3 MB come in many messages of 32 kB besides the batches", func() bool {
		return relay.Counters().Messages.Load()-relay.Counters().Batches.Load()-sent >= 50
	})
	r.same(t, f, "the end")               // which it may have from Postgres, before the relay has sent it
	if n := f.askedFor() - asked; n > 1 { // one may have been due for the numbers from before
		t.Errorf("Postgres was asked %d times", n)
	}
}

func TestABatchAboveTheBoundIsReadFromPostgres(t *testing.T) {
	r := newRig(t)
	relay := r.relay(t, func(c *stream.RelayConfig) { c.MaxCut = 50_000 }).leads(t)
	f := r.node(t).onStream(t)
	r.Exec(t, "insert into a select i, repeat('x', 1000) from generate_series(1, 300) i")
	r.same(t, f, "the end")
	if relay.Counters().TooLarge.Load() == 0 || f.n.Gaps.Load() == 0 {
		t.Errorf("%d batches were too large, %d gaps", relay.Counters().TooLarge.Load(), f.n.Gaps.Load())
	}
	f.neverResynced(t)
}

// A node that is held up takes no memory for what comes meanwhile: beyond the bound it forgets and asks.
func TestASlowNodeForgetsAndAsks(t *testing.T) {
	r := newRig(t)
	r.relay(t).leads(t)
	var gate sync.Mutex
	f := r.node(t, func(c *lockstep.Config, s *stream.Source) {
		s.MaxCut = 20_000
		c.OnCut = func(lockstep.Cut) { gate.Lock(); gate.Unlock() } //nolint:staticcheck // it only passes
	}).onStream(t)
	gate.Lock()
	conn := r.Conn(t)
	for i := range 100 {
		if _, err := conn.Exec(t.Context(), "insert into a values ($1, $2) on conflict (id) do update set v = excluded.v", i, strings.Repeat("y", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	gate.Unlock()
	r.same(t, f, "the end")
	if f.n.Gaps.Load() == 0 {
		t.Error("nothing was forgotten")
	}
	f.neverResynced(t)
}

func TestWhatTheStreamCannotCarryIsReadFromPostgres(t *testing.T) {
	r := newRig(t)
	r.relay(t, func(c *stream.RelayConfig) { c.CatalogueEvery = 200 * time.Millisecond }).leads(t)
	f := r.node(t).onStream(t)
	r.put(t, 1, "one")
	f.has(t, 1, "one")
	r.Exec(t, "alter table a alter column v type text using v || '!'") // writes no event
	f.has(t, 1, "one!")
	s := f.Status()
	if s.Reloads == 0 || s.Resyncs != 0 {
		t.Errorf("%d reloads, %d resyncs: %+v", s.Reloads, s.Resyncs, s.Loads)
	}
	r.Exec(t, "truncate a")
	until(t, "the table is empty", func() bool { return f.table.Len() == 0 })
	r.same(t, f, "the end")
}

// Who may only consume cannot publish, and who may only publish cannot read.
func TestSubjectPermissionsAreEnough(t *testing.T) {
	r := newRig(t, func(c *natsserver.Config) {
		c.Users = users([]string{"_INBOX.>", stream.Asks("lockstep")}, []string{stream.Asks("lockstep")})
	})
	relay := r.relay(t, as("relay")).leads(t)
	f := r.node(t, registering(100*time.Millisecond), func(_ *lockstep.Config, s *stream.Source) { s.Options = login("node") }).onStream(t)
	r.same(t, f, "over the stream")
	until(t, "the relay writes the node's row", func() bool { return relay.Counters().Rows.Load() > 0 })
	refused := make(chan error, 10)
	for user, subject := range map[string]string{"node": stream.Subject("lockstep"), "relay": "$JS.API.CONSUMER.CREATE.lockstep.x"} {
		nc, err := nats.Connect(r.nats.URL(), login(user)[0], nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
		if err := nc.Publish(subject, []byte("forged")); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !strings.Contains(err.Error(), "Permissions Violation") || !strings.Contains(err.Error(), subject) {
				t.Errorf("%s: %v", user, err)
			}
		case <-time.After(limit):
			t.Errorf("%s may publish to %s", user, subject)
		}
		nc.Close()
		<-closed
	}
	if n := f.n.Forged.Load(); n != 0 {
		t.Errorf("%d forged messages have come through", n)
	}
	if _, err := nats.Connect(r.nats.URL()); err == nil {
		t.Error("somebody without a name may connect")
	}
}
