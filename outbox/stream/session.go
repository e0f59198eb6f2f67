package stream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/outbox"
)

// session follows one run of a relay: what one connection, in one life of the
// server, has read. All but the feed belongs to the engine's goroutine.
//
// Invariants:
//
//  1. covered is a snapshot of the life of the server in which the run's connection was
//     made, and whoever drives the session has been given every event up to it. Snapshots of
//     one life are totally ordered, so a batch that begins within covered and ends
//     beyond it brings all that is missing until its end. Anything else is passed by,
//     or is a gap, which a fetch from Postgres covers.
//  2. Postgres is asked only on a connection that has seen the lock of the run: it is in that life.
//  3. A header's Began is no later than its snapshot.
type session struct {
	src      *source
	feed     *feed
	line     *line // to the relay, whose run is followed
	identity string

	direct *outbox.Session // decodes, also when its connection is closed
	open   bool
	used   time.Time // when the connection last was

	join     joiner
	covered  outbox.Position // zero: nothing was fetched yet
	ahead    outbox.Position // where pending leads: covered, if there is none
	pending  []outbox.Event
	bytes    int
	header   outbox.Header // of the snapshot that ahead is
	gap      bool          // something is missing between ahead and what has come
	untimed  bool          // the clocks are to be compared
	asksLine bool          // the relay is asked what the server's clock says
	highest  uint64        // transaction of which an event was given with the last answer
	newest   uint64        // number of a batch that has come
	heard    time.Time     // when our run was last heard: a batch that is new, or a part that brings one on
	patience time.Duration // how long after that the session ends
	clock    clock
	prints   map[uint32]string
	printed  time.Time // when prints last came
	drawing  time.Time // since when a transaction id is asked for in vain
	others   uint64    // messages of other runs that came since ours was heard
	foreign  bool      // such messages have come since it was last asked which run is there
	changeAt time.Time // when the run that is there is asked for; zero: not drawn
	changed  time.Time // when it was last asked for
	anyway   time.Time // when it is asked for, also while ours is heard
	left     bool      // feed and direct are the next session's
}

func newSession(src *source, direct *outbox.Session, f *feed, run outbox.Run) *session {
	now := time.Now()
	s := &session{
		src: src, feed: f, line: newLine(f, run), identity: direct.Identity(), direct: direct, open: true, used: now, heard: now, anyway: anyway(now),
		patience: src.patience(), join: joiner{max: src.MaxCut},
	}
	src.line.Store(s.line)
	return s
}

// Rings implements replay.Session.
func (s *session) Rings() <-chan struct{} { return s.feed.rings }

// Lost implements replay.Session. What ends a session is found out by Fetch.
func (s *session) Lost() <-chan struct{} { return nil }

// Bell implements replay.Session.
func (s *session) Bell() string { return "stream" }

// WhyBell implements replay.Session.
func (s *session) WhyBell() string { return "" }

// Identity implements replay.Session.
func (s *session) Identity() string { return s.identity }

// Missing implements replay.Session.
func (s *session) Missing(ctx context.Context, anchors []outbox.Anchor) ([]outbox.Anchor, error) {
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s.direct.Missing(ctx, anchors)
}

// Beat implements replay.Session.
func (s *session) Beat(ctx context.Context) (time.Time, error) {
	if err := s.connect(ctx); err != nil {
		return time.Time{}, err
	}
	return s.direct.Beat(ctx)
}

// Still implements replay.Session: a fetch asks nobody either.
func (s *session) Still(context.Context, int64) (bool, error) { return false, nil }

// Close implements replay.Session.
func (s *session) Close() {
	s.src.line.CompareAndSwap(s.line, nil)
	if !s.left {
		s.feed.close()
	}
	s.disconnect()
}

func (s *session) disconnect() {
	if s.open {
		s.direct.Close()
		s.open = false
	}
}

// connect makes the connection to Postgres anew if it was closed.
func (s *session) connect(ctx context.Context) error {
	s.used = time.Now()
	if s.open {
		return nil
	}
	direct, err := s.src.direct.OpenSilent(ctx)
	if err != nil {
		return err
	}
	return s.take(ctx, direct)
}

// take makes a connection the session's (invariant 2), or closes it.
func (s *session) take(ctx context.Context, direct *outbox.Session) error {
	run, err := direct.Running(ctx)
	if err == nil && !s.is(run, direct) {
		err = outbox.ErrRun
	}
	if err != nil {
		direct.Close()
		if errors.Is(err, outbox.ErrRun) {
			return fmt.Errorf("stream: %w: the run of the relay is over: %w", outbox.ErrMoved, err)
		}
		return err
	}
	s.direct, s.open = direct, true
	return nil
}

// is reports whether a run that was found on a connection is the session's.
func (s *session) is(run outbox.Run, on *outbox.Session) bool {
	return run.ID == s.line.run.ID && bytes.Equal(run.Key, s.line.run.Key) && on.Identity() == s.identity
}

// Fetch implements replay.Session: from memory where what came over the stream
// answers the request, else from Postgres.
func (s *session) Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	now := time.Now()
	if req.Snapshot == "" { // what comes may be newer than a snapshot that was taken before
		if err := s.receive(ctx, now); err != nil {
			return err
		}
	}
	if s.mustAsk(&req, now) {
		return s.ask(ctx, req, sink)
	}
	if s.open && now.Sub(s.used) > s.src.Idle {
		s.disconnect()
	}
	return s.hand(&req, sink)
}

// mustAsk says whether only Postgres can answer.
func (s *session) mustAsk(req *outbox.Request, now time.Time) bool {
	if !req.WantXid && !req.DrawXid { // what was wanted has come another way: the next wish begins its own wait
		s.drawing = time.Time{}
	}
	switch {
	case s.covered.IsZero(), s.clock.t0.IsZero(), s.gap, req.Now, req.From.IsZero(), req.Snapshot != "", len(req.Reload)+len(req.Reread) > 0:
		return true
	case s.highest != 0 && !req.From.Covers(s.highest): // the last answer was not taken
		return true
	case req.Catalogue && !s.knowsCatalogue(now):
		return true
	}
	if !req.DrawXid || s.header.Drawn != 0 {
		return false
	}
	if s.drawing.IsZero() {
		s.drawing = now
	}
	return now.Sub(s.drawing) > drawWithin
}

const (
	// drawWithin is how long a transaction id that is asked for may take to come
	// over the stream. A relay draws one only where it sees a gap of its own.
	drawWithin = time.Second
	// printsLast is how long fingerprints are relied upon.
	printsLast = 15 * time.Second
)

func (s *session) knowsCatalogue(now time.Time) bool {
	if s.prints == nil || now.Sub(s.printed) > printsLast {
		return false
	}
	return !slices.ContainsFunc(s.direct.Relations(), func(oid uint32) bool {
		_, known := s.prints[oid]
		return !known
	})
}

// hand answers from memory. Where nothing has come that is the last header again.
func (s *session) hand(req *outbox.Request, sink outbox.Sink) error {
	h := s.header
	h.Relayed = true
	if req.Catalogue {
		for _, oid := range s.direct.Relations() {
			h.Fingerprints = append(h.Fingerprints, s.prints[oid])
		}
	}
	events := s.pending
	slices.SortFunc(events, func(a, b outbox.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	s.highest = 0
	for i := range events {
		if !req.From.Covers(events[i].Xid) {
			s.highest = max(s.highest, events[i].Xid)
		}
	}
	s.covered, s.pending, s.bytes = s.ahead, nil, 0
	if h.Drawn != 0 {
		s.header.Drawn, s.drawing = 0, time.Time{}
	}
	return s.direct.Hand(&h, events, sink)
}

// ask fetches from Postgres.
func (s *session) ask(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	s.src.Counters.Asked.Add(1)
	if s.untimed {
		s.untimed = false
		s.src.Counters.Clocks.Add(1)
	}
	req.DrawXid = req.DrawXid || !s.drawing.IsZero()
	w := &watch{Sink: sink, s: s, loads: len(req.Reload)+len(req.Reread) > 0 || req.From.IsZero(), shared: req.Snapshot != "", from: req.From}
	err := s.direct.Fetch(ctx, req, w)
	s.used = time.Now()
	if err != nil {
		return err
	}
	s.settle(w)
	return nil
}

// settle makes what was fetched from Postgres the state of the session.
func (s *session) settle(w *watch) {
	h := w.header
	h.Newest, h.HighestXid, h.Older, h.Fingerprints, h.Drawn = nil, 0, false, nil, 0
	h.LastSeq = max(h.LastSeq, s.header.LastSeq)
	if w.shared {
		h.Began, h.Clock = s.header.Began, s.header.Clock
	}
	s.header, s.covered, s.ahead, s.pending, s.bytes, s.gap, s.highest = h, h.Snapshot, h.Snapshot, nil, 0, false, w.highest
	if w.header.Drawn != 0 {
		s.drawing = time.Time{}
	}
	if !w.loads && !w.shared { // locks may have been waited for
		s.clock.measured(h.Began, h.Clock, w.headed, w.headed.Sub(h.Began))
	}
	if w.header.Fingerprints != nil {
		if s.prints == nil {
			s.prints = make(map[uint32]string)
		}
		for i, oid := range s.direct.Relations() {
			s.prints[oid] = w.header.Fingerprints[i]
		}
		delete(s.prints, 0)
		s.printed = w.headed
	}
}

// watch is the sink of a fetch from Postgres; it keeps what the session must know of it.
type watch struct {
	outbox.Sink
	s       *session
	loads   bool
	shared  bool // the snapshot was taken before the fetch
	from    outbox.Position
	header  outbox.Header
	headed  time.Time
	highest uint64
}

// Begin implements outbox.Sink.
func (w *watch) Begin(h *outbox.Header) error {
	w.headed, w.header = time.Now(), *h
	w.header.Fingerprints = slices.Clone(h.Fingerprints)
	if !h.Snapshot.Includes(w.s.ahead) {
		return fmt.Errorf("stream: %w: snapshot %v of the server does not include %v of the stream", outbox.ErrMoved, h.Snapshot, w.s.ahead)
	}
	return w.Sink.Begin(h)
}

// Event implements outbox.Sink.
func (w *watch) Event(table int, ev *outbox.Event, row pgx.CollectableRow) error {
	if !w.from.IsZero() && !w.from.Covers(ev.Xid) {
		w.highest = max(w.highest, ev.Xid)
	}
	return w.Sink.Event(table, ev, row)
}
