//go:build unix

package integration

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/replay"
)

// pooled puts PgBouncer, in transaction mode and with two connections for all,
// in front of a database, and returns the address of its clients.
func pooled(t *testing.T, db *pgtest.DB) (dsn string) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("not run: pgbouncer is not installed (Debian: apt-get install pgbouncer)")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	_ = free.Close() // for PgBouncer
	server, err := url.Parse(db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := server.User.Password()
	dir := t.TempDir()
	config := fmt.Sprintf("[databases]\n%s = host=127.0.0.1 port=%d user=%s password=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\n"+
		"auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n", db.Name, db.Server().Port(), server.User.Username(), password, port)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-q", "/dev/fd/3") // by descriptor: the directory may not be the other user's to enter
	if os.Geteuid() == 0 {                          // which it refuses to be
		info, err := os.Stat(db.Server().DataDir())
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // so it is on Unix
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		if err := os.Chown(file, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	ini, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ini.Close() }() // it was read only
	cmd.ExtraFiles = []*os.File{ini}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	dsn = "postgres://anybody@127.0.0.1:" + strconv.Itoa(port) + "/" + db.Name + "?sslmode=disable&default_query_exec_mode=exec"
	until(t, "PgBouncer answers", func() bool {
		conn, err := pgx.Connect(deadline(t), dsn)
		return err == nil && conn.Close(context.Background()) == nil
	})
	return dsn
}

// others are the settings that a client of the pooler finds, in both of its connections.
func others(t *testing.T, pool *pgxpool.Pool) (found map[string]int) {
	t.Helper()
	found = map[string]int{}
	for range 20 {
		var s string
		err := pool.QueryRow(deadline(t), `select concat_ws(' ', current_setting('search_path'), current_setting('default_transaction_read_only'), current_setting('default_transaction_isolation'),
			current_setting('enable_seqscan'), current_setting('row_security'), current_setting('timezone'), current_setting('jit'), current_setting('plan_cache_mode'))`).Scan(&s)
		if err != nil {
			t.Fatal(err)
		}
		found[s]++
	}
	return found
}

// Behind a pooler in transaction mode a node polls, keeps its settings to its
// own transactions, and is as right as anywhere.
func TestANodeBehindAPoolerPollsAndDisturbsNobody(t *testing.T) {
	db := fresh(t)
	items(t, db)
	pool := poolAt(t, pooled(t, db))
	before := others(t, pool)
	node, table := start(t, pool)
	if s := node.Status(); s.Bell != "poll" {
		t.Errorf("the bell is %q", s.Bell)
	}
	if tok, err := table.Put(deadline(t), item{1, 5}); err != nil || node.WaitFor(deadline(t), tok) != nil {
		t.Errorf("Put: %v", err)
	}
	for i, sql := range []string{
		"update items set v = v + 1", "delete from items where id > 50", "insert into items values (500, 1)",
		"begin; update items set v = 0; rollback", "update items set id = -id where id < 5", "truncate items", "insert into items values (1, 1), (2, 2)",
	} {
		db.Exec(t, sql)
		barrier(t, node)
		wantSame(t, db, table)
		if i == 3 { // both of the pooler's connections, in the middle of whatever they do
			db.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
		}
	}
	if err := node.Reload(deadline(t), table); err != nil {
		t.Error(err)
	}
	wantSame(t, db, table)
	// TRUNCATE gives the table another file: where a look at the catalogue comes before the end of
	// this, the table has been read once more for it.
	s, loads := node.Status(), map[replay.Reason]int{}
	for _, l := range s.Loads {
		loads[l.Reason]++
	}
	if s.Resyncs != 0 || loads[replay.FirstLoad] != 1 || loads[replay.Requested] != 1 || loads[replay.Drift] > 1 || len(s.Loads) > 2+loads[replay.Drift] || s.State != lockstep.Live {
		t.Errorf("%v, %d resyncs, loads %+v, last error %v", s.State, s.Resyncs, s.Loads, s.LastError)
	}
	pool.Reset()
	if after := others(t, pool); len(before) != 1 || !maps.Equal(before, after) {
		t.Errorf("others find the settings %v, and found %v", after, before)
	}
	if _, err := pool.Exec(deadline(t), "insert into items values (777, 7)"); err != nil {
		t.Errorf("another client cannot write: %v", err)
	}
}

// The audit reads and exports in one transaction, which a pooler leaves in one piece.
func TestTheAuditWorksBehindAPooler(t *testing.T) {
	db := fresh(t)
	items(t, db)
	pool := poolAt(t, pooled(t, db))
	db.Exec(t, "insert into items (id, v) select i, 0 from generate_series(1000, 1999) i")
	documents := lockstep.Documents("public.items")
	// Slow enough for a row to go wrong while the first sweep is under way.
	node := startNode(t, pool, lockstep.Config{Audit: 300, Register: -1}, documents)
	db.Exec(t, "begin; update items set v = 1 where id = 1999; delete from lockstep.outbox where xid = pg_current_xact_id(); commit")
	until(t, "the audit finds the row", func() bool { return len(node.Status().Audit.Found) > 0 })
	until(t, "the first sweep ends", func() bool { return node.Status().Audit.Sweeps > 0 })
	a := node.Status().Audit
	if d := a.Found[0]; len(a.Found) != 1 || d.Key != "1999" || d.Wrong != lockstep.WrongRow || a.LastError != nil || a.Keys < 1000 {
		t.Errorf("the audit: %+v", a)
	}
}
