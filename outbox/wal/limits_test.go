package wal_test

import (
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// docs/guarantees.md, "The WAL bell: what it costs, and its limits".

func TestADatabaseCannotBeDroppedWhileItsLogIsRead(t *testing.T) {
	c := pgtest.Own(t, pgtest.With("wal_level", "logical"))
	db, other := c.New(t), c.New(t)
	r := newRig(t, db)
	s := r.hung(t)
	conn := other.Conn(t)
	_, err := conn.Exec(t.Context(), "drop database "+db.Name+" with (force)")
	if err == nil || !strings.Contains(err.Error(), "55006") || !strings.Contains(err.Error(), "slot") {
		t.Errorf("drop database: %v", err)
	}
	r.Exec(t, "insert into a values (1, 'x')")
	awaitRing(t, s) // it has not even been disturbed
}

// A transaction that runs keeps the log, whatever it writes and wherever, until
// it ends or the server has kept as much as it may; then the bell begins anew.
func TestTheLogIsKeptFromTheOldestTransactionOn(t *testing.T) {
	c := pgtest.Own(t, pgtest.With("wal_level", "logical"), pgtest.With("min_wal_size", "32MB"), pgtest.With("max_wal_size", "64MB"))
	db, other := c.New(t), c.New(t)
	r := newRig(t, db)
	r.Exec(t, "create table filler (v text)")
	s := r.hung(t)
	conn, long := r.Conn(t), other.Conn(t)
	kept := func() int {
		return one[int](t, conn, "select coalesce(max(pg_current_wal_lsn() - restart_lsn), 0)::int from pg_replication_slots where database = current_database()")
	}
	fill := func() {
		r.Exec(t, "insert into filler select repeat(md5(i::text), 250) from generate_series(1, 8000) i") // compressed, it would be less
		r.Exec(t, "select pg_switch_wal()")
		r.Exec(t, "checkpoint")
	}
	r.Exec(t, "alter table filler alter v set storage external")
	if _, err := long.Exec(t.Context(), "begin; create table elsewhere (id int)"); err != nil {
		t.Fatal(err)
	}
	fill()
	r.acknowledged(t)
	if n := kept(); n < 50_000_000 {
		t.Errorf("%d bytes are kept for a transaction of before 64 MB", n)
	}
	r.Exec(t, "alter system set max_slot_wal_keep_size = '32MB'")
	r.Exec(t, "select pg_reload_conf()")
	fill()
	awaitLost(t, s)
	s.Close()
	if _, err := long.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	r.hung(t)
	until(t, "the log of before it can go", func() bool {
		r.Exec(t, "checkpoint")
		r.Exec(t, "insert into filler values ('x')")
		return kept() < 1_000_000
	})
}
