package lockstep_test

import (
	"testing"
	"time"

	"github.com/pglockstep/lockstep"
)

// A node that is idle beats half as often, but not so seldom that trimming would not spare it.
func TestANodeThatHasNothingNewToTellBeatsLessOften(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{time.Second: 2 * time.Second, 5 * time.Second: 10 * time.Second, time.Minute: time.Minute, 10 * time.Minute: 10 * time.Minute} {
		if got, news := lockstep.BeatEvery(asked, true), lockstep.BeatEvery(asked, false); got != want || news != asked {
			t.Errorf("asked for a beat every %v it comes every %v, and with news every %v", asked, got, news)
		}
	}
}
