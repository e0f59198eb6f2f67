//go:build unix

package robust

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pglockstep/lockstep/internal/natsserver"
	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox/stream"
	"github.com/pglockstep/lockstep/outbox/wal"
)

// The stream that relays fill, and one to which its messages are passed on, at times not
// as they came.
const (
	straight = "lockstep"
	crooked  = "crooked"
)

// source is what a node on a stream follows. It gives up and comes back sooner than by default, so that
// both happen in a run, and a node of the crooked stream holds less than a large transaction.
func source(cfg nodeConfig, log *slog.Logger) stream.Source {
	s := stream.Source{
		URL: cfg.NATS, Stream: cfg.Stream, Logger: log,
		Away: 1500 * time.Millisecond, Return: 300 * time.Millisecond, Idle: time.Second,
	}
	if cfg.Stream == crooked {
		s.MaxCut = 1 << 20
	}
	return s
}

// relayConfig is what a relay's process is told.
type relayConfig struct {
	DSN  string
	NATS string // its address
}

// runRelay is a relay's life: it says "began", and runs until its input ends.
func runRelay(cfg relayConfig) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pool, err := pgxpool.New(ctx, cfg.DSN)
	if err != nil {
		return err
	}
	defer pool.Close()
	relay, err := stream.NewRelay(stream.RelayConfig{Pool: pool, URL: cfg.NATS, WAL: wal.Bell{}, Logger: logger()})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// A first failure to reach anybody is returned: whoever starts relays starts them again.
		for relay.Run(ctx) != nil && pause.For(ctx, 100*time.Millisecond) {
			continue
		}
	}()
	fmt.Println("began")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		continue
	}
	cancel()
	<-ended
	return nil
}

// natsConfig is what the process of the NATS server is told.
type natsConfig struct {
	Dir  string // of its streams
	Port int
	Seed uint64
}

// runNATS is the life of a NATS server: it says "began", passes messages on to the crooked stream as it is told, and ends
// when its input does.
func runNATS(cfg natsConfig) error {
	s, err := natsserver.Start(natsserver.Config{Dir: cfg.Dir, Port: cfg.Port})
	if err != nil {
		return err
	}
	defer s.Stop()
	nc, err := nats.Connect(s.URL(), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	making, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = js.CreateOrUpdateStream(making, jetstream.StreamConfig{Name: crooked, Subjects: []string{crooked + ".cuts"}, MaxBytes: 1 << 28})
	if err != nil {
		return err
	}
	h := &hand{rng: rand.New(rand.NewPCG(cfg.Seed, 4)), send: func(m []byte) { _ = nc.Publish(crooked+".cuts", m) }} // what is lost is lost
	if _, err := nc.Subscribe(straight+".cuts", func(m *nats.Msg) { h.take(m.Data) }); err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	fmt.Println("began")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		h.be(in.Text() == crooked)
	}
	return nil
}

// hand passes messages on, straight or crooked.
type hand struct {
	mu      sync.Mutex
	rng     *rand.Rand
	send    func([]byte)
	crooked bool
	held    [][]byte // come after later ones
	old     [][]byte // were passed on before
}

func (h *hand) be(crooked bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.crooked = crooked
}

// take passes a message on: as it came, or doubled, after later ones, with an old one, with one that was
// changed, or not at all.
func (h *hand) take(m []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.old) < 50 {
		h.old = append(h.old, m)
	} else {
		h.old[h.rng.IntN(len(h.old))] = m
	}
	do := 0
	if h.crooked {
		do = h.rng.IntN(8)
	}
	switch do {
	case 1:
		return
	case 2:
		h.held = append(h.held, m)
	case 3:
		h.send(m)
		h.send(m)
	case 4:
		h.send(h.old[h.rng.IntN(len(h.old))])
		h.send(m)
	case 5:
		bad := slices.Clone(m)
		bad[h.rng.IntN(len(bad))] ^= 1 << h.rng.IntN(8)
		h.send(bad)
		h.send(m)
	default:
		h.send(m)
	}
	if len(h.held) > 3 || !h.crooked {
		for _, i := range h.rng.Perm(len(h.held)) {
			h.send(h.held[i])
		}
		h.held = nil
	}
}
