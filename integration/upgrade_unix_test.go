//go:build unix

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// upgradePrograms are whole sets of programs, for pg_upgrade to go from and to:
// the oldest and the newest that there are, or one twice.
func upgradePrograms(t *testing.T) (from, to pgserver.Binaries) {
	t.Helper()
	var whole []pgserver.Binaries
	dirs := []string{os.Getenv(pgserver.EnvBin)}
	if dirs[0] == "" {
		dirs = nil
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		missing := slices.ContainsFunc([]string{"pg_upgrade", "pg_dumpall", "pg_controldata", "pg_resetwal"}, func(program string) bool {
			_, err := os.Stat(filepath.Join(dir, program))
			return err != nil
		})
		if missing {
			if dir == os.Getenv(pgserver.EnvBin) {
				t.Skipf("not run: %s has the server's programs only, pg_upgrade needs those of a whole installation (Debian: apt-get install postgresql)", dir)
			}
			continue
		}
		t.Setenv(pgserver.EnvBin, dir)
		b, err := pgserver.Find(t.Context(), pgserver.Options{})
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, b)
	}
	if len(whole) == 0 {
		t.Skip("not run: there is no pg_upgrade (Debian: apt-get install postgresql; for two versions, those of apt.postgresql.org)")
	}
	byVersion := func(a, b pgserver.Binaries) int { return a.Version - b.Version }
	return slices.MinFunc(whole, byVersion), slices.MaxFunc(whole, byVersion)
}

func programsOf(b pgserver.Binaries) pgtest.Option {
	return func(c *pgserver.Config) {
		c.Binaries = b
		if b.Version >= 180000 {
			c.InitArgs = append(c.InitArgs, "--no-data-checksums") // the default of older ones
		}
	}
}

// upgrade runs pg_upgrade as the servers' user.
func upgrade(t *testing.T, from, to *pgtest.Cluster) {
	t.Helper()
	cmd := exec.CommandContext(deadline(t), filepath.Join(to.Binaries().Dir, "pg_upgrade"), "--link", "-U", pgserver.Superuser,
		"-b", from.Binaries().Dir, "-B", to.Binaries().Dir, "-d", from.DataDir(), "-D", to.DataDir(),
		"-p", fmt.Sprint(from.Port()), "-P", fmt.Sprint(to.Port()), "-s", to.SocketDir())
	cmd.Dir = filepath.Dir(to.DataDir()) // where it may write
	if os.Geteuid() == 0 {               // which it refuses to be
		info, err := os.Stat(to.DataDir())
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // so it is on Unix
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_upgrade: %v\n%s", err, out)
	}
}

// pg_upgrade keeps tables, oids and transaction ids and makes another cluster
// of it all. That it is one is what tells: ids that were lost between may be
// anybody's.
func TestAnUpgradedClusterIsRefusedUntilANewHistory(t *testing.T) {
	before, after := upgradePrograms(t)
	c := own(t, pgtest.Trust, pgtest.Small, programsOf(before))
	other := pgtest.Own(t, pgtest.Trust, pgtest.Small, programsOf(after))
	if before.Version/10000 == after.Version/10000 {
		t.Logf("from %d to %d only: for two versions install another one (Debian: apt.postgresql.org)", before.Version, after.Version)
	}
	db := c.New(t)
	items(t, db)
	pool, proxy := proxied(t, db)
	node, table := quiet(t, pool)
	readers(t, node, table)
	conn := db.Conn(t)
	run(t, conn, "do $$ begin for i in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end $$")
	move(t, conn, 1, 2, 5)
	barrier(t, node)
	last := lastXid(t, conn)
	m := &moved{proxy: proxy, node: node, table: table, changes: subscribe(t, table), had: held(table), db: other.Has(db)}
	proxy.Stop()
	for _, cluster := range []*pgtest.Cluster{c, other} {
		if err := cluster.Halt(pgserver.Fast); err != nil {
			t.Fatal(err)
		}
	}
	upgrade(t, c, other)
	if err := other.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	there := m.db.Conn(t)
	if has, next := lastXid(t, there), highestXid(t, there); has != last || next < last {
		t.Fatalf("the outbox ends at transaction %d and ended at %d, the cluster is at %d: pg_upgrade did not keep them", has, last, next)
	}
	m.wantRefusedUntilANewHistory(t)
}
