package stream

import "time"

const (
	// measureEvery is how long a measured pair of clocks is relied upon, measureSoon
	// where the answer was slow in coming, which makes the pair worth little.
	measureEvery = 5 * time.Minute
	measureSoon  = 5 * time.Second
	slow         = 50 * time.Millisecond
	// drift is how much faster the server's clock may run than ours, in parts of a million.
	drift = 500
	// step is by how much the server's clock may seem to differ from the relay's own
	// between two batches before it is taken to have been set.
	step = 100 * time.Millisecond
)

// clock puts moments of the server's clock on our own, never later than they were:
// a direct fetch that was sent at t0 has found the server's clock at s, so what the
// server's clock calls s+d was at t0+d at the earliest. Clocks that are set are found out where
// that would lie in the future, and where the server's clock and the
// relay's have not moved on alike.
type clock struct {
	t0, s, until time.Time // zero: not measured
	b            time.Time
	uptime       time.Duration
	compared     bool
}

// measured takes what a direct fetch has found.
func (c *clock) measured(t0, s, now time.Time) {
	*c = clock{t0: t0, s: s, until: now.Add(measureEvery)}
	if now.Sub(t0) > slow {
		c.until = now.Add(measureSoon)
	}
}

// ours is when b's snapshot was taken, at the earliest; not ok: measure again.
func (c *clock) ours(b *batch, now time.Time) (at time.Time, ok bool) {
	if c.t0.IsZero() || now.After(c.until) {
		return time.Time{}, false
	}
	d := b.clock.Sub(c.s)
	at = c.t0.Add(d - d.Abs()*drift/1_000_000)
	if at.After(now) {
		return time.Time{}, false
	}
	if c.compared {
		if off := b.clock.Sub(c.b) - (b.uptime - c.uptime); off > step || off < -step {
			return time.Time{}, false
		}
	}
	c.b, c.uptime, c.compared = b.clock, b.uptime, true
	return at, true
}
