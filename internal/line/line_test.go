package line_test

import (
	"testing"

	"github.com/pglockstep/lockstep/internal/line"
)

func TestATextOfSeveralLinesBecomesOne(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "",
		"one":                    "one",
		" kept ":                 " kept ",
		"a\nb":                   "a; b",
		"cannot:\n\tx: y\n\tz\n": "cannot: x: y; z",
		"\r\n\n a \r\n":          "a",
	} {
		if got := line.One(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
