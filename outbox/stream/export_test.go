package stream

import (
	"testing"
	"time"
)

// Hook is called at each stage of the relay's work, "fetched" and "published", and may hold it up.
// It is set before Run.
func (r *Relay) Hook(f func(stage string)) { r.hook = f }

// Subject is that of a stream's messages.
func Subject(name string) string { return subject(name) }

// Asks is the subject of the questions about a stream.
func Asks(name string) string { return asks(name) }

// KeptFor sets how long after it was asked a question may come, before any comes.
func KeptFor(t *testing.T, d time.Duration) {
	t.Helper()
	was := keptFor
	keptFor = d
	t.Cleanup(func() { keptFor = was })
}

// MeasureEvery sets how long clocks are relied upon, before any node is started.
func MeasureEvery(t *testing.T, every time.Duration) {
	t.Helper()
	was := measureEvery
	measureEvery = every
	t.Cleanup(func() { measureEvery = was })
}
