package stream

import (
	"testing"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// A transaction id that is wanted comes over the stream, or after a while from Postgres. One that was wanted before, and
// then not any more, has nothing to do with it: or a fleet that sees a gap now and then would ask at once, each time.
func TestHowLongATransactionIDIsWaitedForBeginsWithTheWish(t *testing.T) {
	now := time.Now()
	from := position(t, "10:20:")
	s := &session{line: newLine(nil, outbox.Run{}), src: &source{Source: Source{}.withDefaults(nil)}, covered: from, ahead: from}
	s.clock.measured(now, now, now, 0)
	draw, wish, none := outbox.Request{From: from, DrawXid: true, WantXid: true}, outbox.Request{From: from, WantXid: true}, outbox.Request{From: from}
	for _, step := range []struct {
		after time.Duration
		req   outbox.Request
		asks  bool
	}{
		{0, draw, false},
		{drawWithin / 2, none, false},
		{10 * drawWithin, draw, false},
		{10*drawWithin + drawWithin/2, wish, false},
		{11*drawWithin + 1, draw, true},
	} {
		if got := s.mustAsk(&step.req, now.Add(step.after)); got != step.asks {
			t.Errorf("after %v: Postgres is asked: %v", step.after, got)
		}
	}
}
