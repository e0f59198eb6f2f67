package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pglockstep/lockstep/outbox"
)

// Each time that messages are asked for again a consumer is left behind, which the server keeps for a while.
func TestConsumersDoNotPileUpWhereNothingComes(t *testing.T) {
	var f feed
	f.came(7)
	f.pause(errSilent)
	at, made := time.Duration(0), []time.Duration{}
	for at < time.Hour { // the relay is away: all that comes is its last message
		f.came(7)
		at += f.patience()
		f.quiet++
		at += f.pause(fmt.Errorf("%w over stream x", errSilent))
		made = append(made, at)
	}
	for i := range made {
		kept := 0
		for _, other := range made[:i] {
			if made[i]-other < forgotten {
				kept++
			}
		}
		if kept > 4 || i > 10 && kept > 1 {
			t.Errorf("after %v there are %d consumers", made[i], kept)
		}
	}
	if f.came(8); f.patience() != silence {
		t.Errorf("a relay that is back is given %v", f.patience())
	}
	refused := errors.New("the stream is not there")
	f.pause(refused)
	var last time.Duration
	for range 20 {
		last = f.pause(refused)
	}
	if last < seldom/2 || last > seldom {
		t.Errorf("a stream that is not there is asked for every %v", last)
	}
}

// Somebody waits for Postgres all the time.
func TestABusyNodeTriesTheStreamToo(t *testing.T) {
	d := &detour{src: &source{Source: Source{}.withDefaults(nil)}}
	from := position(t, "10:20:")
	for _, c := range []struct {
		req   outbox.Request
		since time.Duration
		due   bool
	}{
		{outbox.Request{From: from}, d.src.Return - 1, false},
		{outbox.Request{From: from}, d.src.Return, true},
		{outbox.Request{From: from, Now: true}, 9 * d.src.Return, false},
		{outbox.Request{From: from, Now: true}, 10 * d.src.Return, true},
		{outbox.Request{From: from, Snapshot: "00000003-0000001B-1"}, time.Hour, false},
		{outbox.Request{}, time.Hour, false},
	} {
		if got := d.due(&c.req, c.since); got != c.due {
			t.Errorf("%+v after %v: %v", c.req, c.since, got)
		}
	}
}

// A NATS server that takes connections and never says a word holds up nobody.
func TestANATSServerThatSaysNothingHoldsUpNobody(t *testing.T) {
	var listening net.ListenConfig
	l, err := listening.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case accepted <- conn:
			default:
			}
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f := newFeed(Source{URL: "nats://localhost:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port), Options: []nats.Option{nats.Timeout(time.Hour)}}.withDefaults(nil))
		conn := <-accepted
		f.close()
		_ = conn.Close()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("who gives up waits for it")
	}
}

// A server that is there and has stopped, or whose packets are dropped, is found out long before a relay's lead is in question.
func TestAConnectionToNATSThatIsDeadIsFoundOutWithinSeconds(t *testing.T) {
	o := nats.GetDefaultOptions()
	for _, set := range connection("x", slog.New(slog.DiscardHandler)) {
		if err := set(&o); err != nil {
			t.Fatal(err)
		}
	}
	if d := o.PingInterval * time.Duration(o.MaxPingsOut+1); d > 5*time.Second || o.FlusherTimeout > 5*time.Second || o.Timeout > 5*time.Second {
		t.Errorf("pings find it out after %v, writes after %v, connecting after %v", d, o.FlusherTimeout, o.Timeout)
	}
}
