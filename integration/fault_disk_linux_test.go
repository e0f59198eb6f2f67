package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/internal/tmpfs"
)

// disk is a small file system of a test's own. It is gone when the test is over, whatever became of it.
type disk struct {
	t   *testing.T
	dir string
}

func newDisk(t *testing.T, size string) *disk {
	t.Helper()
	dir, unmount, err := tmpfs.Mount(size)
	if err != nil {
		t.Skipf("not run: a small file system cannot be mounted here (%v): run as root, in a container with CAP_SYS_ADMIN", err)
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
	return &disk{t, dir}
}

// fill leaves so much room, and returns what gives all of it back.
func (d *disk) fill(room int64) (free func()) {
	d.t.Helper()
	resize, err := tmpfs.Fill(d.dir, room)
	if err != nil {
		d.t.Fatal(err)
	}
	return func() {
		if err := resize(); err != nil {
			d.t.Fatal(err)
		}
	}
}

// A table whose file system is full is an error to who writes it, and to nobody
// else: what is rolled back because of it is never seen, what is committed is.
func TestATableWithoutRoomFailsItsWritersAndNobodyElse(t *testing.T) {
	d := newDisk(t, "8m")
	db := own(t).New(t)
	items(t, db)
	room := filepath.Join(d.dir, "space")
	if err := os.Mkdir(room, 0o700); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(db.Server().DataDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(room, int(info.Sys().(*syscall.Stat_t).Uid), -1); err != nil {
		t.Fatal(err)
	}
	conn := db.Conn(t)
	do(t, conn, "create tablespace small location '"+room+"'")
	do(t, conn, "create table heavy (id int primary key, v int not null, body text) tablespace small")
	do(t, conn, "alter table heavy alter body set storage external")
	install(t, db, "public.heavy")
	table, heavy := itemTable(), lockstep.NewTable("public.heavy", func(i item) int { return i.ID })
	node := startNode(t, db.Pool(t), lockstep.Config{}, table, heavy)
	changes := subscribe(t, table)
	w := watched(t, node, table)
	grow := func(v int) error {
		_, err := conn.Exec(deadline(t), fmt.Sprintf(`begin; update items set v = %d where id = 1;
			insert into heavy select %d * 10 + i, 1, repeat('x', 100000) from generate_series(1, 3) i; commit`, v, v))
		if err != nil {
			do(t, conn, "rollback")
		}
		return err
	}
	free, v := d.fill(1<<20), 0
	for err = grow(1); err == nil; err = grow(v + 1) {
		v++
		seenAs(t, node, table, v)
	}
	if sqlState(err) != "53100" || v == 0 {
		t.Fatalf("after %d commits: %v", v, err)
	}
	for last := v + 20; v < last; v++ {
		if err := grow(v + 1); sqlState(err) != "53100" {
			t.Errorf("without room: %v", err)
		}
		do(t, conn, "update items set v = $1 where id = 1", v+1)
		seenAs(t, node, table, v+1)
	}
	free()
	if err := grow(v + 1); err != nil {
		t.Error(err)
	}
	wantEach(t, values(changes.upTo(rowOneIs(v+1))), 1, v+1)
	w.end()
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
	if s := node.Status(); s.Sessions != 1 || s.LastError != nil || heavy.Len() != ask[int](t, db, "select count(*) from heavy") {
		t.Errorf("%d sessions, last error %v, %d rows of the table that was full", s.Sessions, s.LastError, heavy.Len())
	}
}

// A server whose log has no room falls, and stays down: where it found room again by
// itself, nobody would have to notice. The node answers, says what is wrong, and replays when there is room again.
func TestAServerWhoseDiskIsFullIsFollowedAgainWhenThereIsRoom(t *testing.T) {
	d := newDisk(t, "180m")
	c := own(t, func(c *pgserver.Config) {
		c.Dir, c.InitArgs = filepath.Join(d.dir, "pg"), []string{"--wal-segsize=1"}
	}, pgtest.With("min_wal_size", "2MB"), pgtest.With("max_wal_size", "8MB"), pgtest.With("autovacuum", "off"), pgtest.With("fsync", "on"), pgtest.With("restart_after_crash", "off"))
	db := c.New(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	changes := subscribe(t, table)
	w := watched(t, node, table)

	conn, v, err := db.Conn(t), 0, error(nil)
	free := d.fill(1 << 20)
	for err == nil || sqlState(err) == "53100" {
		if _, err = conn.Exec(deadline(t), "update items set v = $1 where id = 1", v+1); err == nil {
			v++
		} else if sqlState(err) == "53100" { // a table is the first that finds no room
			_, err = conn.Exec(deadline(t), "select pg_switch_wal()")
		}
	}
	t.Logf("after %d commits: %v", v, err)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Severity != "PANIC" && pgErr.Severity != "FATAL" {
		t.Errorf("a writer's error is %v", err)
	}
	until(t, "the node says that it is cut off", func() bool { s := node.Status(); return s.State == lockstep.Stale && s.Sessions+s.Failures > 2 })
	t.Logf("the node: %s", node.Status().Reason)
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := table.Put(short, item{2, 2}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("without a server a write says %v", err)
	}

	free()
	if err := errors.Join(c.Kill(), c.Restart(deadline(t))); err != nil { // it may be half way back
		t.Fatal(err)
	}
	now := ask[int](t, db, "select v from items where id = 1")
	if now < v || now > v+1 {
		t.Fatalf("%d was committed, and now it is %d", v, now)
	}
	db.Exec(t, "update items set v = v + 1 where id = 1")
	wantEach(t, values(changes.upTo(rowOneIs(now+1))), 1, now+1)
	w.end()
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
}
