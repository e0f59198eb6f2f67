package lockstep_test

import (
	"testing"

	"github.com/pglockstep/lockstep"
)

func TestOnlyABuildIDOfTheGoCommandNamesABuild(t *testing.T) {
	const sum = "aB3_-xYz0123456789Qw"
	good := sum + "/" + sum + "/" + sum + "/" + sum
	if got := lockstep.ContentID(good + "\x00"); got != good {
		t.Errorf("%q is %q", good, got)
	}
	for _, id := range []string{"", "redacted", "v1.2.3", sum, sum + "/" + sum + "/" + sum, good + "/" + sum, "///", sum + "/" + sum + "/" + sum + "/short", good + "x"} {
		if got := lockstep.ContentID(id); got != "" {
			t.Errorf("%q is taken for %q", id, got)
		}
	}
}
