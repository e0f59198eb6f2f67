package replay

import (
	"context"
	"time"
)

// crowd is the number of transactions for each fetch, at the highest rate of fetches, from which on a third of the rate is enough.
// A fetch and what comes of it cost the server and the node about as much as this many transactions cost their writers, who
// have the more of the processors the fewer fetches there are.
const crowd = 8

// crowdShare is the part of the highest rate that is enough in a crowd.
const crowdShare = 3

// crowds reports whether the cut, which follows the last one, has brought so many: by the time between the two, whatever
// the rate of fetches was.
func (l *loop) crowds(c *cut) bool {
	n := len(c.txs.list)
	fast := float64(n) >= crowd*float64(l.cfg.MaxFetchRate)*c.h.Began.Sub(l.began).Seconds()
	return c.p.kind == follow && (c.txs.over || n >= crowd && fast)
}

const (
	// restsFor is how long a bell rests after the last crowd.
	restsFor = 5 * time.Second
	// hangsWithin is how long the engine looks by itself for a bell that is hung again, as it has while that rested: it
	// may have to wait for transactions that have begun meanwhile.
	hangsWithin = time.Minute
)

// rest is the rest of a bell.
type rest struct {
	began   time.Time // of the crowd; zero: the last cut was none
	crowd   time.Time // when the last crowded cut was published
	down    bool      // the bell rests
	hanging time.Time // until when the engine looks by itself, unless the bell hangs
}

// allay has the bell rest once crowds have come for a beat: the engine looks as often as it may anyway, and the bell, where
// it is the server that has to listen to each transaction, takes the processors from those who write them.
func (l *loop) allay(sess Session) {
	rester, ok := sess.(Rester)
	if !ok {
		return
	}
	now, r := time.Now(), &l.rest
	switch {
	case !l.crowded:
		r.began = time.Time{}
	case r.began.IsZero():
		r.began = now
	}
	switch {
	case l.crowded:
		r.crowd = now
		if now.Sub(r.began) >= l.cfg.Beat {
			r.down = rester.Rest(true)
		}
	case r.down && now.Sub(r.crowd) >= restsFor:
		r.down, r.hanging = rester.Rest(false), now.Add(hangsWithin)
	}
}

// byItself reports whether the engine looks without being rung, as often as it would be answered in a crowd.
func (l *loop) byItself(now time.Time, sess Session) bool {
	return l.rest.down || now.Before(l.rest.hanging) && !hasBell(sess)
}

// crowdPace is the time between two fetches in a crowd.
func (l *loop) crowdPace() time.Duration {
	return crowdShare * time.Second / time.Duration(l.cfg.MaxFetchRate)
}

// restrain waits until the pace allows the next fetch that rings and looks cause. A single commit is answered
// at once; under writers at full speed one fetch brings what some milliseconds have committed, and the server
// has its time for them. Whoever asks for a fetch is not held up, nor is the beat.
func (l *loop) restrain(ctx context.Context, sess Session, why cause) (cause, error) {
	if why == byAsk || why == byBeat {
		return why, nil
	}
	rate := float64(l.cfg.MaxFetchRate)
	if l.crowded {
		rate /= crowdShare
	}
	now := time.Now()
	wait := min(l.pace.Take(now, rate), l.lastFetch.Add(l.beat(sess)).Sub(now))
	if wait <= 0 {
		return why, nil
	}
	return l.sleep(ctx, sess, nil, wait, why)
}
