package replay

import (
	"math/rand/v2"
	"time"
)

const (
	// restWindow is how long transactions are counted to tell whether they come in crowds that last: a bell is neither taken down nor
	// left down for the sake of some milliseconds.
	restWindow = time.Second / 2
	// restsFor is how long a bell rests after the last crowd. Where crowds come again and again it is doubled, up to restsLongest and up to a quarter more: nodes that have seen the same crowds must not come back together.
	restsFor     = 5 * time.Second
	restsLongest = 80 * time.Second
	// hangsWithin is how long the engine looks as often as in a crowd for a bell that is hung again. After it,
	// aloneEvery: the bell may have to wait for hours.
	hangsWithin = time.Minute
	aloneEvery  = 100 * time.Millisecond
)

// rest is the rest of a session's bell.
type rest struct {
	window time.Time // began; transactions are counted since
	n      int

	xmin  uint64 // of the last snapshot
	moved time.Time

	down   bool          // the bell rests
	crowd  time.Time     // the end of the last window of a crowd
	length time.Duration // of the rest
	back   time.Time     // when the bell was to be hung again; zero: it hangs, or rests
	warned bool          // it has not come back
}

// counted takes up a cut that was published.
func (r *rest) counted(c *cut) {
	if c.p.kind == follow {
		r.n += c.leads
	}
	if xmin := c.h.Snapshot.Xmin(); xmin != r.xmin {
		r.xmin, r.moved = xmin, time.Now()
	}
}

// allay has the bell rest while crowds come: the engine looks as often as it may anyway, and the bell, where it is the server
// that has to listen to each transaction, takes the processors from those who write them. Not while a transaction lasts, in whatever database:
// the bell could not be hung again before its end.
func (l *loop) allay(sess Session) {
	rester, ok := sess.(Rester)
	if !ok {
		return
	}
	now, r := time.Now(), &l.rest
	if took := now.Sub(r.window); took >= restWindow {
		crowded := l.fast(r.n, took)
		r.window, r.n = now, 0
		if crowded && now.Sub(r.moved) < restWindow && rester.Rest(true) {
			r.begin(now)
		}
	}
	switch {
	case r.down:
		if now.Sub(r.crowd) >= r.length {
			rester.Rest(false)
			r.down, r.back, r.warned = false, now, false
		}
	case r.back.IsZero():
	case hasBell(sess):
		r.back = time.Time{}
	case !r.warned && now.Sub(r.back) >= hangsWithin:
		r.warned = true
		l.log.Warn("replay: the bell that rested has not come back; until it does this node looks by itself", "after", hangsWithin, "every", l.alone(now, sess), "because", sess.WhyBell())
	}
}

// begin notes that the bell rests, as of a crowd that goes on. Nodes that see the same crowd do not all ask for
// their bells at once after it.
func (r *rest) begin(now time.Time) {
	if !r.down {
		again := !r.crowd.IsZero() && now.Sub(r.crowd) < 2*r.length+hangsWithin
		r.length = min(2*r.length, restsLongest+rand.N(restsLongest/4))
		if !again {
			r.length = restsFor + rand.N(restsFor/4)
		}
	}
	r.down, r.crowd, r.back = true, now, time.Time{}
}

// alone is the time between two looks of an engine whose bell rests, or is to be hung again; 0: it is not.
func (l *loop) alone(now time.Time, sess Session) time.Duration {
	pace := max(crowdShare*time.Second/time.Duration(l.cfg.MaxFetchRate), time.Millisecond)
	switch r := &l.rest; {
	case r.down:
		return pace
	case r.back.IsZero() || hasBell(sess):
		return 0
	case now.Sub(r.back) < hangsWithin:
		return pace
	}
	return max(pace, aloneEvery)
}
