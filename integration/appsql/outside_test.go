package appsql

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// install puts capture with the bell on tables, in the captured half of a test.
func install(t *testing.T, db *pgtest.DB, captured bool, tables ...string) {
	t.Helper()
	if !captured {
		return
	}
	if err := triggers.Install(t.Context(), db.Pool(t), triggers.Options{Bell: triggers.BellNotify, Published: true, Logger: silent}, tables...); err != nil {
		t.Fatal(err)
	}
}

// NOTIFY takes one lock in the whole cluster until the commit is done. A commit that rings waits for one of the
// application's own (or of another database's) that is still waiting for a synchronous standby; lock_timeout counts that.
func TestACommitThatRingsCanWaitForAnotherThatNotifiesAndWithoutTheBellItDoesNot(t *testing.T) {
	c := pgtest.Own(t, pgtest.With("synchronous_standby_names", "nobody"), pgtest.With("synchronous_commit", "local"))
	for _, bell := range []triggers.Bell{"", triggers.BellNotify, triggers.BellOff} {
		db := c.New(t)
		db.Exec(t, "create table a (id int primary key); create table log (n int)")
		if bell != "" {
			if err := triggers.Install(t.Context(), db.Pool(t), triggers.Options{Bell: bell, Logger: silent}, "public.a"); err != nil {
				t.Fatal(err)
			}
		}
		stalled, writer := db.Conn(t), db.Conn(t)
		pid, ended := stalled.PgConn().PID(), make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = stalled.Exec(t.Context(), "set synchronous_commit = on; insert into log values (1); notify own") // the connection ends under it
		}()
		monitor := db.Pool(t)
		until(t, "the application's own NOTIFY waits for its standby", func() bool {
			var waits bool
			err := monitor.QueryRow(t.Context(), "select wait_event = 'SyncRep' from pg_stat_activity where pid = $1 and wait_event is not null", pid).Scan(&waits)
			return err == nil && waits
		})
		_, err := writer.Exec(t.Context(), "set lock_timeout = '100ms'")
		if err == nil {
			_, err = writer.Exec(t.Context(), "insert into a values (1)")
		}
		var pgErr *pgconn.PgError
		failed := errors.As(err, &pgErr) && pgErr.Code == "55P03"
		if failed != (bell == triggers.BellNotify) || !failed && err != nil {
			t.Errorf("bell %q, behind a NOTIFY that stalls: %v", bell, err)
		}
		if _, err := monitor.Exec(t.Context(), "select pg_terminate_backend($1)", pid); err != nil {
			t.Fatal(err)
		}
		<-ended
		if _, err := writer.Exec(t.Context(), "insert into a values (2)"); err != nil {
			t.Errorf("bell %q, afterwards: %v", bell, err)
		}
	}
}

// A publication FOR ALL TABLES publishes the outbox, and a subscriber that has no such table stops.
func TestAPublicationForAllTablesPublishesTheOutboxAndOneOfASchemaDoesNot(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key); create publication everything for all tables; create publication named for table a")
	install(t, db, true, "public.a")
	published := func(publication string) []string {
		t.Helper()
		var names []string
		err := db.Pool(t).QueryRow(t.Context(), "select array_agg(schemaname || '.' || tablename order by 1) from pg_publication_tables where pubname = $1", publication).Scan(&names)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	if got := published("everything"); !slices.Contains(got, "lockstep.outbox") {
		t.Errorf("FOR ALL TABLES publishes %q", got)
	}
	if got := published("named"); !slices.Equal(got, []string{"public.a"}) {
		t.Errorf("a publication of its tables publishes %q", got)
	}
	if pgtest.Server(t).Version() >= 150000 {
		db.Exec(t, "create publication schema_only for tables in schema public")
		if got := published("schema_only"); !slices.Equal(got, []string{"public.a"}) {
			t.Errorf("a publication of a schema publishes %q", got)
		}
	}
}

// program is one of the programs that come with the server, or with a client package of its version.
func program(t *testing.T, name string) string {
	t.Helper()
	dirs := []string{pgtest.Server(t).Binaries().Dir}
	for _, dir := range dirs {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
	}
	t.Skipf("not run: %s is not in %s: install the client programs of the server's version there (Debian: apt install postgresql-client)", name, dirs[0])
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func dump(t *testing.T, pgDump, dsn string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), pgDump, append(args, "--dbname", dsn)...).CombinedOutput()
	return string(out), err
}

// A dump of one table has the triggers and not the functions that they run: what it is restored into says that they
// are missing, and has the table and its rows all the same.
func TestADumpOfOneTableHasItsTriggersAndIsRestoredWithoutThem(t *testing.T) {
	pgDump, psql := program(t, "pg_dump"), program(t, "psql")
	db, target := pgtest.New(t), pgtest.New(t)
	db.Exec(t, "create table a (id int primary key); insert into a values (1)")
	install(t, db, true, "public.a")
	text, err := dump(t, pgDump, db.DSN(), "--table", "public.a", "--no-privileges")
	if err != nil || !strings.Contains(text, "CREATE TRIGGER lockstep_insert") {
		t.Fatalf("%v\n%s", err, text)
	}
	cmd := exec.CommandContext(t.Context(), psql, "-X", "-q", "--dbname", target.DSN())
	cmd.Stdin = strings.NewReader(text)
	said, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(said), `schema "lockstep" does not exist`) != 4 {
		t.Errorf("restored: %v\n%s", err, said)
	}
	var rows int
	if err := target.Pool(t).QueryRow(t.Context(), "select count(*) from a").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
	target.Exec(t, "insert into a values (2)")
}

// A role that may read every table of the application's, and dumps the database, may not read the outbox.
func TestADumpByARoleWithoutRightsOnTheSchemaLeavesItOut(t *testing.T) {
	pgDump := program(t, "pg_dump")
	db := pgtest.New(t)
	role := db.Role(t)
	db.Exec(t, "create table a (id int primary key); insert into a values (1); grant select on a to "+role.Name)
	if out, err := dump(t, pgDump, db.DSNAs(role)); err != nil {
		t.Fatalf("before install: %v\n%s", err, out)
	}
	install(t, db, true, "public.a")
	if out, err := dump(t, pgDump, db.DSNAs(role)); err == nil || !strings.Contains(out, "permission denied") {
		t.Errorf("a dump of the whole database: %v\n%s", err, out)
	}
	if out, err := dump(t, pgDump, db.DSNAs(role), "--exclude-schema", "lockstep"); err != nil || !strings.Contains(out, "COPY public.a") {
		t.Errorf("a dump without the schema: %v\n%s", err, out)
	}
}
