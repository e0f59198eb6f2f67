package replay

import (
	"context"
	"time"
)

// restrain waits until the pace allows the next fetch that rings and looks cause. A single commit is answered
// at once; under writers at full speed one fetch brings what some milliseconds have committed, and the server
// has its time for them. Whoever asks for a fetch is not held up.
func (l *loop) restrain(ctx context.Context, sess Session, why cause) (cause, error) {
	if why == byAsk || why == byBeat {
		return why, nil
	}
	wait := l.pace.Take(time.Now(), float64(l.cfg.MaxFetchRate))
	if wait <= 0 {
		return why, nil
	}
	return l.sleep(ctx, sess, nil, wait, why)
}
