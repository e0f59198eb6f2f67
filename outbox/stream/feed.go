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
	// stream that was made anew may wait for numbers that are far off.
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
	next   uint64 // number, in the stream, of the message after the last one; 0: not known. The goroutine's own

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
	for wait := soon; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		came := f.count()
		err := f.consume(ctx)
		if f.count() > came || errors.Is(err, errNotConnected) { // the library sees to the connection, at its own pace
			wait = soon
		}
		f.fails(err)
		pause.For(ctx, wait/2+rand.N(wait/2))
	}
}

// soon is how long it takes at the least to try again.
const soon = 100 * time.Millisecond

var errNotConnected = errors.New("NATS is away")

// consume takes messages until that fails. It begins after the last one that came, or where
// none came for long, with the last one of the stream. The consumer is a plain one: an ordered one of the library's
// makes itself anew for as long as the stream is not there, whatever its caller's context says.
func (f *feed) consume(ctx context.Context) error {
	if !f.nc.IsConnected() {
		if err := f.nc.LastError(); err != nil {
			return fmt.Errorf("%w: %w", errNotConnected, err)
		}
		return errNotConnected
	}
	it, err := f.consumer(ctx)
	if err != nil {
		return f.refused(err)
	}
	defer it.Stop()
	for {
		waiting, cancel := context.WithTimeout(ctx, silence)
		msg, err := it.Next(jetstream.NextContext(waiting))
		cancel()
		switch {
		case err == nil:
			if at, err := msg.Metadata(); err == nil {
				f.next = at.Sequence.Stream + 1
			}
			f.add(msg.Data())
		case errors.Is(err, context.DeadlineExceeded):
			f.next = 0
			return fmt.Errorf("nothing has come over stream %s for %s", f.cfg.Stream, silence)
		default:
			return f.refused(err)
		}
	}
}

// refused says why nothing comes. The numbers of a stream that was made anew are others.
func (f *feed) refused(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted) {
		f.next = 0
	}
	return fmt.Errorf("consume stream %s: %w", f.cfg.Stream, err)
}

// consumer makes a consumer. NATS removes it soon after nobody takes messages from it.
func (f *feed) consumer(ctx context.Context) (jetstream.MessagesContext, error) {
	js, err := jetstream.New(f.nc)
	if err != nil {
		return nil, err
	}
	cfg := jetstream.ConsumerConfig{
		FilterSubject: f.cfg.subject(), DeliverPolicy: jetstream.DeliverLastPolicy, AckPolicy: jetstream.AckNonePolicy,
		InactiveThreshold: time.Minute, MemoryStorage: true, Replicas: 1,
	}
	if f.next != 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, f.next
	}
	asking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, err := js.CreateConsumer(asking, f.cfg.Stream, cfg)
	if err != nil {
		return nil, err
	}
	return c.Messages(jetstream.PullMaxMessages(512))
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
