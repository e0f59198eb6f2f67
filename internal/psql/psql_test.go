package psql_test

import (
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/psql"
)

func TestLongNamesThatBeginAlikeStayDifferent(t *testing.T) {
	long := strings.Repeat("ä", 31) // 62 bytes
	a, b := psql.Publication(long), psql.Publication(long+"b")
	if a == b || len(a) > psql.MaxName || len(b) > psql.MaxName || !strings.HasPrefix(a, "ääää") || !strings.HasSuffix(a, "_bell") {
		t.Errorf("%q and %q", a, b)
	}
	if got := psql.Publication("lockstep"); got != "lockstep_bell" {
		t.Errorf("%q", got)
	}
}
