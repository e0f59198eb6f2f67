package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pglockstep/lockstep/internal/pause"
)

const (
	// silence is how long nothing may come before the consumer is made anew: one of a
	// stream that has lost its disk waits for numbers that are far off.
	silence = 2 * time.Second
	// askWithin bounds each question to JetStream.
	askWithin = 2 * time.Second
)

// feed is a connection to NATS and what has come over it. It belongs to one session.
type feed struct {
	cfg    Source
	nc     *nats.Conn
	rings  chan struct{}
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	queue [][]byte
	bytes int
	lost  bool      // the queue was full: what came is gone
	came  uint64    // messages so far
	at    time.Time // of the last one
	err   error     // why nothing comes, as far as is known
}

// newFeed begins to connect, and goes on trying until it is closed.
func newFeed(cfg Source) (*feed, error) {
	nc, err := nats.Connect(cfg.URL, append([]nats.Option{
		nats.Name("lockstep node"), nats.Timeout(askWithin), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
	}, cfg.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("stream: connect to NATS: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &feed{cfg: cfg, nc: nc, rings: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	go f.run(ctx)
	return f, nil
}

func (f *feed) close() {
	f.cancel()
	<-f.done
	closeNATS(f.nc)
}

// closeNATS closes the connection and waits until its goroutines have ended.
func closeNATS(nc *nats.Conn) {
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	if nc.IsClosed() {
		return
	}
	nc.Close()
	select {
	case <-closed:
	case <-time.After(askWithin):
	}
}

func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		came := f.count()
		err := f.consume(ctx)
		if f.count() > came {
			wait = 100 * time.Millisecond
		}
		f.fails(err)
		pause.For(ctx, wait/2+rand.N(wait/2))
	}
}

// consume takes messages, the last one of the stream first, until that fails.
func (f *feed) consume(ctx context.Context) error {
	if !f.nc.IsConnected() {
		if err := f.nc.LastError(); err != nil {
			return fmt.Errorf("NATS is away: %w", err)
		}
		return errors.New("NATS is away")
	}
	js, err := jetstream.New(f.nc)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	cons, err := js.OrderedConsumer(asking, f.cfg.Stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{f.cfg.subject()}, DeliverPolicy: jetstream.DeliverLastPolicy, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("consume stream %s: %w", f.cfg.Stream, err)
	}
	it, err := cons.Messages(jetstream.PullMaxMessages(512))
	if err != nil {
		return fmt.Errorf("consume stream %s: %w", f.cfg.Stream, err)
	}
	defer it.Stop()
	for {
		waiting, cancel := context.WithTimeout(ctx, silence)
		msg, err := it.Next(jetstream.NextContext(waiting))
		cancel()
		switch {
		case err == nil:
			f.add(msg.Data())
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("nothing has come over stream %s for %s", f.cfg.Stream, silence)
		default:
			return fmt.Errorf("consume stream %s: %w", f.cfg.Stream, err)
		}
	}
}

// add queues a message. It never waits: if the queue is full it is emptied, and
// the session asks Postgres.
func (f *feed) add(message []byte) {
	f.mu.Lock()
	if f.bytes+len(message) > f.cfg.MaxCut+f.cfg.MaxCut/4 {
		f.queue, f.bytes, f.lost = nil, 0, true
	}
	f.queue, f.bytes = append(f.queue, message), f.bytes+len(message)
	f.came, f.at, f.err = f.came+1, time.Now(), nil
	f.mu.Unlock()
	f.ring()
}

func (f *feed) ring() {
	select {
	case f.rings <- struct{}{}:
	default:
	}
}

// take takes what has come; lost says that there was more.
func (f *feed) take() (messages [][]byte, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	messages, lost = f.queue, f.lost
	f.queue, f.bytes, f.lost = nil, 0, false
	return messages, lost
}

func (f *feed) count() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.came
}

func (f *feed) fails(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// why says why nothing comes.
func (f *feed) why() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err.Error()
	}
	return "nothing comes over stream " + f.cfg.Stream
}
