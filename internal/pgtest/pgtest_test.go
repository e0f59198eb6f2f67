package pgtest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, pgtest.With("max_prepared_transactions", "20")) }

// querier is a pool or a connection.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func text(t *testing.T, q querier, sql string, args ...any) string {
	t.Helper()
	var got string
	if err := q.QueryRow(t.Context(), sql, args...).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func TestEveryTestHasADatabaseOfItsOwnInOneCluster(t *testing.T) {
	a, b := pgtest.New(t), pgtest.New(t)
	a.Exec(t, "CREATE TABLE only_here (n int); INSERT INTO only_here VALUES (1)")
	if got := text(t, b.Conn(t), "SELECT (to_regclass('only_here') IS NULL)::text"); got != "true" {
		t.Error("a table made in one database is in the other")
	}
	if a.Server() != b.Server() || a.Server() != pgtest.Server(t) {
		t.Error("two databases are in two clusters")
	}
}

func TestTheSettingsOfMainReachTheServer(t *testing.T) {
	if got := text(t, pgtest.New(t).Conn(t), "SHOW max_prepared_transactions"); got != "20" {
		t.Errorf("max_prepared_transactions is %s, want 20", got)
	}
}

func TestDatabaseAndRolesAreGoneAfterTheTestWhoeverIsStillConnected(t *testing.T) {
	var db *pgtest.DB
	var owner, group pgtest.Role
	var left *pgx.Conn
	t.Run("user", func(t *testing.T) {
		db = pgtest.New(t)
		owner, group = db.Role(t, "CREATEDB"), db.Role(t, "nologin")
		db.Exec(t, "GRANT CREATE ON SCHEMA public TO "+owner.Name+"; GRANT "+group.Name+" TO "+owner.Name)
		var err error
		if left, err = pgx.Connect(t.Context(), db.DSNAs(owner)); err != nil {
			t.Fatal(err)
		}
		if _, err := left.Exec(t.Context(), "CREATE TABLE mine (n int); BEGIN; LOCK TABLE mine"); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = left.Close(context.Background()) }()
	after := pgtest.New(t).Conn(t)
	if got := text(t, after, "SELECT count(*)::text FROM pg_database WHERE datname = $1", db.Name); got != "0" {
		t.Error("the database is still there")
	}
	if got := text(t, after, "SELECT count(*)::text FROM pg_roles WHERE rolname IN ($1, $2)", owner.Name, group.Name); got != "0" {
		t.Error("a role is still there")
	}
}

func TestARoleHasItsAttributesAndNoMore(t *testing.T) {
	db := pgtest.New(t)
	plain, creator := db.Role(t), db.Role(t, "CREATEROLE", "CONNECTION LIMIT 3")
	const attributes = `SELECT concat_ws(' ', current_user, rolsuper, rolcreaterole, rolconnlimit) FROM pg_roles WHERE rolname = current_user`
	if got, want := text(t, db.PoolAs(t, plain), attributes), plain.Name+" f f -1"; got != want {
		t.Errorf("plain role: %s, want %s", got, want)
	}
	if got, want := text(t, db.ConnAs(t, creator), attributes), creator.Name+" f t 3"; got != want {
		t.Errorf("role with attributes: %s, want %s", got, want)
	}
	_, err := pgx.Connect(t.Context(), db.DSNAs(db.Role(t, "NOLOGIN")))
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "28000" {
		t.Errorf("a role without login: %v, want error 28000", err)
	}
}

func TestPoolIsTheSuperusersAndTakesChanges(t *testing.T) {
	p := pgtest.New(t).Pool(t, func(c *pgxpool.Config) {
		c.MaxConns = 2
		c.ConnConfig.RuntimeParams["application_name"] = "changed"
	})
	if got := text(t, p, "SELECT concat_ws(' ', current_user, current_setting('application_name'))"); got != pgserver.Superuser+" changed" {
		t.Errorf("pool of %q", got)
	}
	if p.Config().MaxConns != 2 {
		t.Errorf("%d connections at most, want 2", p.Config().MaxConns)
	}
}

func TestOwnClusterMayBeKilledWhileTheSharedOneGoesOn(t *testing.T) {
	shared := pgtest.New(t).Conn(t)
	own := pgtest.Own(t, pgtest.With("wal_level", "logical"))
	db := own.New(t)
	role := db.Role(t)
	db.Exec(t, "CREATE TABLE kept AS SELECT 'kept' AS what; GRANT SELECT ON kept TO "+role.Name)
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := text(t, shared, "SELECT 'here'"); got != "here" {
		t.Error(got)
	}
	if _, err := pgx.Connect(t.Context(), db.DSN()); err == nil {
		t.Error("a killed server takes connections")
	}
	if err := own.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := text(t, db.ConnAs(t, role), "SELECT what || ' ' || current_setting('wal_level') FROM kept"); got != "kept logical" {
		t.Errorf("after the restart: %s", got)
	}
}

// envChild makes the test below run in a child process whose failure is looked at.
const envChild = "PGTEST_CHILD"

func TestWithoutAServerATestFailsAndSaysWhatIsMissing(t *testing.T) {
	if os.Getenv(envChild) != "" {
		pgtest.New(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), envChild+"=1", pgserver.EnvBin+"=/no/such/place")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("exit: %v, want status 1", err)
	}
	for _, want := range []string{"--- FAIL: " + t.Name(), pgserver.EnvBin + ": /no/such/place is not a directory", "initdb, pg_ctl, postgres"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}
