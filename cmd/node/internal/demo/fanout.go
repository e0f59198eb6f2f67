package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox/stream"
)

// fanout is what carries the log to the nodes, beside Postgres.
type fanout struct {
	broker broker
	addr   string // of the NATS server
	relay  *stream.Relay
	stop   context.CancelFunc
	ended  chan error // of the relay, once
}

// A node of the demo gives up the stream sooner than others, and looks for it more often:
// who watches does not want to wait.
const (
	streamAway   = time.Second
	streamReturn = 500 * time.Millisecond
	onStream     = "stream" // what a node says of itself that follows it
)

// follow is what a node follows.
func follow(addr string, n *stream.Counters) stream.Source {
	return stream.Source{URL: "nats://" + addr, Away: streamAway, Return: streamReturn, Counters: n}
}

// startFanout starts a NATS server, and a relay on it that leads when this returns.
func (c *cluster) startFanout(ctx context.Context) error {
	f := &fanout{ended: make(chan error, 1)}
	var err error
	if f.broker, err = startBroker(ctx, func(_ *child, m message) { f.addr = m.Text }); err != nil {
		return err
	}
	c.fanout = f
	f.relay, err = stream.NewRelay(stream.RelayConfig{Pool: c.pool, Schema: c.schema, URL: "nats://" + f.addr, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	// The account still needs it when the demo was interrupted.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	go func() { f.ended <- f.relay.Run(life) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f.relay.Counters().Leads.Load() || f.relay.Counters().Batches.Load() < 2 {
		select {
		case err := <-f.ended:
			f.ended <- nil
			return fmt.Errorf("the relay has ended: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	c.say(plain, "NATS JetStream runs on %s, its stream in files; a relay publishes the log, and nodes follow the stream", f.addr)
	return nil
}

// end stops the relay, then the server, and waits for both.
func (f *fanout) end() (err error) {
	if f.stop != nil {
		f.stop()
		err = <-f.ended
	}
	return errors.Join(err, f.broker.end())
}

// drought takes NATS away: the nodes are to follow Postgres directly meanwhile, and to return to the stream by
// themselves. Caller has the stage.
func (c *cluster) drought(ctx context.Context) error {
	c.note(c.book.cut)
	c.say(bad, "cut: NATS is down; writes go on")
	shown := context.WithoutCancel(ctx)
	if _, err := c.fanout.broker.ask(shown, request{Do: "down"}); err != nil {
		return err
	}
	err := c.awaitSource(ctx, false)
	if err == nil {
		c.say(watch, "without NATS every node follows Postgres directly")
		err = c.promote(shown)
	}
	if _, e := c.fanout.broker.ask(shown, request{Do: "up"}); e != nil {
		return errors.Join(err, e)
	}
	c.note(c.book.healed)
	c.say(good, "healed: NATS is back, with its files")
	if e := c.awaitSource(ctx, true); e != nil || err != nil {
		return cause(err, e)
	}
	c.note(c.book.live)
	c.say(good, returned)
	return c.promote(shown)
}

const returned = "every node has returned to the stream by itself"

// note writes into the book for each node that is not cut off besides.
func (c *cluster) note(write func(node string, at time.Time)) {
	for i, n := range c.nodes {
		if !c.cuts[i].isOff.Load() {
			write(n.name, time.Now())
		}
	}
}

// cause is the first error, unless all that happened is that the scene was broken off.
func cause(errs ...error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, errBrokenOff) {
			return err
		}
	}
	return nil
}

// errBrokenOff means that somebody does not want to see the end of a scene.
var errBrokenOff = errors.New("broken off")

// awaitSource waits until all nodes that are not cut off are live and on the stream, or none is. The end of a round does not
// break it off; what takes far too long is kept for the account.
func (c *cluster) awaitSource(ctx context.Context, wanted bool) error {
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	for i, n := range c.nodes {
		for !c.cuts[i].isOff.Load() {
			m, err := n.ask(waiting, request{Do: "status"})
			switch {
			case errors.Is(ctx.Err(), context.Canceled):
				return errBrokenOff
			case waiting.Err() != nil:
				c.wrong = append(c.wrong, fmt.Sprintf("%s did not find its way while NATS went and came back", n.name))
				return nil
			case err != nil:
				return err
			}
			said, _ := n.source.Load().(string) // which is on the screen already
			if on := m.Status.Source == onStream; on == wanted && on == (said == "" || said == onStream) && m.Status.State == "live" {
				break
			}
			pause.For(ctx, 20*time.Millisecond)
		}
	}
	return nil
}

// sources is a line of the account.
func (c *cluster) sources(all []*account) {
	var took, asked uint64
	for _, s := range all {
		took, asked = took+s.Batches, asked+s.Asked
	}
	n := c.fanout.relay.Counters()
	c.line(dim, "over NATS: the relay published %s batches, which the nodes took %s times; beside that they asked Postgres %s times themselves",
		thousands(n.Batches.Load()), thousands(took), thousands(asked))
}
