package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// Source follows a stream that a Relay fills, and asks Postgres for what the stream
// cannot answer: the value of lockstep.Config.Source. The zero value of every field but
// URL means its default.
type Source struct {
	// URL names the NATS servers, as nats.Connect takes it.
	URL string
	// Options are for nats.Connect: TLS, credentials, user. Default: none.
	Options []nats.Option
	// Stream is the name of the stream. Default "lockstep".
	Stream string
	// Away is for how long nothing may come before the node follows Postgres
	// directly; at its start it does so at once. Up to a quarter more is drawn, lest all nodes
	// turn to Postgres at one instant. Default 5 s.
	Away time.Duration
	// Return is how often a node that follows Postgres directly tries the stream
	// again. Default 2 s.
	Return time.Duration
	// Idle is how long a connection to Postgres that is not used stays open. Default 15 s.
	Idle time.Duration
	// MaxCut is the largest batch, in bytes, that is put together; larger ones are
	// read from Postgres. Default 64 MiB.
	MaxCut int
	// Counters, where set, are counted up. Default: nobody counts.
	Counters *Counters
	// Logger hears of switches between the stream and Postgres. Default: that of the node.
	Logger *slog.Logger
}

// Counters tell what a node has done with what came over the stream.
type Counters struct {
	Batches atomic.Uint64 // taken
	Passed  atomic.Uint64 // batches passed by: what they bring was here
	Gaps    atomic.Uint64 // batches that began after what was here, and messages lost on the way
	Forged  atomic.Uint64 // messages whose MAC was wrong, or that were none
	Foreign atomic.Uint64 // messages of runs that are not followed
	Asked   atomic.Uint64 // fetches from Postgres
	Clocks  atomic.Uint64 // of those, because clocks were to be compared and the relay did not help, or one was set
	Told    atomic.Uint64 // comparisons of clocks by way of the relay: more where answers are slow
	Away    atomic.Uint64 // switches from the stream to Postgres
}

var _ replay.Feed = Source{}

func (s Source) withDefaults(log *slog.Logger) Source {
	s.Stream = cmp.Or(s.Stream, defaultStream)
	s.Away = cmp.Or(s.Away, 5*time.Second)
	s.Return = cmp.Or(s.Return, 2*time.Second)
	s.Idle = cmp.Or(s.Idle, 15*time.Second)
	s.MaxCut = cmp.Or(s.MaxCut, defaultMaxCut)
	if s.Counters == nil {
		s.Counters = new(Counters)
	}
	if s.Logger == nil {
		s.Logger = log
	}
	return s
}

const (
	defaultStream = "lockstep"
	defaultMaxCut = 64 << 20
)

// patience draws how long a session bears that nothing comes.
func (s Source) patience() time.Duration { return s.Away + rand.N(s.Away/4+1) }

func (s Source) subject() string { return subject(s.Stream) }

// subject is that of the messages of a stream.
func subject(stream string) string { return stream + ".cuts" }

// Over implements replay.Feed.
func (s Source) Over(direct *outbox.Source, log *slog.Logger) (replay.Source, error) {
	if s.URL == "" {
		return nil, errors.New("stream: Source.URL is empty")
	}
	if s.Away < 0 || s.Return < 0 || s.Idle < 0 || s.MaxCut < 0 {
		return nil, errors.New("stream: Source: Away, Return, Idle and MaxCut must not be negative")
	}
	return &source{Source: s.withDefaults(log), direct: direct}, nil
}

// source opens sessions on the stream, and on Postgres while the stream is away.
type source struct {
	Source
	direct *outbox.Source
	line   atomic.Pointer[line] // of the session on the stream; nil: there is none
	away   string               // why the next session follows Postgres; "": it tries the stream
	handed *handed              // what the next session goes on with; nil: nothing
}

// handed is what a session leaves to the next: a connection to Postgres that has seen the run, and
// what comes over NATS.
type handed struct {
	direct *outbox.Session
	feed   *feed
	run    outbox.Run
}

// Close implements io.Closer: there is no next session.
func (s *source) Close() error {
	if h := s.handed; h != nil {
		s.handed = nil
		h.feed.close()
		h.direct.Close()
	}
	return nil
}

// firstWait is how long a new session waits for a message of a run that is there. The
// last one of the stream comes at once, and a relay publishes every beat.
const firstWait = time.Second

// Open implements replay.Source.
func (s *source) Open(ctx context.Context) (replay.Session, error) {
	if h := s.handed; h != nil {
		s.handed = nil
		h.feed.ring()
		s.Logger.Info("following the stream", "stream", s.Stream)
		return newSession(s, h.direct, h.feed, h.run), nil
	}
	if s.away == "" {
		session, err := s.onStream(ctx)
		switch {
		case err == nil:
			s.Logger.Info("following the stream", "stream", s.Stream)
			return session, nil
		case !errors.Is(err, errAway):
			return nil, err
		}
		s.away = err.Error()
		s.Counters.Away.Add(1)
	}
	s.Logger.Warn("following Postgres directly", "reason", s.away)
	return s.onPostgres(ctx)
}

// errAway means that there is no stream to follow, and why.
var errAway = errors.New("the stream is away")

func away(err error) error { return fmt.Errorf("%w: %w", errAway, err) }

// onStream opens a session on the stream, if there is a run on it that is there.
func (s *source) onStream(ctx context.Context) (*session, error) {
	f := newFeed(s.Source)
	direct, err := s.direct.OpenSilent(ctx)
	if err != nil {
		f.close()
		return nil, err
	}
	p := finder{counters: s.Counters}
	timer := time.NewTimer(firstWait)
	defer timer.Stop()
	for {
		select {
		case <-f.rings:
			messages, _ := f.take()
			run, err := p.find(ctx, direct, messages)
			if err == nil && run != nil {
				f.ring() // for whatever comes after the fetch that is the first
				return newSession(s, direct, f, *run), nil
			}
			if err != nil {
				f.close()
				direct.Close()
				return nil, err
			}
			continue
		case <-timer.C:
			err = p.why(f)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		f.close()
		direct.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("stream: open: %w", err)
		}
		return nil, away(err)
	}
}

// onPostgres opens a session that follows Postgres and looks out for the stream.
func (s *source) onPostgres(ctx context.Context) (replay.Session, error) {
	direct, err := s.direct.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &detour{Session: direct, src: s, feed: newFeed(s.Source), why: s.away, tried: time.Now(), p: finder{counters: s.Counters}}, nil
}

// finder asks which run is there, and finds its messages.
type finder struct {
	counters *Counters
	run      *outbox.Run // nil: none was there when Postgres was last asked
	asked    time.Time
	err      error // why none was
}

// runs is where the run is asked for: a session on Postgres.
type runs interface {
	Running(ctx context.Context) (outbox.Run, error)
}

// find returns the run that is there if one of the messages is of it. What else the messages name is never asked
// for, so whoever can only publish keeps nobody from finding it.
func (f *finder) find(ctx context.Context, direct runs, messages [][]byte) (*outbox.Run, error) {
	if err := f.ask(ctx, direct); err != nil {
		return nil, err
	}
	for _, message := range slices.Backward(messages) {
		m, err := open(message)
		if err == nil && (f.run == nil || m.run != f.run.ID) {
			f.counters.Foreign.Add(1)
			continue
		}
		if err == nil {
			err = m.verify(f.run.Key)
		}
		if err == nil {
			return f.run, nil
		}
		f.counters.Forged.Add(1)
	}
	return nil, nil
}

// askEvery is how often Postgres is asked for the run that is there while messages come: a forger must not make
// nodes ask.
const askEvery = 125 * time.Millisecond

func (f *finder) ask(ctx context.Context, direct runs) error {
	if time.Since(f.asked) < askEvery {
		return nil
	}
	f.asked = time.Now()
	run, err := direct.Running(ctx)
	switch {
	case errors.Is(err, outbox.ErrRun):
		f.run, f.err = nil, err
	case err != nil:
		return err
	default:
		f.run, f.err = &run, nil
	}
	return nil
}

func (f *finder) why(from *feed) error {
	if f.err != nil {
		return f.err
	}
	return errors.New(from.why())
}
