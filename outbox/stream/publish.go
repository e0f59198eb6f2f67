package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pglockstep/lockstep/outbox"
)

// publisher is a relay's connection to NATS.
type publisher struct {
	cfg   RelayConfig
	nc    *nats.Conn
	js    jetstream.JetStream
	stats *RelayCounters
}

// newPublisher connects, and sees to the stream.
func newPublisher(ctx context.Context, cfg RelayConfig, stats *RelayCounters) (*publisher, error) {
	nc, err := nats.Connect(cfg.URL, slices.Concat(connection("lockstep relay", cfg.Logger), []nats.Option{
		nats.ReconnectBufSize(-1), // what cannot be sent now is fetched again
	}, cfg.Options)...)
	if err != nil {
		return nil, fmt.Errorf("stream: connect to NATS: %w", err)
	}
	p := &publisher{cfg: cfg, nc: nc, stats: stats}
	if p.js, err = jetstream.New(nc); err == nil {
		err = p.ensure(ctx)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *publisher) close() { closeNATS(p.nc) }

// ensure makes the stream, or brings it to the configuration. Where the relay may not do that
// it takes the stream that is there.
func (p *publisher) ensure(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	_, err := p.js.CreateOrUpdateStream(asking, jetstream.StreamConfig{
		Name: p.cfg.Stream, Description: "the log of Postgres tables (lockstep)", Subjects: []string{subject(p.cfg.Stream)},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: p.cfg.Retention, MaxBytes: p.cfg.MaxBytes, Replicas: p.cfg.Replicas,
		Duplicates: min(2*time.Minute, p.cfg.Retention),
	})
	if err == nil {
		return nil
	}
	looking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if _, there := p.js.Stream(looking, p.cfg.Stream); there == nil {
		p.cfg.Logger.Info("the stream is used as it is", "stream", p.cfg.Stream, "reason", err)
		return nil
	}
	return fmt.Errorf("stream: make stream %s: %w", p.cfg.Stream, err)
}

// sendWithin bounds how long a batch of many messages may take.
const sendWithin = 10 * time.Second

// publish sends a batch in as many messages as the server's limit makes it, and waits until
// the stream has them: sent counts those that it has. A message id makes sure that one that was sent again is kept once.
func (p *publisher) publish(ctx context.Context, run outbox.Run, number uint64, batch []byte) (sent int, err error) {
	const headers = 256 // of NATS' own, and the message id
	messages, err := split(run.Key, run.ID, number, batch, int(p.nc.MaxPayload())-headers)
	if err != nil {
		return 0, err
	}
	sending, cancel := context.WithTimeout(ctx, min(askWithin+time.Duration(len(messages))*100*time.Millisecond, sendWithin))
	defer cancel()
	id := strconv.FormatUint(uint64(run.ID), 16) + "-" + strconv.FormatUint(number, 10)
	for i, m := range messages {
		_, err = p.js.Publish(sending, subject(p.cfg.Stream), m, jetstream.WithMsgID(id+"-"+strconv.Itoa(i)))
		if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) { // its disk was lost
			if err = p.ensure(sending); err == nil {
				_, err = p.js.Publish(sending, subject(p.cfg.Stream), m, jetstream.WithMsgID(id+"-"+strconv.Itoa(i)))
			}
		}
		if err != nil {
			return i, fmt.Errorf("stream: publish: message %d of %d: %w", i+1, len(messages), err)
		}
		p.stats.Messages.Add(1)
		p.stats.Bytes.Add(uint64(len(m)))
	}
	return len(messages), nil
}
