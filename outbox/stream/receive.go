package stream

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// receive takes what has come over the stream. An error ends the session.
func (s *session) receive(ctx context.Context, now time.Time) error {
	if s.covered.IsZero() {
		return nil // what has come may be needed after the first fetch
	}
	s.compare(now)
	messages, lost := s.feed.take()
	if lost {
		s.missed()
	}
	for _, m := range messages {
		s.message(m, now)
	}
	if s.changes(now) {
		if err := s.change(ctx); err != nil {
			return err
		}
	}
	if silent := now.Sub(s.heard); silent > s.patience {
		s.src.away = fmt.Sprintf("no batch for %s: %s", silent.Round(100*time.Millisecond), s.feed.why())
		s.src.Counters.Away.Add(1)
		return fmt.Errorf("stream: %w: %s", outbox.ErrMoved, s.src.away)
	}
	return nil
}

const (
	// quiet is for how long nothing may be heard of a run, while messages of others come, before the one
	// that is there is asked for: about two beats of a relay.
	quiet = 500 * time.Millisecond
	// changeWithin is the time within which a node asks, when it is drawn: all see the other run at one instant.
	changeWithin = time.Second
	// changeEvery is how often: a forger must not make nodes ask.
	changeEvery = time.Second
	// changeSeldom, and up to twice as long, is how often it is asked for while ours is heard and messages of
	// others come as well: a relay may go on, on a server that is not the primary any more, and be heard for ever.
	changeSeldom = 15 * time.Second
)

// anyway draws when to ask, if ours is heard until then.
func anyway(now time.Time) time.Time { return now.Add(changeSeldom + rand.N(changeSeldom)) }

// changes reports whether it is time to ask whether another run is there, of which messages have come. While
// ours is heard it is seldom worth it: anybody who may publish can make messages of a run.
func (s *session) changes(now time.Time) bool {
	switch {
	case s.foreign && now.After(s.anyway):
		return true
	case s.others == 0 || now.Sub(s.heard) < quiet:
		return false
	case s.changeAt.IsZero():
		s.changeAt = now.Add(rand.N(changeWithin))
	}
	return !now.Before(s.changeAt) && now.Sub(s.changed) >= changeEvery
}

// heardOurs notes that our run is there: messages of others that came before are not of its successor.
func (s *session) heardOurs(now time.Time) {
	s.heard = now
	if s.others > 0 {
		s.passOver()
	}
}

// passOver gives the messages of other runs up.
func (s *session) passOver() {
	was := s.src.Counters.Foreign.Add(s.others) - s.others
	if n := was + s.others; bits.Len64(was) != bits.Len64(n) { // at the 1st, 2nd, 4th ...
		s.src.Logger.Warn("messages of another run were dropped: does another schema or database publish there?",
			"subject", s.src.subject(), "dropped", n)
	}
	s.others, s.changeAt = 0, time.Time{}
}

// change ends the session if another run is there, now that messages of one have come.
// Its lock is on one server with ours or ours is over: either way its batches are not to
// be put together with ours, and the next session begins with the anchors. It goes on with the
// connections that there are.
func (s *session) change(ctx context.Context) error {
	now := time.Now()
	s.changed, s.used, s.anyway, s.foreign = now, now, anyway(now), false
	direct := s.direct
	if !s.open {
		var err error
		if direct, err = s.src.direct.OpenSilent(ctx); err != nil {
			return err
		}
	}
	run, err := direct.Running(ctx)
	switch {
	case err == nil && !s.is(run, direct):
		s.src.handed, s.open, s.left = &handed{direct, s.feed, run}, false, true
		return fmt.Errorf("stream: %w: another relay leads", outbox.ErrMoved)
	case err == nil:
		s.direct, s.open = direct, true
		s.passOver()
		return nil
	}
	if !s.open {
		direct.Close()
	}
	if errors.Is(err, outbox.ErrRun) { // none is there: ours may be followed by another, which is waited for
		s.passOver()
		return nil
	}
	return err
}

// compare has the clocks compared by way of the relay, in time: Postgres is asked where that fails.
func (s *session) compare(now time.Time) {
	select {
	case a := <-s.line.answered:
		s.asksLine = false
		if a == nil {
			s.clock.refused(now)
			break
		}
		s.src.Counters.Told.Add(1)
		s.clock.told(a)
	default:
	}
	if !s.asksLine && s.clock.due(now) {
		s.asksLine = true
		s.line.askBeside()
	}
}

// message takes one message.
func (s *session) message(m []byte, now time.Time) {
	p, err := open(m)
	switch {
	case err != nil:
		s.forged(err)
		return
	case p.run != s.line.run.ID:
		s.others++
		s.foreign = true
		return
	}
	if err := p.verify(s.line.run.Key); err != nil {
		s.forged(err)
		return
	}
	if p.number > s.newest && s.join.wants(p) { // a batch is on its way
		s.heardOurs(now)
	}
	data, lost := s.join.add(p)
	if lost {
		s.src.Counters.Gaps.Add(1) // the batches after it begin too late
	}
	if data == nil {
		return
	}
	b, err := parseBatch(data)
	if err == nil && b.identity != s.identity {
		err = fmt.Errorf("it is of %s, this is %s", b.identity, s.identity)
	}
	if err != nil {
		s.src.Logger.Warn("a batch cannot be read, asking Postgres", "error", err)
		s.missed()
		return
	}
	b.number = p.number
	s.place(b, len(data), now)
}

func (s *session) forged(err error) {
	if n := s.src.Counters.Forged.Add(1); n&(n-1) == 0 { // the 1st, 2nd, 4th ...
		s.src.Logger.Warn("a message was dropped", "subject", s.src.subject(), "error", err, "dropped", n)
	}
}

// missed notes that something is missing, and lets go of what came after ahead.
func (s *session) missed() {
	s.gap = true
	s.src.Counters.Gaps.Add(1)
}

// place puts a batch where it belongs (invariant 1).
func (s *session) place(b *batch, size int, now time.Time) {
	began, ok := s.clock.ours(b, now)
	if b.number > s.newest { // one that comes again is no sign of a relay
		s.newest = b.number
		s.line.hear(b.uptime)
		if !ok || now.Sub(began) < s.src.Away { // nor is one that hangs
			s.heardOurs(now)
		}
	}
	switch {
	case !b.to.Includes(s.ahead):
		s.src.Counters.Passed.Add(1)
		return
	case s.gap: // what comes next is a part of what Postgres is asked for
		return
	case !ok: // a clock was set, or it is time to compare them again
		s.gap, s.untimed = true, true
		return
	case b.minNode > outbox.NodeVersion: // Postgres says what is to be done
		s.gap = true
		return
	case s.ahead.Includes(b.to): // the same
	case !s.ahead.Includes(b.from), s.bytes+size > s.src.MaxCut:
		s.missed()
		return
	default:
		for _, ev := range b.events {
			if !s.ahead.Covers(ev.Xid) {
				s.pending = append(s.pending, ev)
			}
		}
		s.bytes += size
		s.ahead = b.to
	}
	s.src.Counters.Batches.Add(1)
	s.head(b, began, now)
}

// head takes the header of a batch whose snapshot is ahead.
func (s *session) head(b *batch, began, now time.Time) {
	h := &s.header
	h.Snapshot, h.History, h.Horizon = b.to, b.history, b.horizon
	if began.After(h.Began) {
		h.Began, h.Clock = began, b.clock
	}
	// A number that is known and not of this batch was not handed out when the id was drawn, as far as
	// anybody knows: such an id is no evidence.
	if b.lastSeq >= h.LastSeq {
		h.LastSeq = b.lastSeq
		if b.drawn != 0 {
			h.Drawn = b.drawn
		}
	}
	if b.prints != nil {
		s.prints, s.printed = b.prints, now
	}
}
