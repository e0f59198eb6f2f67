package psql_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pglockstep/lockstep/internal/psql"
)

func TestAFileIsReadWithWhatItIncludes(t *testing.T) {
	files := fstest.MapFS{
		"sql/outer.sql":   {Data: []byte("select (\n  \\ir inner.sql\n) as \\ir\n")},
		"sql/inner.sql":   {Data: []byte("  select :'what' from :\"where\"\n")},
		"sql/missing.sql": {Data: []byte("\\ir nowhere.sql\n")},
	}
	got, err := psql.Render(files, "sql/outer.sql", map[string]string{"what": "a'b", "where": "c\"d"})
	if want := "select (\n  select 'a''b' from \"c\"\"d\"\n) as \\ir\n"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if _, err := psql.Render(files, "sql/missing.sql", nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "nowhere.sql") {
		t.Errorf("a file that includes one that is not there: %v", err)
	}
}

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
