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
	return c.p.kind == follow && c.leads >= crowd && l.fast(c.leads, c.h.Began.Sub(l.began))
}

// fast reports whether so many transactions in such a time are a crowd.
func (l *loop) fast(transactions int, in time.Duration) bool {
	return float64(transactions) >= crowd*float64(l.cfg.MaxFetchRate)*in.Seconds()
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
