package replay

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
)

// loop is the engine's one goroutine. It owns the position and everything that
// moves with it; nobody else reads or writes what is in it.
type loop struct {
	e     *Engine
	cfg   *Config
	log   *slog.Logger
	first chan<- error // tells Start how the first load went; nil once told

	pos     outbox.Position // zero: nothing is loaded
	history uuid.UUID
	horizon uint64 // nothing below it that was trimmed is missing here
	gaps    gaps
	anchor  anchor
	applied int64 // the highest number of which an event was applied or loaded
	tables  []tableState

	lastFetch  time.Time     // when the last attempt began
	look       time.Duration // the pause before numbers unaccounted for are looked for again
	quickUntil time.Time
	catalogue  time.Time // when the catalogue is to be compared again
	lastDraw   time.Time
	pace       pause.Pace
	crowded    bool // transactions come so fast that it is better to wait for more
	calm       int  // beats in a row that found nothing
	rest       rest

	began    time.Time // the fetch of the last cut; zero: none was published
	identity string    // of the database that the position belongs to
	warm     *warm     // the checkpoint that the first session is to begin with
	cold     string    // why there is none, for the load that takes its place
	refused  *CheckpointError
	decoding sync.WaitGroup // the rest of the rows that a checkpoint has left encoded
	decodes  bool           // it was begun
	ckpt     checkpointing

	pending  *resyncError  // the position is known to be worthless
	failures int           // sessions ended by an error since a fetch last moved the position on
	stalls   int           // catch-ups and loads given up since a fetch last completed
	progress atomic.Uint64 // counts what the source brings
}

type tableState struct {
	fingerprint string // of the last load, or of the last attempt that failed
	problem     error
	retryAt     time.Time
	retry       time.Duration
	// rereadFailed counts the fetches that failed while rows of the table were
	// to be read by key, since one last completed.
	rereadFailed int
}

func newLoop(e *Engine, first chan<- error) *loop {
	l := &loop{
		e: e, cfg: &e.cfg, log: e.cfg.Logger, first: first,
		tables: make([]tableState, len(e.tables)),
		look:   time.Millisecond,
	}
	l.forget()
	return l
}

// forget puts the accounts back to where nothing is loaded.
func (l *loop) forget() {
	l.pos, l.history, l.horizon, l.applied, l.identity = outbox.Position{}, uuid.UUID{}, 0, 0, ""
	l.gaps, l.anchor = gaps{max: l.cfg.MaxGaps}, anchor{max: l.cfg.MaxAnchors}
	clear(l.tables)
}

// follow fetches whenever there is a reason to, until the session fails.
func (l *loop) follow(ctx context.Context, sess Session) error {
	for {
		l.keepCheckpoint(ctx)
		l.allay(sess)
		why, err := l.wait(ctx, sess)
		if err == nil {
			why, err = l.restrain(ctx, sess, why)
		}
		if err != nil {
			return err
		}
		p := l.plan(why)
		if p.sharing = l.e.takeSharing(); p.sharing != nil {
			p.catalogue = true // tables that have changed their shape are not to be compared
		}
		if still, err := l.still(ctx, sess, p); err != nil {
			return err
		} else if still {
			continue
		}
		err = l.advance(ctx, sess, p)
		p.unshared(err)
		l.e.nextSharing()
		if err != nil {
			return err
		}
	}
}

// wait blocks until there is a reason to fetch.
func (l *loop) wait(ctx context.Context, sess Session) (cause, error) {
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-sess.Lost():
		return 0, ErrBellLost
	default:
	}
	at, why := l.next(time.Now(), sess)
	return l.sleep(ctx, sess, sess.Rings(), time.Until(at), why)
}

// sleep waits for one of the rings, for somebody who asks, or for the time to
// pass, which is the cause given. With nil for the rings it does not hear them.
func (l *loop) sleep(ctx context.Context, sess Session, rings <-chan struct{}, d time.Duration, why cause) (cause, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-sess.Lost():
		return 0, ErrBellLost
	case <-rings:
		return byRing, nil
	case <-l.e.poke:
		return byAsk, nil
	case <-timer.C:
		return why, nil
	}
}

// next says when to fetch if nobody asks for it, and why.
//
// A committing transaction that finds another one ringing does not ring, and
// its commit may end after the other's, so after a ring there may be more to
// come. The numbers handed out tell: as long as some are not accounted for the
// engine looks again, after 1, 2, 4 ... ms up to the beat.
func (l *loop) next(now time.Time, sess Session) (time.Time, cause) {
	at, why := l.lastFetch.Add(l.beat(sess)), byBeat
	if now.Before(l.quickUntil) {
		if quick := l.lastFetch.Add(l.cfg.QuickEvery); quick.Before(at) {
			at, why = quick, byQuick
		}
	}
	if every := l.alone(now, sess); every > 0 {
		if look := l.lastFetch.Add(every); look.Before(at) {
			at, why = look, bySelf
		}
	}
	if !l.gaps.settled() || l.e.tokensWait() {
		if look := now.Add(l.look); look.Before(at) {
			at, why = look, byLook
		}
	}
	return at, why
}

// calmAfter is the number of beats in a row that find nothing after which a node looks less often.
const calmAfter = 8

// beat is the longest time between two looks. Where a bell would ring, and nothing has been for some time,
// it is twice as long: most nodes are idle most of the time. A look still has half of MaxStale to end before the engine is no longer live.
func (l *loop) beat(sess Session) time.Duration {
	if !hasBell(sess) || l.calm < calmAfter {
		return l.cfg.Beat
	}
	return max(l.cfg.Beat, min(2*l.cfg.Beat, l.cfg.MaxStale/2))
}

// hasBell reports whether somebody tells the session of commits: not at polling, nor over a stream, where a look asks nobody.
func hasBell(sess Session) bool {
	bell := outbox.Bell(sess.Bell())
	return bell == outbox.BellNotify || bell == outbox.BellWAL
}

// plan makes the plan of the next cut of a session that follows.
func (l *loop) plan(why cause) *plan {
	now := time.Now()
	p := &plan{kind: follow, cause: why, rung: why == byRing, tables: make([]tablePlan, len(l.tables))}
	p.catalogue = !now.Before(l.catalogue)
	p.wantsDraw = l.gaps.wantsDraw()
	if p.wantsDraw && !now.Before(l.lastDraw.Add(l.cfg.Beat)) {
		p.draw, l.lastDraw = true, now
	}
	for i := range l.tables {
		if t := &l.tables[i]; t.problem != nil && !now.Before(t.retryAt) {
			p.load(i, Retry, "")
		}
		if l.tables[i].rereadFailed > 1 {
			p.load(i, ReloadEvent, "reading rows by key has failed")
		}
	}
	return p
}

// still reports whether a beat, or a look while the bell rests, has found that there is nothing to fetch: every number that was handed out is
// accounted for, and there are no others. Nothing but the time moves on then, so that no event can be missed by it:
// the position stays where the last fetch has brought it, and the next one, at the latest when the catalogue is compared,
// begins there.
func (l *loop) still(ctx context.Context, sess Session, p *plan) (still bool, err error) {
	if p.cause != byBeat && (p.cause != bySelf || l.crowded) || p.draw || p.catalogue || p.sharing != nil || len(sess.Rings()) > 0 || !l.gaps.settled() || l.e.somebodyWaits() ||
		slices.ContainsFunc(p.tables, func(t tablePlan) bool { return t.reload }) {
		return false, nil
	}
	began := time.Now()
	err = l.guard(ctx, l.cfg.FetchTimeout, func(ctx context.Context) error {
		still, err = sess.Still(ctx, l.gaps.known)
		return err
	})
	if err != nil {
		return false, l.failed("look for new numbers", err)
	}
	if !still {
		return false, nil
	}
	l.lastFetch, l.failures, l.crowded = began, 0, false
	if p.cause == byBeat {
		l.calm++
	}
	l.look = min(2*l.look, l.cfg.Beat)
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	st := &l.e.sh.st
	st.Stills++
	st.LastFetch, st.Bell, st.WhyBell = began, sess.Bell(), sess.WhyBell()
	if l.e.sh.state != Closed {
		l.e.sh.enter(Live, "", time.Now())
	}
	return true, nil
}

// paced sets the pace after a published or empty cut.
func (l *loop) paced(c *cut, news bool, sess Session) {
	now := time.Now()
	// The log has a commit before others see it: after a synchronous standby's
	// answer, say. Such a ring found nothing and is still true.
	early := c.p.rung && sess.Bell() == "wal"
	if c.found() || news || early || c.p.cause == byAsk {
		l.look = time.Millisecond
	} else {
		l.look = min(2*l.look, l.cfg.Beat)
	}
	if c.found() || news || c.p.rung {
		l.calm = 0
	}
	if !c.found() {
		return
	}
	unrung := c.p.cause == byBeat && !c.p.rung && len(sess.Rings()) == 0 && sess.Bell() != "poll" && c.p.kind == follow
	if unrung {
		l.e.count(func(st *Status) { st.Unrung++ })
	}
	if unrung || c.p.cause == byQuick {
		l.quickUntil = now.Add(l.cfg.QuickFor)
	}
}

// count changes the counters.
func (e *Engine) count(f func(*Status)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.sh.st)
}
