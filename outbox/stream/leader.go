package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
)

const (
	// fetchWithin bounds a fetch: a server that does not answer is given up.
	fetchWithin = 30 * time.Second
	// maxRate bounds the fetches in a second that rings and looks cause.
	maxRate = 250
	// resignAfter is for how many times RelayConfig.TakeOver a relay that gets nothing through to NATS keeps the lead. A server
	// that is started again takes less, and nobody has to ask Postgres after that.
	resignAfter = 10
	// hung is for how long at the least a relay that asks Postgres nothing keeps the lead: longer than a batch may
	// take to be published.
	hung = 15 * time.Second
	// partAgain is how often a batch may get through in part before it is left to Postgres.
	partAgain = 2
)

var (
	errBellLost = errors.New("stream: the bell's connection has ended")
	errNoNATS   = errors.New("stream: the lead is left to a relay that reaches NATS")
)

// leader is a relay while it leads: one run. It belongs to one goroutine.
type leader struct {
	r       *Relay
	s       *outbox.Session
	run     outbox.Run
	start   time.Time       // of the run
	from    outbox.Position // to where the stream leads; zero: it has nothing of this run
	number  uint64          // of the last batch
	account account
	tables  []uint32 // captured, by oid

	fetched   time.Time // when the last fetch began
	published time.Time
	looked    time.Time // when the catalogue was last looked at
	look      time.Duration
	pace      pause.Pace
	failed    time.Duration // the pause after a batch that could not be published
	failing   time.Time     // since when nothing got through
	desk      *desk
	inPart    int // batches that got through in part since the last that did as a whole
}

func newLeader(r *Relay, s *outbox.Session, run outbox.Run) *leader {
	now := time.Now()
	return &leader{r: r, s: s, run: run, start: now, fetched: now, look: time.Millisecond, desk: &desk{r: r, run: run, start: now}}
}

// follow fetches whenever there is a reason to, and publishes, until the session fails.
func (l *leader) follow(ctx context.Context) error {
	if err := l.desk.open(); err != nil {
		return err
	}
	defer l.desk.close()
	for {
		if err := l.step(ctx); err != nil {
			return err
		}
		if err := l.desk.enroll(ctx, l.s); err != nil {
			return err
		}
		if err := l.wait(ctx); err != nil {
			return err
		}
	}
}

// wait waits for a ring, or until it is time to look again.
func (l *leader) wait(ctx context.Context) error {
	at := l.fetched.Add(l.r.cfg.Beat)
	rings := l.s.Rings()
	switch {
	case l.failed > 0: // NATS is away: rings change nothing
		rings, at = nil, time.Now().Add(l.failed)
	case l.account.open():
		if look := time.Now().Add(l.look); look.Before(at) {
			at = look
		}
	}
	if err := l.sleep(ctx, rings, time.Until(at)); err != nil {
		return err
	}
	if d := l.pace.Take(time.Now(), maxRate); d > 0 {
		return l.sleep(ctx, nil, d)
	}
	return nil
}

func (l *leader) sleep(ctx context.Context, rings <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.s.Lost():
		return errBellLost
	case <-rings:
	case <-timer.C:
	}
	return nil
}

// step fetches and publishes once.
func (l *leader) step(ctx context.Context) error {
	now := time.Now()
	req := outbox.Request{From: l.from, DrawXid: l.account.wantsDraw(now, l.r.cfg.Beat)}
	if now.Sub(l.looked) >= l.r.cfg.CatalogueEvery {
		var err error
		if l.tables, err = l.s.Registered(ctx); err != nil {
			return err
		}
		req.Catalogue = true
	}
	if l.tables == nil {
		l.tables = []uint32{}
	}
	req.Relations = l.tables
	l.fetched = now
	c := &collector{max: l.r.cfg.MaxCut, start: l.start, account: &l.account}
	fetching, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	select { // whatever rang before the snapshot is taken is answered by it
	case <-l.s.Rings():
	default:
	}
	if err := l.s.Fetch(fetching, req, c); err != nil {
		return err
	}
	l.desk.noteClock(c)
	l.r.at("fetched")
	news := l.account.settle(&c.header)
	l.lookIn(c.events > 0 || news)
	return l.publish(ctx, c, req.Catalogue, news)
}

// lookIn sets when to look again, if nobody rings.
func (l *leader) lookIn(news bool) {
	if news {
		l.look = time.Millisecond
	} else {
		l.look = min(2*l.look, l.r.cfg.Beat)
	}
}

// publish publishes what was fetched, if it is worth a message. What is not published
// is fetched again.
func (l *leader) publish(ctx context.Context, c *collector, catalogue, news bool) error {
	first := l.from.IsZero()
	if first {
		l.from = c.header.Snapshot
	}
	now := time.Now()
	if !first && c.events == 0 && !news && !catalogue && c.header.Drawn == 0 && now.Sub(l.published) < l.r.cfg.Beat*9/10 {
		return nil
	}
	if c.over || l.inPart >= partAgain {
		l.r.stats.TooLarge.Add(1)
		l.r.cfg.Logger.Warn("a batch is too large to be published: nodes read it from Postgres", "events", c.events, "limit", l.r.cfg.MaxCut, "begun in vain", l.inPart)
		l.inPart = 0
		l.from, c.w.buf = c.header.Snapshot, nil // the gap is seen by all
	}
	b := c.batch(l.s.Identity(), l.from)
	if catalogue {
		b.prints = make(map[uint32]string, len(l.tables))
		for i, oid := range l.tables {
			b.prints[oid] = c.header.Fingerprints[i]
		}
	}
	l.number++
	sent, err := l.r.out.publish(ctx, l.run, l.number, append(b.appendHead(nil), c.w.buf...))
	if err != nil {
		return l.unsent(ctx, now, sent, err)
	}
	if l.failed > 0 {
		l.r.cfg.Logger.Info("the stream takes batches again")
	}
	l.failed, l.inPart, l.from, l.published = 0, 0, b.to, now
	if catalogue {
		l.looked = now
	}
	l.r.stats.Batches.Add(1)
	l.r.stats.Events.Add(uint64(c.events))
	l.r.at("published")
	return nil
}

// unsent keeps the relay's place: the next batch begins where this one did, which was begun at a time and of
// which some messages got through. A relay of which none does for long gives up the lead, whatever its
// connection seems to be: NATS may be there and take nothing from it.
func (l *leader) unsent(ctx context.Context, began time.Time, sent int, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.r.stats.Unsent.Add(1)
	if l.failed == 0 {
		l.failing = began
		l.r.cfg.Logger.Warn("a batch could not be published", "error", err)
	}
	switch {
	case sent > 0:
		l.failing = time.Now()
		l.inPart++
	case time.Since(l.failing) > resignAfter*l.r.cfg.TakeOver:
		return fmt.Errorf("%w: %w", errNoNATS, err)
	}
	l.failed = min(max(2*l.failed, l.r.cfg.Beat), 2*time.Second)
	return nil
}

func (r *Relay) at(stage string) {
	if r.hook != nil {
		r.hook(stage)
	}
}

// collector is the sink of a fetch: it writes the events down as they come.
type collector struct {
	max     int
	start   time.Time
	account *account
	header  outbox.Header
	clock   time.Time // with took and uptime, as in the batch
	took    time.Duration
	uptime  time.Duration
	w       eventWriter
	events  int
	over    bool // too many: they are not kept
}

// Begin implements outbox.Sink.
func (c *collector) Begin(h *outbox.Header) error {
	c.header = *h
	// The server's clock was read after the snapshot was taken, and before now.
	c.took = time.Since(h.Began)
	c.clock, c.uptime = h.Clock.Add(-c.took), h.Began.Sub(c.start)
	return nil
}

// Event implements outbox.Sink.
func (c *collector) Event(_ int, ev *outbox.Event, _ pgx.CollectableRow) error {
	c.events++
	c.account.event(ev.Seq)
	if c.over {
		return nil
	}
	c.w.add(ev)
	if len(c.w.buf) > c.max {
		c.over, c.w.buf = true, nil
	}
	return nil
}

// Problem, Load and Reread implement outbox.Sink; a relay reads no tables.
func (c *collector) Problem(table int, err error) error {
	return fmt.Errorf("table %d: %w", table, err)
}

// Load implements outbox.Sink.
func (c *collector) Load(int, pgx.CollectableRow) error { return errShape }

// Reread implements outbox.Sink.
func (c *collector) Reread(int, pgx.CollectableRow, pgx.CollectableRow) error { return errShape }

func (c *collector) batch(identity string, from outbox.Position) *batch {
	h := &c.header
	return &batch{
		identity: identity, history: h.History, from: from, to: h.Snapshot, lastSeq: h.LastSeq, horizon: h.Horizon, drawn: h.Drawn, minNode: uint64(h.MinNode),
		clock: c.clock, took: c.took, uptime: c.uptime,
	}
}

// account tells whether sequence numbers were handed out of which nobody knows what
// became: then there may be more to come, and nodes want a transaction id as evidence. It only
// decides when to look and to draw. Numbers of events that a batch
// brings again are counted again: that may cost a draw.
type account struct {
	base  int64 // what is above it, up to last, is in question
	last  int64
	above int64 // events that have come with numbers above base
	drawn uint64
	xmin  uint64
	begun bool
	asked time.Time
}

func (a *account) event(seq int64) {
	if seq > a.base {
		a.above++
	}
}

// open reports whether there may be more to come.
func (a *account) open() bool { return a.last-a.base != a.above || a.drawn >= a.xmin && a.drawn != 0 }

// wantsDraw reports whether an id should be drawn: once a beat at the most.
func (a *account) wantsDraw(now time.Time, beat time.Duration) bool {
	if !a.begun || a.last-a.base == a.above || now.Sub(a.asked) < beat {
		return false
	}
	a.asked = now
	return true
}

// settle takes what a fetch has brought. It reports whether numbers were handed out since.
func (a *account) settle(h *outbox.Header) (news bool) {
	news = h.LastSeq != a.last
	a.last, a.xmin = h.LastSeq, h.Snapshot.Xmin()
	switch {
	case !a.begun:
		a.begun, a.base, a.above = true, a.last, 0
	case h.Drawn != 0:
		a.drawn, a.base, a.above = h.Drawn, a.last, 0
	case a.last-a.base == a.above:
		a.base, a.above = a.last, 0
	}
	return news
}
