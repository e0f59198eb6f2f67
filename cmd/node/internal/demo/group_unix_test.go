//go:build unix

package demo

import (
	"os"
	"syscall"
	"testing"
)

// A Ctrl-C between a child's fork and its own process group ends the child, which we may see before we are told ourselves.
func TestAChildThatAnInterruptHasReachedIsToldFromOneThatFails(t *testing.T) {
	const how = "LOCKSTEP_TEST_END"
	switch os.Getenv(how) {
	case "interrupt":
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		select {}
	case "fail":
		t.Fatal("as the test wants it")
	}
	for end, want := range map[string]bool{"interrupt": true, "fail": false} {
		_, err := startChild(t.Context(), "node-1", []string{how + "=" + end}, nil, "-test.run=^"+t.Name()+"$")
		if err == nil || interrupted(err) != want {
			t.Errorf("%s: %v is taken for an interrupt: %t", end, err, interrupted(err))
		}
	}
}
