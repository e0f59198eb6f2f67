//go:build unix

package pgtest_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestACopyHasWhatTheOriginalHadAndGoesItsOwnWay(t *testing.T) {
	from := pgtest.Own(t, pgtest.Trust, pgtest.Small)
	copied := pgtest.Own(t, pgtest.Trust, pgtest.Small, pgtest.With("application_name", "the copy"))
	db := from.New(t)
	db.Exec(t, "CREATE TABLE kept AS SELECT 'kept' AS what; CREATE TABLE gone (); DROP TABLE gone")
	copied.BecomeCopy(t, from, fmt.Sprintf("restore_command = 'cp \"%s/%%f\" \"%%p\"'\nrecovery_target = 'immediate'\nrecovery_target_action = 'promote'\n",
		filepath.Join(from.DataDir(), "pg_wal")))
	copied.Give(t, "recovery.signal", nil)
	if err := copied.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "UPDATE kept SET what = 'changed'")
	there := copied.Has(db)
	if got := text(t, there.Conn(t), "SELECT what || ' by ' || current_setting('application_name') FROM kept"); got != "kept by the copy" {
		t.Errorf("the copy has %s", got)
	}
}
