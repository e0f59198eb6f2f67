//go:build unix

package integration

import (
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// forgetful is a cluster of which a kill takes what nobody has waited for: the
// end of its log is in its own memory only.
func forgetful(t *testing.T, opts ...pgtest.Option) *pgtest.Cluster {
	t.Helper()
	return own(t, append(opts, pgtest.Trust, pgtest.With("autovacuum", "off"), pgtest.With("wal_writer_delay", "10s"))...)
}

// holdLog stops the process that brings the log to disk behind the backs of
// asynchronous commits. Only a kill ends that.
func holdLog(t *testing.T, db *pgtest.DB) {
	t.Helper()
	var pid int
	if err := db.Conn(t).QueryRow(deadline(t), "select pid from pg_stat_activity where backend_type = 'walwriter'").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// careless is a connection that does not wait for the disk.
func careless(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	conn := db.Conn(t)
	run(t, conn, "set synchronous_commit = off")
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(deadline(t), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// burn draws transaction ids of which only memory knows.
func burn(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	for range n {
		run(t, conn, "begin; select pg_current_xact_id(); rollback")
	}
}

// lastXid is the highest transaction id in the outbox.
func lastXid(t *testing.T, conn *pgx.Conn) (xid uint64) {
	t.Helper()
	if err := conn.QueryRow(deadline(t), "select coalesce(max(xid::text::bigint), 0) from lockstep.outbox").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	return xid
}

// highestXid is the highest transaction id that has ended.
func highestXid(t *testing.T, conn *pgx.Conn) (xid uint64) {
	t.Helper()
	if err := conn.QueryRow(deadline(t), "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	return xid
}

// crash kills the cluster and starts it again.
func crash(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// moveUpTo moves amounts until a transaction id has been given out again, and
// a few more, for other content than it had.
func moveUpTo(t *testing.T, db *pgtest.DB, xid uint64) {
	t.Helper()
	conn := db.Conn(t)
	if last := lastXid(t, conn); last >= xid {
		t.Fatalf("the outbox has transaction %d: %d was not lost", last, xid)
	}
	var given bool
	for i := 0; lastXid(t, conn) < xid+3; i++ {
		move(t, conn, 51+i%20, 71+i%20, i+1)
		given = given || lastXid(t, conn) == xid
	}
	if !given {
		t.Fatalf("transaction id %d was not given out again to a writer", xid)
	}
}
