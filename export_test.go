package lockstep

import (
	"testing"
	"time"
)

func init() { auditPause = time.Millisecond }

// BeatEvery is how often the register is written.
var BeatEvery = beatEvery

// AnotherBuild makes this process one of another build of the program until the test ends.
func AnotherBuild(t testing.TB) {
	own := build
	build = func() string { return "another build" }
	t.Cleanup(func() { build = own })
}

// Build identifies this build of the program, "" if it cannot be told from others.
func Build() string { return build() }

// ContentID is contentID.
func ContentID(id string) string { return contentID(id) }
