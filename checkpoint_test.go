package lockstep_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/locksteptest"
)

type kept struct{ ID, V int }

func keptTable() *lockstep.Table[int, kept] {
	return lockstep.NewTable("public.kept", func(k kept) int { return k.ID })
}

func TestACheckpointNeedsANameThatIsTheSameTheNextTime(t *testing.T) {
	db := database(t, "create table kept (id int primary key, v int not null)", "public.kept")
	cfg := quiet
	cfg.Name, cfg.Checkpoint = "", t.TempDir()
	if _, err := lockstep.Start(deadline(t), db.Pool(t), cfg, keptTable()); err == nil || !strings.Contains(err.Error(), "Config.Checkpoint without Config.Name") {
		t.Errorf("Start: %v", err)
	}
}

// A test may take over the configuration of the program: rows that never were
// columns are not written.
func TestANodeWithoutPostgresKeepsNoCheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	cfg := quiet
	cfg.Checkpoint = dir
	db, err := locksteptest.Start(cfg, keptTable())
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("there is something at %s: %v", dir, err)
	}
}

func TestATableMayBeGivenToAnotherStartAfterACheckpointWasRefused(t *testing.T) {
	db := database(t, "create table kept (id int primary key, v int not null); insert into kept values (1, 1)", "public.kept")
	cfg := quiet
	cfg.Checkpoint = t.TempDir()
	pool := db.Pool(t)
	first, err := lockstep.Start(deadline(t), pool, cfg, keptTable())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "alter table kept rename to away")
	table := keptTable()
	if _, err := lockstep.Start(deadline(t), pool, cfg, table); err == nil || !strings.Contains(err.Error(), "it is not there") || table.Len() != 0 {
		t.Fatalf("Start: %v, %d rows are there", err, table.Len())
	}
	db.Exec(t, "alter table away rename to kept")
	node := startWith(t, pool, cfg, table)
	if s := node.Status(); table.Len() != 1 || !s.Checkpoint.Restored {
		t.Errorf("%d rows, %+v", table.Len(), s.Checkpoint)
	}
}
