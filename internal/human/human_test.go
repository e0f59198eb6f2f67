package human_test

import (
	"testing"

	"github.com/pglockstep/lockstep/internal/human"
)

func TestNumbersAsPeopleReadThem(t *testing.T) {
	for n, want := range map[int64]string{0: "0 kB", 2047: "1 kB", 1 << 20: "1 MB", 5<<20 - 1: "4 MB", 3 << 29: "1.5 GB"} {
		if got := human.Bytes(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
	for s, want := range map[string]string{"0": "0", "999": "999", "1000": "1,000", "1234567": "1,234,567"} {
		if got := human.Digits(s); got != want {
			t.Errorf("%s is %q, want %q", s, got, want)
		}
	}
}
