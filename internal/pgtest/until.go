package pgtest

import (
	"testing"
	"time"
)

// Until asks again and again, for so long at the most, until the answer is yes.
func Until(t testing.TB, limit time.Duration, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(limit); !yes(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}
