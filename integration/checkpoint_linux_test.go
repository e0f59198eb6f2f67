package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pglockstep/lockstep"
)

func TestAFullDiskStopsNothingAndLeavesNothingBehind(t *testing.T) {
	db := fresh(t)
	db.Exec(t, "create table items (id int primary key, v int not null); insert into items select i, 0 from generate_series(1, 50000) i")
	install(t, db, "public.items")
	k := newKeeper(t, db)
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", k.dir, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		t.Skipf("not run: a small tmpfs cannot be mounted (%v); run it as root with CAP_SYS_ADMIN", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(k.dir, 0); err != nil {
			t.Error(err)
		}
	})
	table := itemTable()
	node := k.start(table)
	db.Exec(t, "update items set v = 1 where id < 10")
	barrier(t, node)
	if err := node.Close(deadline(t)); err != nil {
		t.Error(err)
	}
	if err := node.Status().Checkpoint.LastError; !errors.Is(err, syscall.ENOSPC) || strings.Count(k.log.String(), "level=WARN") != 1 {
		t.Errorf("the last error is %v, the log\n%s", err, k.log.String())
	}
	if list, err := filepath.Glob(filepath.Join(k.dir, "*")); err != nil || len(list) != 1 {
		t.Errorf("left behind: %q (%v)", list, err)
	}
	if err := syscall.Mount("tmpfs", k.dir, "tmpfs", syscall.MS_REMOUNT, "size=64m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	k.once(nil) // there is room again
	k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
		if !s.Checkpoint.Restored {
			t.Errorf("%+v", s.Checkpoint)
		}
		wantSame(t, db, table)
	})
}
