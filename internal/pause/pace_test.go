package pause_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/internal/pause"
)

// A storm is answered at the rate, after a quarter of a second's worth at once: the time that was waited counts.
func TestAPaceLetsTheRateThroughAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 200
		var p pause.Pace
		began, done := time.Now(), 0
		for ; time.Since(began) < 10*time.Second; done++ {
			time.Sleep(p.Take(time.Now(), rate))
		}
		if want := 10*rate + rate/4; done < want-1 || done > want+1 {
			t.Errorf("%d times in ten seconds, want %d", done, want)
		}
	})
}

// Who takes a token and does not wait for it owes that one and no more, however often.
func TestWhoDoesNotWaitOwesOneToken(t *testing.T) {
	const rate = 100
	var p pause.Pace
	now := time.Now()
	for range 100_000 {
		now = now.Add(time.Millisecond)
		p.Take(now, rate)
	}
	if wait := p.Take(now, rate); wait > time.Second/rate {
		t.Errorf("after a storm of takes the next one waits %v, want %v at most", wait, time.Second/rate)
	}
}
