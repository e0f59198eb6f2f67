package replay

import (
	"context"
	"time"
)

// pace bounds the fetches that rings and looks cause, as a bucket of tokens:
// MaxFetchRate flow in each second, and a quarter of a second's worth fits in.
// A single commit is answered at once; under writers at full speed one fetch
// brings what some milliseconds have committed, and the server has its time for them.
type pace struct {
	tokens float64
	filled time.Time
}

// take takes a token and returns how long to wait before it may be used.
func (p *pace) take(now time.Time, rate float64) time.Duration {
	p.tokens = min(p.tokens+now.Sub(p.filled).Seconds()*rate, rate/4)
	p.filled = now
	p.tokens--
	return time.Duration(max(0, -p.tokens) / rate * float64(time.Second))
}

// restrain waits until the pace allows the next fetch. Whoever asks for one is not held up.
func (l *loop) restrain(ctx context.Context, sess Session, why cause) (cause, error) {
	if why == byAsk || why == byBeat {
		return why, nil
	}
	wait := l.pace.take(time.Now(), float64(l.cfg.MaxFetchRate))
	if wait <= 0 {
		return why, nil
	}
	return l.sleep(ctx, sess, nil, wait, why)
}
