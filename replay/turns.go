package replay

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// turns waits for a turn to load: who has it holds it for one transaction, so
// whoever waits asks again, at times of its own. Readers are served meanwhile.
type turns struct{ pause time.Duration }

const (
	firstTurnPause = 100 * time.Millisecond
	maxTurnPause   = 2 * time.Second
)

// awaitTurn says who is loading, and waits a little.
func (t *turns) awaitTurn(ctx context.Context, l *loop, sess Session, p *plan, busy *outbox.BusyError) error {
	state := Loading
	if p.kind == resync {
		state = Resyncing
	}
	if t.pause == 0 {
		l.log.Info("replay: waiting for a turn to load", "limit", busy.Limit, "loading", busy.Holders)
	}
	l.enter(state, "waiting for a turn to load: "+busy.Error())
	t.pause = min(max(2*t.pause, firstTurnPause), maxTurnPause)
	timer := time.NewTimer(t.pause/2 + rand.N(t.pause/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-sess.Lost():
		return ErrBellLost
	case <-timer.C:
		return nil
	}
}
