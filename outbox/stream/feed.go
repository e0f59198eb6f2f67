package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pglockstep/lockstep/internal/pause"
)

const (
	// silence is how long nothing may come before the consumer is made anew, since one of a stream that
	// was made anew may wait for numbers that are far off. It doubles, at most twice, while nothing new comes.
	// forgotten is when the server removes a consumer that nobody asks.
	silence   = 2 * time.Second
	forgotten = 10 * time.Second
	// askWithin bounds each question to JetStream.
	askWithin = 2 * time.Second
)

// feed is a connection to NATS and what has come over it. It belongs to one session at a time.
type feed struct {
	cfg    Source
	rings  chan struct{}
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	done   chan struct{}
	beside sync.WaitGroup            // of what asks the relay
	nc     atomic.Pointer[nats.Conn] // nil: it does not connect yet

	// The goroutine's own:
	last  uint64 // number, in the stream, of the last message that came; 0: none has
	next  uint64 // number of the first that is wanted; 0: the last one of the stream
	moved bool   // a message has come that had not come before, since the last pause
	quiet int    // silences one after the other
	wait  time.Duration

	mu    sync.Mutex
	queue [][]byte
	bytes int
	lost  bool  // the queue was full: what came is gone
	err   error // why nothing comes, as far as is known
}

// newFeed begins to connect, and goes on trying until it is closed. It does not wait.
func newFeed(cfg Source) *feed {
	ctx, cancel := context.WithCancel(context.Background())
	f := &feed{cfg: cfg, rings: make(chan struct{}, 1), ctx: ctx, cancel: cancel, done: make(chan struct{})}
	go f.run(ctx)
	return f
}

// close ends the connection, and waits until nothing runs any more.
func (f *feed) close() {
	f.cancel()
	<-f.done
	f.beside.Wait()
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

// connect connects, or begins to: the library goes on trying, but not before it has tried all servers once. What cannot be sent
// now is not sent later: a question would be answered to nobody.
func (f *feed) connect(ctx context.Context) error {
	nc, err := nats.Connect(f.cfg.URL, slices.Concat(connection("lockstep node", f.cfg.Logger), []nats.Option{nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1)},
		f.cfg.Options, []nats.Option{ending(ctx)})...)
	if err != nil {
		return fmt.Errorf("stream: connect to NATS: %w", err)
	}
	f.nc.Store(nc)
	return nil
}

func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	for ctx.Err() == nil {
		err := f.consume(ctx)
		f.fails(err)
		pause.For(ctx, f.pause(err))
	}
	if nc := f.nc.Load(); nc != nil {
		closeNATS(nc)
	}
}

// The pause before messages are asked for again, which doubles while that is refused.
const (
	soon   = 100 * time.Millisecond
	seldom = 5 * time.Second
)

// pause draws how long to wait before messages are asked for again.
func (f *feed) pause(err error) time.Duration {
	f.wait = min(max(2*f.wait, soon), seldom)
	if f.moved || errors.Is(err, errNotConnected) || errors.Is(err, errSilent) { // the library sees to the connection, at its own pace
		f.wait = soon
	}
	f.moved = false
	return f.wait/2 + rand.N(f.wait/2)
}

// came notes that a message of that number in the stream has come. The last one of a stream comes again whenever it is asked for.
func (f *feed) came(number uint64) {
	if number != f.last {
		f.moved, f.quiet = true, 0
	}
	f.last, f.next = number, number+1
}

// patience is how long the consumer is kept without a message.
func (f *feed) patience() time.Duration { return silence << min(f.quiet, 2) }

var errSilent = errors.New("nothing comes")

var errNotConnected = errors.New("NATS is away")

// consume takes messages until that fails. It begins after the last one that came, or where
// none came for long, with the last one of the stream. The consumer is a plain one: an ordered one of the library's
// makes itself anew for as long as the stream is not there, whatever its caller's context says.
func (f *feed) consume(ctx context.Context) error {
	if f.nc.Load() == nil {
		if err := f.connect(ctx); err != nil {
			return err
		}
	}
	if nc := f.nc.Load(); !nc.IsConnected() {
		if err := nc.LastError(); err != nil {
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
		waiting, cancel := context.WithTimeout(ctx, f.patience())
		msg, err := it.Next(jetstream.NextContext(waiting))
		cancel()
		switch {
		case err == nil:
			if at, err := msg.Metadata(); err == nil {
				f.came(at.Sequence.Stream)
			}
			f.add(msg.Data())
		case errors.Is(err, context.DeadlineExceeded):
			err = fmt.Errorf("%w over stream %s for %s", errSilent, f.cfg.Stream, f.patience())
			f.next, f.quiet = 0, f.quiet+1
			return err
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
	js, err := jetstream.New(f.nc.Load())
	if err != nil {
		return nil, err
	}
	cfg := jetstream.ConsumerConfig{
		FilterSubject: f.cfg.subject(), DeliverPolicy: jetstream.DeliverLastPolicy, AckPolicy: jetstream.AckNonePolicy,
		InactiveThreshold: forgotten, MemoryStorage: true, Replicas: 1,
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
	f.err = nil
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
