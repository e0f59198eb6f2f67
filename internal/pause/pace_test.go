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
