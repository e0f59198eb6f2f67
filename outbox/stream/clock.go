package stream

import (
	"math/rand/v2"
	"time"
)

// measureEvery is how long a measured pair of clocks is relied upon, up to a quarter
// more or less. Tests change it.
var measureEvery = 5 * time.Minute

const (
	// slow is how long an answer may take for the pair to be a good one: by up to as much snapshots
	// seem older than they are. After a slower one it is measured again after measureSoon, then twice that, and so
	// on: from where Postgres is far away no answer is better.
	slow        = 250 * time.Millisecond
	measureSoon = 5 * time.Second
	// drift is how much faster the server's clock may run than ours or the relay's, in parts of a million.
	drift = 500
	// step is by how much the server's clock may seem to differ from the relay's own,
	// beyond what the relay's answers leave open, before it is taken to have been set.
	step = 100 * time.Millisecond
)

// clock puts moments of the server's clock on our own, never later than they were:
// a direct fetch, or a question to the relay, that was sent at t0 has found the server's clock at s, so what the
// server's clock calls s+d was at t0+d at the earliest. Clocks that are set are found out where
// that would lie in the future, and where the server's clock and the
// relay's have not moved on alike.
type clock struct {
	t0, s, until time.Time     // zero: not measured
	again        time.Time     // when the relay is asked
	answer       *clockAnswer  // of the relay, that no batch has borne out yet
	soon         time.Duration // the pause after the last answer, if that was slow

	// The server's clock lay between lo and hi when the relay's own said uptime.
	lo, hi   time.Time
	uptime   time.Duration
	compared bool
}

// measured takes what a direct fetch has found, or what stands for it: late is how much later than it was a moment
// may be taken for at the most.
func (c *clock) measured(t0, s, now time.Time, late time.Duration) {
	k, every := clock{t0: t0, s: s}, measureEvery
	if late > slow {
		k.soon = min(max(2*c.soon, measureSoon), measureEvery)
		every = k.soon
	}
	lasts := every*3/4 + rand.N(every/2) // nodes that have measured at one instant must not do so for ever
	k.until, k.again = now.Add(lasts), now.Add(lasts*3/4)
	*c = k
}

// told takes what a relay has said, which the next batch has to bear out: the relay goes by its own clock since it last
// looked at the server's, and either may have stood still or been set meanwhile.
func (c *clock) told(a *clockAnswer) { c.answer = a }

// borneOut takes the relay's answer if b, which was read after it, agrees: the server's clock had come to at most
// clock+took when the relay had the question, which is after t0.
func (c *clock) borneOut(b *batch) {
	a := c.answer
	if a == nil || b.uptime < a.uptime {
		return
	}
	c.answer = nil
	k := *c
	k.measured(a.t0, a.clock.Add(a.took), a.now, a.now.Sub(a.t0)+a.took)
	if k.alike(a.clock, a.took, a.uptime) && k.alike(b.clock, b.took, b.uptime) {
		*c = k
	}
}

// due reports whether it is time to ask the relay.
func (c *clock) due(now time.Time) bool {
	return c.answer == nil && now.After(c.again) && now.Before(c.until)
}

// refused notes that the relay did not say. It is asked once more.
func (c *clock) refused(now time.Time) { c.again = now.Add(c.until.Sub(c.t0) / 8) }

// ours is when b's snapshot was taken, at the earliest; not ok: measure again.
func (c *clock) ours(b *batch, now time.Time) (at time.Time, ok bool) {
	c.borneOut(b)
	if c.t0.IsZero() || now.After(c.until) {
		return time.Time{}, false
	}
	d := b.clock.Sub(c.s)
	at = c.t0.Add(d - d.Abs()*drift/1_000_000)
	if at.After(now) || !c.alike(b.clock, b.took, b.uptime) {
		return time.Time{}, false
	}
	return at, true
}

// alike reports whether the server's clock has moved on as the relay's has since the relay's answer, or else the first
// batch after the measurement. All batches narrow down how the two stand to each other: how long
// one answer took says nothing of a clock.
func (c *clock) alike(lo time.Time, took, uptime time.Duration) bool {
	hi := lo.Add(took)
	if c.compared {
		d := uptime - c.uptime
		may := d.Abs() * drift / 1_000_000
		wasLo, wasHi := c.lo.Add(d-may), c.hi.Add(d+may)
		switch {
		case lo.Sub(wasHi) > step || wasLo.Sub(hi) > step:
			return false
		case lo.After(wasHi) || wasLo.After(hi): // steps that are small do not add up
			lo, hi = wasLo, wasHi
		default:
			if lo.Before(wasLo) {
				lo = wasLo
			}
			if hi.After(wasHi) {
				hi = wasHi
			}
		}
	}
	c.lo, c.hi, c.uptime, c.compared = lo, hi, uptime, true
	return true
}
