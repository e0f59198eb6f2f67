package triggers_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

const installTables = `create table a (id int primary key, v text); create table part (id int, r int, primary key (id, r)) partition by list (r);
	create table part_1 partition of part for values in (1)`

func TestPrintedSQLDoesWhatInstallDoes(t *testing.T) {
	db := pgtest.New(t)
	const odd = "it\nselect 1/0; --"
	db.Exec(t, installTables+"; create table "+pgx.Identifier{odd}.Sanitize()+" (id int, v text, primary key (id) include (v))")
	var sql strings.Builder
	o := triggers.Options{Bell: triggers.BellNotify, Logger: quiet}
	o.Print = &sql
	if err := triggers.Install(t.Context(), db.Pool(t), o, "public.a", "public.part", pgx.Identifier{odd}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	if _, err := triggers.Tables(t.Context(), db.Pool(t), triggers.Options{}); !errors.Is(err, triggers.ErrNotInstalled) {
		t.Fatalf("printing installed something: %v", err)
	}
	db.Program(t, sql.String(), "psql", "-v", "ON_ERROR_STOP=1", "-q", "-d", db.DSN())
	found, err := triggers.Inspect(t.Context(), db.Pool(t), triggers.Options{})
	tracked, listErr := triggers.Tables(t.Context(), db.Pool(t), triggers.Options{})
	if err != nil || listErr != nil || len(found) > 0 || len(tracked) != 3 || slices.ContainsFunc(tracked, func(tab triggers.Table) bool { return slices.Contains(tab.Key, "v") }) {
		t.Errorf("after psql: findings %v (%v), tables %v (%v)", found, err, tracked, listErr)
	}
}

func TestUninstallLeavesTheTablesAsTheyWere(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, installTables+"; create function mine() returns trigger language plpgsql as 'begin return null; end'; create trigger mine after insert on a for each row execute function mine()")
	dump := func() string {
		// The lines with a random key differ in every dump.
		lines := strings.Split(db.Program(t, "", "pg_dump", "-s", "-d", db.DSN()), "\n")
		return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, `\`) }), "\n")
	}
	before := dump()
	pool := db.Pool(t)
	o := triggers.Options{Schema: `od"d %s`, Owner: "lockstep_owner_of_a_test", Logger: quiet}
	for range 2 { // installing again changes nothing
		if err := triggers.Install(t.Context(), pool, o, "public.a", "public.part"); err != nil {
			t.Fatal(err)
		}
	}
	if dump() == before {
		t.Fatal("installing changed nothing")
	}
	db.Exec(t, "insert into a values (1); insert into part values (1, 1)")
	if err := triggers.Uninstall(t.Context(), pool, o); err != nil {
		t.Fatal(err)
	}
	if after := dump(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	var left bool
	if err := pool.QueryRow(t.Context(), "select exists (select from pg_roles where rolname = 'lockstep_owner_of_a_test')").Scan(&left); err != nil || left {
		t.Errorf("the owner is left: %v, %v", left, err)
	}
	if err := triggers.Uninstall(t.Context(), pool, o); !errors.Is(err, triggers.ErrNotInstalled) {
		t.Errorf("uninstall of nothing: %v", err)
	}
}

func TestInspectNamesEachDriftAndInstallMendsIt(t *testing.T) {
	for kind, sql := range map[string]string{
		"trigger missing": "drop trigger lockstep_delete on a", "trigger disabled": "alter table a disable trigger lockstep_insert",
		"trigger not ALWAYS":        "alter table a enable trigger lockstep_update",
		"partition without capture": "create table part_2 partition of part for values in (2)",
		"key changed":               "alter table a drop constraint a_pkey; alter table a alter v set not null; alter table a add primary key (v)",
		"owner cannot read":         "revoke select on a from lockstep_capture",
		"wrong owner":               "alter function lockstep.capture() owner to postgres",
		"renamed":                   "alter table a rename to a2",
	} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, installTables, "public.a", "public.part")
			if found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{}); err != nil || len(found) > 0 {
				t.Fatalf("fresh: %v, %v", found, err)
			}
			r.Exec(t, sql)
			found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
			if err != nil || !slices.ContainsFunc(found, func(f triggers.Finding) bool { return f.Kind == kind && f.Mend != "" }) {
				t.Fatalf("%v, %v", found, err)
			}
			table := "public.a"
			if kind == "renamed" {
				table = "public.a2"
			}
			r.install(t, table, "public.part")
			if found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{}); err != nil || len(found) > 0 {
				t.Errorf("mended: %v, %v", found, err)
			}
		})
	}
}

// Postgres' functions on partitions look past the snapshot that the catalogue is read in.
func TestAPartitionThatIsYoungerThanTheSnapshotIsNoFinding(t *testing.T) {
	r := newRig(t, installTables, "public.a", "public.part")
	old, err := r.Conn(t).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Exec(t.Context(), "select from a"); err != nil {
		t.Fatal(err)
	}
	r.Exec(t, "create table part_2 partition of part for values in (2)")
	if err := triggers.Check(t.Context(), old, triggers.Options{}, "public.a"); err != nil {
		t.Error(err)
	}
	if err := old.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestInspectNamesAnotherClusterAndANewHistoryMendsIt(t *testing.T) {
	r := newRig(t, installTables, "public.a")
	r.Exec(t, "insert into a values (1); update lockstep.meta set system_identifier = 1")
	found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
	if err != nil || len(found) != 1 || found[0].Kind != "another cluster" || !strings.Contains(found[0].Mend, "--new-history") {
		t.Fatalf("%v, %v", found, err)
	}
	if err := triggers.NewHistory(t.Context(), r.pool, triggers.Options{}); err != nil {
		t.Fatal(err)
	}
	if found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{}); err != nil || len(found) > 0 || len(r.events(t)) != 0 {
		t.Errorf("%v, %v, %d events left", found, err, len(r.events(t)))
	}
}

func TestInstallGivesUpBehindALongWriterAndLetsOthersWrite(t *testing.T) {
	r := newRig(t, installTables)
	long, err := r.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := long.Exec(t.Context(), "insert into a values (1)"); err != nil {
		t.Fatal(err)
	}
	o := triggers.Options{LockTimeout: 50 * time.Millisecond, Retries: 1, Logger: quiet}
	if err := triggers.Install(t.Context(), r.pool, o, "public.a"); !errors.Is(err, triggers.ErrLocked) {
		t.Errorf("behind a long writer: %v", err)
	}
	r.Exec(t, "insert into a values (2)") // nobody is in the way
	o.Retries = 1000
	done := make(chan error, 1)
	go func() { done <- triggers.Install(context.WithoutCancel(t.Context()), r.pool, o, "public.a") }()
	if err := long.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("once the writer has ended: %v", err)
	}
}

func TestBellRingsOnceATransactionAndForbidsOnlyPreparing(t *testing.T) {
	r := newRig(t, "create table a (id int primary key)", "public.a")
	const twoPhase = "begin; insert into a values (%); prepare transaction 'lockstep %'"
	r.Exec(t, strings.ReplaceAll(twoPhase, "%", "1"))
	r.Exec(t, "commit prepared 'lockstep 1'")
	on := triggers.Options{Bell: triggers.BellNotify, Logger: quiet}
	if err := triggers.Install(t.Context(), r.pool, on); err != nil {
		t.Fatal(err)
	}
	listener := r.Conn(t)
	if _, err := listener.Exec(t.Context(), "select set_config('x.y', ('lockstep_' || 'lockstep.outbox'::regclass::oid), false)"); err != nil {
		t.Fatal(err)
	}
	var channel string
	if err := listener.QueryRow(t.Context(), "select current_setting('x.y')").Scan(&channel); err != nil {
		t.Fatal(err)
	}
	if _, err := listener.Exec(t.Context(), "listen "+channel+"; listen ended"); err != nil {
		t.Fatal(err)
	}
	r.Exec(t, "begin; insert into a values (10); insert into a values (11); savepoint s; insert into a values (12); rollback to s; commit")
	r.Exec(t, "begin; insert into a values (13); rollback")
	r.Exec(t, "notify ended")
	var heard []string
	for {
		n, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Channel == "ended" {
			break
		}
		heard = append(heard, n.Payload)
	}
	var lead string
	if err := r.pool.QueryRow(t.Context(), "select max(seq)::text from lockstep.outbox where lead").Scan(&lead); err != nil {
		t.Fatal(err)
	}
	if len(heard) != 1 || heard[0] != lead {
		t.Errorf("heard %q, want the number of the leading event, %s", heard, lead)
	}
	if err := tries(t, r.pool, strings.ReplaceAll(twoPhase, "%", "20")); !strings.Contains(err, "PREPARE") {
		t.Errorf("PREPARE TRANSACTION with the bell on: %q", err)
	}
}

func TestNobodyWaitsForTheBell(t *testing.T) {
	r := newRig(t, "create table a (id int primary key)", "public.a")
	if err := triggers.Install(t.Context(), r.pool, triggers.Options{Bell: triggers.BellNotify, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	holder, err := r.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"insert into a values (1)", "set constraints all immediate"} {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	r.Exec(t, "set statement_timeout = '20s'; insert into a values (2)") // would wait for the holder for ever
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What an earlier version has left is in nobody's way: neither its functions nor the lack of its successor's tables.
func TestAnInstallOfAnEarlierVersionIsBroughtUpToDate(t *testing.T) {
	r := newRig(t, installTables, "public.part")
	r.Exec(t, "drop table lockstep.left_out; create function lockstep.reread_sql(oid, text[], text) returns text language sql as $$ select 'no SQL' $$")
	var sql strings.Builder
	if err := triggers.Install(t.Context(), r.pool, triggers.Options{Logger: quiet, Print: &sql}, "public.part"); err != nil {
		t.Errorf("printed: %v", err)
	}
	r.install(t, "public.part")
	if found := r.list(t, "select p.oid::regprocedure::text from pg_proc p where proname = 'reread_sql' and pronamespace = 'lockstep'::regnamespace order by 1"); len(found) != 2 {
		t.Errorf("its functions are %q", found)
	}
	r.Exec(t, "insert into part values (1, 1); update part set id = 2")
	r.wantFold(t, "after it")
}
