package doctor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/doctor"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

func TestMain(m *testing.M) {
	pgtest.Main(m, pgtest.With("max_prepared_transactions", "10"), pgtest.With("wal_level", "logical"))
}

var quiet = slog.New(slog.DiscardHandler)

// patient are thresholds that nothing else on a test's server passes.
var patient = doctor.Options{Long: time.Hour}

// rig is a database in which table a is captured, without the bell.
type rig struct {
	*pgtest.DB
	t    *testing.T
	pool *pgxpool.Pool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key, v text)")
	r := &rig{db, t, db.Pool(t)}
	r.install(triggers.BellOff)
	return r
}

func (r *rig) install(bell triggers.Bell) {
	r.t.Helper()
	if err := triggers.Install(r.t.Context(), r.pool, triggers.Options{Bell: bell, Logger: quiet}, "public.a"); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) examine(pool *pgxpool.Pool, o doctor.Options) *doctor.Report {
	r.t.Helper()
	report, err := doctor.Examine(r.t.Context(), pool, o)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.What == "" || f.Why == "" || strings.Contains(f.What+f.Why+f.Mend, "\n") || (f.Mend == "" && f.Level != doctor.Note) {
			r.t.Errorf("a finding has not one line each of what, why and mend: %+v", f)
		}
	}
	return report
}

// open is a session with a transaction in it, which ends with the test.
func (r *rig) open(db *pgtest.DB, sql string) *pgx.Conn {
	r.t.Helper()
	conn := db.Conn(r.t)
	if _, err := conn.Exec(r.t.Context(), sql); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// find is the first finding of a check that says so.
func find(report *doctor.Report, check, what string) *doctor.Finding {
	for _, f := range report.Findings {
		if f.Check == check && strings.Contains(f.What, what) {
			return &f
		}
	}
	return nil
}

func TestAServerAndAnInstallThatAreAsTheyShouldBeHaveNothingToMend(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "insert into a values (1, 'x')")
	report := r.examine(r.pool, patient)
	if report.Count(doctor.Wrong)+report.Count(doctor.Warning)+report.Count(doctor.Unseen) != 0 || !report.Installed || len(report.Checked) != 18 {
		t.Errorf("%+v", report)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

// A state that bites, the finding that it must lead to, and its end.
type state struct {
	name  string
	bring func(r *rig) (mend func()) // nil: the finding's own mend is run as SQL
	o     doctor.Options
	check string
	level doctor.Level
	what  string // of the finding
	mend  string
}

func sql(s string) func(*rig) func() {
	return func(r *rig) func() { r.Exec(r.t, s); return nil }
}

// then brings a state by SQL that something else ends.
func then(s string, mend func(r *rig)) func(*rig) func() {
	return func(r *rig) func() { r.Exec(r.t, s); return func() { mend(r) } }
}

func reinstall(r *rig)        { r.install(triggers.BellDefault) }
func run(s string) func(*rig) { return func(r *rig) { r.Exec(r.t, s) } }

// session brings a state by a transaction that stays open.
func session(s string) func(*rig) func() {
	return func(r *rig) func() { r.open(r.DB, s); return nil }
}

var states = []state{
	{"a trigger is disabled", then("alter table a disable trigger lockstep_update", reinstall), patient, "drift", doctor.Wrong, "public.a: trigger disabled", "lockstep install --table public.a"},
	{"a trigger fires at the origin only", then("alter table a enable trigger lockstep_update", reinstall), patient, "drift", doctor.Wrong, "trigger not ALWAYS", "lockstep install --table public.a"},
	{"a trigger fires in replicas only", then("alter table a enable replica trigger lockstep_update", reinstall), patient, "drift", doctor.Wrong, "trigger not ALWAYS", "lockstep install --table public.a"},
	{"a trigger is gone", then("drop trigger lockstep_delete on a", reinstall), patient, "drift", doctor.Wrong, "lockstep_delete is missing", "lockstep install"},
	{"a column that is left out has another name", func(r *rig) func() {
		leaveOut := func(columns ...string) {
			if err := triggers.Install(r.t.Context(), r.pool, triggers.Options{Logger: quiet, ExcludeColumns: map[string][]string{"public.a": columns}}); err != nil {
				r.t.Fatal(err)
			}
		}
		leaveOut("v")
		r.Exec(r.t, "alter table a rename v to w")
		return func() { r.Exec(r.t, "alter table a rename w to v"); leaveOut() }
	}, patient, "drift", doctor.Warning, "is called w now", "lockstep install --table public.a"},
	{"the bell has no trigger", func(r *rig) func() {
		r.install(triggers.BellNotify)
		r.Exec(r.t, "drop trigger lockstep_announce on lockstep.outbox")
		return func() { r.install(triggers.BellNotify) }
	}, patient, "drift", doctor.Warning, "the bell is notify, but its trigger is missing", "lockstep install --bell notify"},
	{"another cluster's outbox", then("update lockstep.meta set system_identifier = 1", func(r *rig) {
		if err := triggers.NewHistory(r.t.Context(), r.pool, triggers.Options{Logger: quiet}); err != nil {
			r.t.Fatal(err)
		}
	}), patient, "a node's session", doctor.Wrong, "the outbox was made in another cluster", "see the refusal"},
	{"the bell where transactions are prepared", func(r *rig) func() {
		r.install(triggers.BellNotify)
		return func() { r.install(triggers.BellOff) }
	}, patient, "two-phase commit", doctor.Warning, "max_prepared_transactions is 10", "lockstep install --bell off"},
	{"an orphaned prepared transaction", func(r *rig) func() {
		r.open(r.DB, "begin; insert into a values (7); prepare transaction 'orphan'")
		return func() { r.Exec(r.t, "rollback prepared 'orphan'") }
	}, doctor.Options{Long: time.Nanosecond}, "prepared transactions", doctor.Warning, "'orphan'", "ROLLBACK PREPARED 'orphan'"},
	{"an idle transaction that has written", session("begin; insert into a values (8)"), doctor.Options{Long: time.Nanosecond},
		"long transactions", doctor.Warning, "idle in transaction", "SELECT pg_terminate_backend("},
	{"an idle transaction with a snapshot", session("begin isolation level repeatable read; select from a"), doctor.Options{Long: time.Nanosecond},
		"long transactions", doctor.Warning, "idle in transaction", "SELECT pg_terminate_backend("},
	{"a database whose sessions are replicas", func(r *rig) func() {
		r.Exec(r.t, "alter database "+r.Name+" set session_replication_role = replica")
		return nil
	}, patient, "replication role", doctor.Wrong, "for all roles", "RESET session_replication_role"},
	{"a publication for all tables", then("create publication every for all tables", run("drop publication every")), patient,
		"publications", doctor.Warning, "publication every is FOR ALL TABLES", "publish tables by name"},
	{"a publication of the outbox", then("create publication odd for table lockstep.outbox", run("drop publication odd")), patient,
		"publications", doctor.Warning, "publication odd carries the outbox", "publish tables by name"},
	{"a slot that nobody reads", func(r *rig) func() {
		slot := "slot_" + r.Name
		r.Exec(r.t, "select pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
		r.t.Cleanup(func() {
			r.Exec(r.t, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '"+slot+"'")
		})
		r.Exec(r.t, "insert into a select i from generate_series(1, 1000) i")
		return nil
	}, doctor.Options{Long: time.Hour, MaxWAL: 1000}, "old snapshots", doctor.Warning, "nobody reads logical replication slot slot_test", "SELECT pg_drop_replication_slot('"},
	{"a notification queue that nobody empties", func(r *rig) func() {
		conn := r.open(r.DB, "listen nothing")
		if _, err := conn.Exec(r.t.Context(), "begin; select 1"); err != nil {
			r.t.Fatal(err)
		}
		for range 5 {
			r.Exec(r.t, "select pg_notify('nothing', repeat('x', 7000))")
		}
		return func() {
			_ = conn.Close(context.Background())
			r.Exec(r.t, "listen nothing; notify nothing") // the next to notify empties it
		}
	}, doctor.Options{Long: time.Hour, QueueUse: 1e-7}, "notification queue", doctor.Warning, "% full", "end the session"},
	{"somebody holds the bell", session("begin; select pg_advisory_xact_lock((1819239275::bigint << 32) | 'lockstep.outbox'::regclass::oid::bigint)"), patient,
		"bell", doctor.Warning, "has held the bell", "SELECT pg_terminate_backend("},
	{"row-level security", then("alter table a enable row level security", run("alter table a disable row level security")), patient,
		"row-level security", doctor.Note, "table public.a has row-level security", "BYPASSRLS"},
	{"a node that has gone", then("insert into lockstep.nodes (name, position, state, beat) values ('lost-1', '900000:900000:', 'live', now() - interval '3 hours')", run("delete from lockstep.nodes")), patient,
		"nodes", doctor.Warning, "node lost-1 (live) has not been seen for 3h0m", "DELETE FROM"},
	{"a node before the horizon", then(`insert into lockstep.nodes (name, position, state) values ('late-1', '3:3:', 'stale'); update lockstep.horizon set xid = '4'`, run("delete from lockstep.nodes")), patient,
		"nodes", doctor.Warning, "stands before the horizon", "DELETE FROM"},
	{"a node that is behind", then(`insert into a values (1); update lockstep.outbox set at = at - interval '20 hours'; insert into lockstep.nodes (name, position, state) values ('slow-1', '3:3:', 'catching up')`,
		run("delete from lockstep.nodes")), patient, "nodes", doctor.Warning, "node slow-1 (catching up) is 20h0m", "own status and log"},
	{"a node that is stale", then("insert into lockstep.nodes (name, position, state) values ('web-1', '900000:900000:', 'stale')", run("delete from lockstep.nodes")), patient,
		"nodes", doctor.Warning, "node web-1 says that it is stale", "own status and log"},
	{"nobody trims", func(r *rig) func() {
		r.Exec(r.t, "insert into lockstep.outbox (table_name, op, lead, at) values ('public.a', 'T', false, now() - interval '3 days')")
		r.Exec(r.t, "do $$ begin for i in 1..1000 loop insert into a values (i); end loop; end $$")
		return func() {
			if _, err := outbox.Trim(r.t.Context(), r.pool, outbox.TrimOptions{}); err != nil {
				r.t.Fatal(err)
			}
		}
	}, patient, "trimming", doctor.Warning, "events that are 72h0m", "lockstep trim"},
	{"autovacuum is off for the outbox", sql("alter table lockstep.outbox set (autovacuum_enabled = false)"), patient,
		"vacuum", doctor.Warning, "autovacuum is off for the outbox", ""},
	{"an outbox that becomes too large", then("insert into a select i from generate_series(1, 1000) i", func(*rig) {}), doctor.Options{Long: time.Hour, MaxOutbox: 1 << 20},
		"growth", doctor.Warning, "events/s", "Config.Retention"},
}

func TestEachStateThatBitesIsFoundAndEndsWithItsMend(t *testing.T) {
	for _, s := range states {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t)
			mend := s.bring(r)
			r.pool.Reset() // a setting of the database holds for new sessions
			f := find(r.examine(r.pool, s.o), s.check, s.what)
			if f == nil || f.Level != s.level || !strings.Contains(f.Mend, s.mend) {
				t.Fatalf("want %s %q, mend %q, got %+v of %+v", s.level, s.what, s.mend, f, r.examine(r.pool, s.o))
			}
			if s.check == "growth" {
				return // its mend is in the application's configuration
			}
			if mend == nil {
				sql, _, _ := strings.Cut(f.Mend, ";")
				sql, _, _ = strings.Cut(sql, ", if")
				mend = func() { r.Exec(t, sql) }
			}
			mend()
			r.pool.Reset()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a terminated session takes a moment
			defer cancel()
			for f = find(r.examine(r.pool, s.o), s.check, s.what); f != nil && f.Level == s.level && ctx.Err() == nil; {
				f = find(r.examine(r.pool, s.o), s.check, s.what)
			}
			if f != nil && f.Level == s.level {
				t.Errorf("after the mend: %+v", f)
			}
		})
	}
}

func TestDeadRowsThatVacuumDoesNotTakeAreCounted(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "alter table lockstep.outbox set (autovacuum_vacuum_threshold = 2000000000)")
	// In one session: of two, each of which tells its own counts when it ends, the second may be the first to, and what
	// Postgres then counts as live stays so.
	r.Exec(t, "do $$ begin for i in 1..500 loop insert into a values (i); end loop; end $$; delete from lockstep.outbox")
	var f *doctor.Finding
	pgtest.Until(t, 4*time.Minute, "500 dead rows", func() bool { // a backend that finds its statistics locked keeps them for a minute
		f = find(r.examine(r.pool, doctor.Options{Long: time.Hour, DeadRows: 400}), "vacuum", "500 dead rows beside 0 live ones")
		return f != nil
	})
	if f.Level != doctor.Warning || !strings.Contains(f.Mend, `VACUUM "lockstep".outbox`) {
		t.Errorf("%+v", f)
	}
}

func TestWhatOtherDatabasesHoldBackIsFoundAndWhatTheyDoNotIsNot(t *testing.T) {
	r := newRig(t)
	other := pgtest.New(t)
	r.open(other, "begin; select pg_current_xact_id()")
	r.open(other, "begin isolation level repeatable read; select count(*) from pg_class")
	report := r.examine(r.pool, doctor.Options{Long: time.Nanosecond})
	n := 0
	for _, f := range report.Findings {
		if slices.ContainsFunc(f.Detail, func(d string) bool { return strings.Contains(d, other.Name) }) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d findings about the other database: %+v", n, report.Findings)
	}
}

func TestATransactionThatHoldsNothingBackIsANote(t *testing.T) {
	r := newRig(t)
	r.open(r.DB, "begin; select 1")
	if f := find(r.examine(r.pool, doctor.Options{Long: time.Nanosecond}), "long transactions", "idle in transaction"); f == nil || f.Level != doctor.Note {
		t.Errorf("%+v", f)
	}
}

func TestATrimmerThatIsHeldUpIsToldByWhom(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "insert into lockstep.outbox (table_name, op, lead, at) values ('public.a', 'T', false, now() - interval '3 days')")
	r.Exec(t, "do $$ begin for i in 1..1000 loop insert into a values (i); end loop; end $$")
	r.Exec(t, "insert into lockstep.nodes (name, position, state) values ('slow-1', '3:3:', 'catching up')")
	f := find(r.examine(r.pool, patient), "trimming", "events that are 72h0m")
	if f == nil || len(f.Detail) != 1 || !strings.Contains(f.Detail[0], "node slow-1 is 72h") {
		t.Errorf("%+v", f)
	}
}

func TestARoleWhoseSessionsAreReplicasIsNamed(t *testing.T) {
	r := newRig(t)
	role := r.Role(t)
	r.Exec(t, "alter role "+role.Name+" set session_replication_role = replica")
	f := find(r.examine(r.pool, patient), "replication role", "for role "+role.Name)
	if f == nil || f.Level != doctor.Wrong {
		t.Fatalf("%+v", f)
	}
	r.Exec(t, f.Mend)
	if f := find(r.examine(r.pool, patient), "replication role", ""); f != nil {
		t.Errorf("after the mend: %+v", f)
	}
	replica := r.Pool(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["session_replication_role"] = "replica" })
	if f := find(r.examine(replica, patient), "replication role", "in a session that asked for nothing"); f == nil || f.Level != doctor.Wrong {
		t.Errorf("%+v", f)
	}
}

func TestATableThatASubscriptionFeedsIsNamed(t *testing.T) {
	r := newRig(t)
	s := "s_" + r.Name
	r.Exec(t, "create publication p for table a")
	slot := "slot_" + r.Name
	r.Exec(t, "select pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
	t.Cleanup(func() { r.Exec(t, "select pg_drop_replication_slot('"+slot+"')") })
	other := &rig{pgtest.New(t), t, nil}
	other.pool = other.Pool(t)
	other.Exec(t, "create table a (id int primary key, v text)")
	other.install(triggers.BellOff)
	other.Exec(t, fmt.Sprintf("create subscription %s connection '%s' publication p with (create_slot = false, slot_name = '%s')", s, r.DSN(), slot))
	t.Cleanup(func() {
		other.Exec(t, "alter subscription "+s+" disable")
		other.Exec(t, "alter subscription "+s+" set (slot_name = none)")
		other.Exec(t, "drop subscription "+s)
	})
	if f := find(other.examine(other.pool, patient), "drift", "public.a: fed by a subscription"); f == nil || f.Level != doctor.Wrong {
		t.Errorf("%+v", f)
	}
	other.install(triggers.BellOff)
	report := other.examine(other.pool, patient)
	if f := find(report, "subscriptions", "subscription "+s+" feeds table public.a"); f == nil || f.Level != doctor.Note || report.Count(doctor.Wrong) > 0 {
		t.Errorf("%+v", report)
	}
}

func TestAReadersGrantsAreEnoughAndWhatIsHiddenIsSaid(t *testing.T) {
	r := newRig(t)
	role := r.Role(t)
	pool := r.PoolAs(t, role)
	report := r.examine(pool, patient)
	if f := find(report, "install", "may not read schema lockstep"); f == nil || f.Level != doctor.Unseen || !strings.Contains(f.Mend, "grants_reader.sql") || report.Installed {
		t.Errorf("without grants: %+v", report)
	}
	grants, err := triggers.Grants(triggers.Options{}, "reader", role.Name)
	if err != nil {
		t.Fatal(err)
	}
	r.Exec(t, grants+"; grant select on a to "+role.Name)
	writer := r.open(r.DB, "begin; insert into a values (1)")
	report = r.examine(pool, doctor.Options{Long: time.Nanosecond})
	if len(report.Checked) != 18 || report.Count(doctor.Wrong)+report.Count(doctor.Warning) != 0 {
		t.Errorf("a reader: %+v", report)
	}
	f := find(report, "long transactions", "sessions of other roles do not show")
	if f == nil || f.Level != doctor.Unseen || len(f.Detail) != 1 || !strings.Contains(f.Detail[0], fmt.Sprintf("is process %d:", writer.PgConn().PID())) {
		t.Fatalf("%+v", report)
	}
	r.Exec(t, f.Mend)
	report = r.examine(pool, doctor.Options{Long: time.Nanosecond})
	if f := find(report, "long transactions", fmt.Sprintf("process %d", writer.PgConn().PID())); f == nil || f.Level != doctor.Warning || report.Count(doctor.Unseen) != 0 {
		t.Errorf("a reader that may look: %+v", report)
	}
	if _, err := writer.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	r.Exec(t, "alter table a enable row level security")
	f = find(r.examine(pool, patient), "row-level security", "hides rows from role "+role.Name)
	if f == nil || f.Level != doctor.Warning {
		t.Fatalf("%+v", f)
	}
}

func TestBeforeTheInstallTheServerIsExamined(t *testing.T) {
	db := pgtest.New(t)
	r := &rig{db, t, db.Pool(t)}
	db.Exec(t, "create publication every for all tables")
	report := r.examine(r.pool, patient)
	if report.Installed || find(report, "install", "there is no schema lockstep") == nil || find(report, "two-phase commit", "") == nil {
		t.Errorf("%+v", report)
	}
	if f := find(report, "publications", "every"); f == nil || !strings.Contains(f.Mend, "--published") {
		t.Errorf("%+v", f)
	}
}

func TestAManagedServerIsKnownByItsAdministratorsRole(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "create role rds_superuser nologin")
	t.Cleanup(func() { r.Exec(t, "drop role rds_superuser") })
	report := r.examine(r.pool, patient)
	if f := find(report, "server", "Amazon RDS"); f == nil || report.Provider != "Amazon RDS or Aurora" || !strings.Contains(f.Why, "docs/operations.md") {
		t.Errorf("%+v", report)
	}
}

func TestASchemaOfAnotherNameIsExaminedAsWell(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key)")
	r := &rig{db, t, db.Pool(t)}
	o := triggers.Options{Schema: `Odd "Schema`, Owner: db.Name + "_owner", Bell: triggers.BellOff, Logger: quiet}
	if err := triggers.Install(t.Context(), r.pool, o, "public.a"); err != nil {
		t.Fatal(err)
	}
	report := r.examine(r.pool, doctor.Options{Schema: o.Schema, Owner: o.Owner, Long: time.Hour})
	if len(report.Checked) != 18 || report.Count(doctor.Wrong)+report.Count(doctor.Warning) != 0 {
		t.Errorf("%+v", report)
	}
	if err := triggers.Uninstall(t.Context(), r.pool, o); err != nil {
		t.Error(err)
	}
}
