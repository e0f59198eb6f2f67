package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
)

// RelayConfig is what a relay follows, and where it publishes. The zero value of every
// field but Pool and URL means its default.
type RelayConfig struct {
	// Pool gives the way to connect to Postgres. A relay has a connection of its own, and
	// one for its bell. A pooler in transaction mode is refused.
	Pool *pgxpool.Pool
	// Schema holds the outbox. Default "lockstep".
	Schema string
	// Bell is the doorbell, and WAL the one that reads the log. Default: as for a node.
	Bell outbox.Bell
	WAL  outbox.Doorbell
	// URL names the NATS servers, as nats.Connect takes it.
	URL string
	// Options are for nats.Connect: TLS, credentials, user. Default: none.
	Options []nats.Option
	// Stream is the name of the stream, which is made if it is not there. Default "lockstep".
	Stream string
	// Retention is how long the stream keeps messages: what a node may be away from
	// NATS without asking Postgres, if it waits as long (Source.Away). Default 24 h.
	Retention time.Duration
	// MaxBytes is what the stream may take on NATS' disk. Default 1 GiB.
	MaxBytes int64
	// Replicas is on how many NATS servers the stream is kept. Default 1.
	Replicas int
	// Beat is the longest time between two batches. Above two seconds nodes get no answers to their questions, and
	// ask Postgres. Default 250 ms.
	Beat time.Duration
	// CatalogueEvery is the time between two looks at the catalogue. Default 3 s.
	CatalogueEvery time.Duration
	// TakeOver is how often a relay that does not lead tries to, give or take: half of it at the
	// least, drawn each time. One that leads gives the lead up after 10 times as long in
	// which nothing got through to NATS. Default 500 ms.
	TakeOver time.Duration
	// MaxCut is the largest batch, in bytes, that is published; nodes read a larger one
	// from Postgres. Default 64 MiB.
	MaxCut int
	// Logger hears of the lead, of outages and recoveries. Default slog.Default().
	Logger *slog.Logger
}

func (c RelayConfig) withDefaults() RelayConfig {
	c.Schema = cmp.Or(c.Schema, "lockstep")
	c.Stream = cmp.Or(c.Stream, defaultStream)
	c.Retention = cmp.Or(c.Retention, 24*time.Hour)
	c.MaxBytes = cmp.Or(c.MaxBytes, 1<<30)
	c.Replicas = cmp.Or(c.Replicas, 1)
	c.Beat = cmp.Or(c.Beat, 250*time.Millisecond)
	c.CatalogueEvery = cmp.Or(c.CatalogueEvery, 3*time.Second)
	c.TakeOver = cmp.Or(c.TakeOver, 500*time.Millisecond)
	c.MaxCut = cmp.Or(c.MaxCut, defaultMaxCut)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// check says what is wrong with the configuration.
func (c RelayConfig) check() error {
	var bad []error
	if c.Pool == nil {
		bad = append(bad, errors.New("stream: RelayConfig.Pool is nil"))
	}
	if c.URL == "" {
		bad = append(bad, errors.New("stream: RelayConfig.URL is empty"))
	}
	for name, v := range map[string]int64{
		"Retention": int64(c.Retention), "MaxBytes": c.MaxBytes, "Replicas": int64(c.Replicas), "Beat": int64(c.Beat),
		"CatalogueEvery": int64(c.CatalogueEvery), "TakeOver": int64(c.TakeOver), "MaxCut": int64(c.MaxCut),
	} {
		if v < 0 {
			bad = append(bad, fmt.Errorf("stream: RelayConfig.%s is %d, which is negative", name, v))
		}
	}
	return errors.Join(bad...)
}

// Relay publishes the log of one schema. Its methods may be called by any number of
// goroutines.
type Relay struct {
	cfg   RelayConfig
	src   *outbox.Source
	runs  atomic.Bool        // Run has been called and has not returned
	out   *publisher         // of Run
	hook  func(stage string) // of tests: "fetched", "published"
	stats RelayCounters
}

// RelayCounters tell what a relay has done.
type RelayCounters struct {
	Leads    atomic.Bool   // it leads now
	Runs     atomic.Uint64 // runs begun
	Batches  atomic.Uint64 // published
	Messages atomic.Uint64 // that they took
	Bytes    atomic.Uint64
	Events   atomic.Uint64
	Unsent   atomic.Uint64 // batches that could not be published
	Answered atomic.Uint64 // questions of nodes, also where the answer was that there is none
	Refused  atomic.Uint64 // messages for which there was no answer: no question, or forged, of another run, too old
	Rows     atomic.Uint64 // of nodes, written into the register
	TooLarge atomic.Uint64 // batches left to Postgres: above RelayConfig.MaxCut, or twice got through in part only
}

// NewRelay checks the configuration; it does not connect.
func NewRelay(cfg RelayConfig) (*Relay, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	src, err := outbox.NewSource(outbox.Config{Schema: cfg.Schema, Pool: cfg.Pool, Bell: cfg.Bell, WAL: cfg.WAL, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	return &Relay{cfg: cfg, src: src}, nil
}

// Counters are those of the relay, which goes on counting.
func (r *Relay) Counters() *RelayCounters { return &r.stats }

// Run publishes, or waits for the lead, until ctx ends, and then returns nil. The first failure to reach NATS
// or Postgres, or to be let lead there, is returned; later ones are met by trying again. A relay runs once at a time.
func (r *Relay) Run(ctx context.Context) error {
	if r.runs.Swap(true) {
		return errors.New("stream: the relay runs already: make another one")
	}
	defer r.runs.Store(false)
	out, err := newPublisher(ctx, r.cfg, &r.stats)
	if err != nil {
		return err
	}
	r.out = out
	defer out.close()
	wait := r.cfg.TakeOver
	for first := true; ; first = false {
		reached, err := r.session(ctx)
		r.stats.Leads.Store(false)
		switch {
		case ctx.Err() != nil:
			return nil
		case first && (!reached || errors.Is(err, outbox.ErrRun)):
			return err
		case errors.Is(err, errNoNATS) && out.nc.IsConnected(): // another server of NATS may do better by another relay
			wait = 2 * resignAfter * r.cfg.TakeOver
		case reached:
			wait = r.cfg.TakeOver
		}
		r.cfg.Logger.Warn("the relay's session has ended", "error", err)
		if !pause.For(ctx, standby(wait)) {
			return nil
		}
		wait = min(2*wait, max(r.cfg.TakeOver, 2*time.Second))
	}
}

// session is one life of the connection to Postgres: it waits for the lead, then leads. It reports whether
// there was one that can lead.
func (r *Relay) session(ctx context.Context) (reached bool, err error) {
	for !r.out.nc.IsConnected() { // who cannot publish leaves the lead to others
		if !pause.For(ctx, standby(r.cfg.TakeOver)) {
			return false, context.Cause(ctx)
		}
	}
	s, err := r.src.OpenSilent(ctx)
	if err != nil {
		return false, err
	}
	defer s.Close()
	if err := s.Watch(ctx, max(hung, 4*r.cfg.Beat, 4*r.cfg.TakeOver)); err != nil {
		return false, err
	}
	run, err := r.lead(ctx, s)
	if err != nil {
		return true, err
	}
	r.stats.Runs.Add(1)
	r.stats.Leads.Store(true)
	r.cfg.Logger.Info("the relay leads", "stream", r.cfg.Stream, "schema", r.cfg.Schema)
	if err := s.Hang(ctx); err != nil {
		return true, err
	}
	return true, newLeader(r, s, run).follow(ctx)
}

// standby draws how long a relay that does not lead waits before it tries again: many
// that were started at once must not ask at once for ever.
func standby(takeOver time.Duration) time.Duration { return takeOver/2 + rand.N(takeOver/2+1) }

// lead waits until this relay leads.
func (r *Relay) lead(ctx context.Context, s *outbox.Session) (outbox.Run, error) {
	said := false
	for {
		if !r.out.nc.IsConnected() {
			return outbox.Run{}, errNotConnected
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		run, err := s.Lead(asking)
		cancel()
		if !errors.Is(err, outbox.ErrLed) {
			return run, err
		}
		if !said {
			r.cfg.Logger.Info("another relay leads: waiting to take over", "stream", r.cfg.Stream, "holder", s.Leader(ctx))
			said = true
		}
		if !pause.For(ctx, standby(r.cfg.TakeOver)) {
			return outbox.Run{}, context.Cause(ctx)
		}
	}
}
