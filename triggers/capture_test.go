package triggers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/triggers"
)

func TestEachStatementIsCapturedAsItIs(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	for _, sql := range []string{
		"insert into a values (1, 'x'), (2, 'y')", "update a set v = 'z' where id = 1", "delete from a where id = 2",
		"insert into a values (1, 'up'), (3, 'new') on conflict (id) do update set v = excluded.v", "truncate a",
	} {
		r.Exec(t, sql)
	}
	want := []string{
		`I {"id":1,"v":"x"}`, `I {"id":2,"v":"y"}`, `U {"id":1,"v":"z"}`, `D {"id":2,"v":"y"}`,
		`U {"id":1,"v":"up"}`, `U {"id":3,"v":"new"}`, `T`,
	}
	got := r.short(t)
	// Of an upsert's two captures one comes second and writes what is there: their order is Postgres' own.
	slices.Sort(got[4:6])
	if !slices.Equal(got, want) {
		t.Errorf("captured %q, want %q", got, want)
	}
	r.wantFold(t, "everything")
}

func TestStatementThatChangesNothingLeavesNothing(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	conn := r.Conn(t)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var xid *string
	for _, sql := range []string{"update a set v = 'x'", "delete from a", "insert into a select 1, 'x' where false"} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.QueryRow(t.Context(), "select pg_current_xact_id_if_assigned()::text").Scan(&xid); err != nil || xid != nil {
		t.Errorf("three statements without a row drew transaction %v, %v", xid, err)
	}
	if _, err := tx.Exec(t.Context(), "insert into a values (1, 'x')"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := r.events(t); len(e) != 1 || !e[0].Lead {
		t.Errorf("the first row that changed must lead: %+v", e)
	}
}

func TestLeadGoesBackWithASavepointAndXidStaysTheTopLevelOne(t *testing.T) {
	r := newRig(t, "create table a (id int primary key)", "public.a")
	tx, err := r.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var xid uint64
	for _, sql := range []string{
		"savepoint s", "insert into a values (1)", "rollback to s", "insert into a values (2)", "savepoint s2", "insert into a values (3)", "release s2", "insert into a values (4)",
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.QueryRow(t.Context(), "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	leads := 0
	for i, e := range r.events(t) {
		if e.Xid != xid {
			t.Errorf("event %+v is not of the top-level transaction %d", e, xid)
		}
		if e.Lead {
			leads++
			if i != 0 {
				t.Errorf("event %d leads", i)
			}
		}
	}
	if leads != 1 {
		t.Errorf("%d events lead", leads)
	}
}

// scenarios change rows in another order than they are captured.
var scenarios = map[string]string{
	"an AFTER row trigger updates its own row": `
		create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() < 2 then update a set v = v + 1 where id = new.id; end if; return null; end $$;
		create trigger aaa after insert or update on a for each row execute function f();
		insert into a values (1, 1), (2, 2); update a set v = v + 10`,
	"an AFTER row trigger deletes and inserts again": `
		create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() < 2 then delete from a where id = new.id; insert into a values (new.id, new.v * 100); end if; return null; end $$;
		create trigger zzz after insert or update on a for each row execute function f();
		insert into a values (1, 1), (2, 2); update a set v = v + 1 where id = 1`,
	"a BEFORE trigger updates another row, which the statement updates as well": `
		create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() < 2 and new.id = 1 then update a set v = 77 where id = 3; end if; return new; end $$;
		create trigger aaa before update on a for each row execute function f();
		insert into a values (1, 1), (2, 2), (3, 3); update a set v = v + 1 where id <> 3; update a set v = v + 1`,
	"an AFTER row trigger deletes what comes, later in the transaction": `
		create function f() returns trigger language plpgsql as $$ begin delete from a where id = new.id; return null; end $$;
		create trigger aaa after insert on a for each row execute function f();
		begin; insert into p values (1); insert into a values (1, 1), (2, 2); commit`,
	"an AFTER statement trigger re-keys": `
		create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() < 2 then update a set id = id + 100 where id < 100; end if; return null; end $$;
		create trigger aaa after insert on a for each statement execute function f();
		insert into a values (1, 1), (2, 2); insert into a values (3, 5)`,
	"a function in the query writes the table": `
		create function f(k int) returns int language plpgsql as $$ begin update a set v = v + 1 where id = k; insert into a values (k + 10, 0) on conflict (id) do update set v = 9; return 5; end $$;
		insert into a values (1, 1), (2, 2); update a set v = f(2) where id = 1; insert into a select 3, f(1)`,
	"a WITH deletes and inserts": `
		insert into a values (1, 1), (2, 2);
		with d as (delete from a where id = 1 returning *) insert into a select id + 2, v from d;
		with d as (delete from a where id = 2 returning *), i as (insert into a values (5, 5) returning id) update a set v = 8 where id = 3`,
	"a deferred trigger writes at commit": `
		create function f() returns trigger language plpgsql as $$ begin update a set v = v + 1 where id = new.id; return null; end $$;
		create constraint trigger aaa after insert on a deferrable initially deferred for each row execute function f();
		begin; insert into a values (1, 1); insert into a values (2, 2); update a set v = 0; commit`,
	"a trigger resets all settings": `
		create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() < 2 then update a set v = v + 1 where id = new.id; update p set id = id + 1; reset all; insert into p values (new.v * 10); end if; return null; end $$;
		create trigger aaa after insert or update on a for each row execute function f();
		insert into p values (1000);
		insert into a values (1, 1), (2, 2); update a set v = v + 10; begin; update a set v = v + 20 where id = 1; reset all; update a set v = v + 30; commit`,
	"a function in the query resets all settings": `
		create function f(k int) returns int language plpgsql as $$ begin update p set id = id + k; update part set v = v + 1; reset all; insert into tree values (k, null); return 5; end $$;
		insert into p values (1); insert into part values (1, 1), (2, 2);
		insert into part select 3, 1, f(2); insert into p select f(50); update tree set id = f(60) where id = 2`,
	"two foreign keys cascade into one table": `
		insert into p values (1), (2); insert into c values (1, 1, 1), (2, 1, 2), (3, 2, 1); delete from p where id = 1; update p set id = 7 where id = 2`,
	"both parts of a key cascade": `
		insert into pa values (1), (2); insert into pb values (1), (2); insert into pair select a, b, 0 from pa, pb;
		with x as (update pa set a = a + 10 returning a) update pb set b = b + 10; update pa set a = a - 10`,
	"a table cascades into itself": `
		insert into tree values (1, null), (2, 1), (3, 2), (4, 1); update tree set id = 10 where id = 1; delete from tree where id = 2; delete from tree`,
	"one message has many statements": `
		insert into a values (1, 1); update a set v = 2; update a set id = 2; delete from a; insert into a values (1, 9); truncate a; insert into a values (4, 4)`,
	"rows move between partitions": `
		insert into part values (1, 1), (2, 2); update part set r = 2 where id = 1; update part set v = v + 1; delete from part where id = 2; truncate part_1; insert into part values (3, 1); truncate part`,
}

const scenarioTables = `
	create table a (id int primary key, v int);
	create table p (id int primary key); create table c (id int primary key, x int references p on update cascade on delete cascade, y int references p on update cascade on delete set null);
	create table pa (a int primary key); create table pb (b int primary key);
	create table pair (a int references pa on update cascade on delete cascade, b int references pb on update cascade on delete cascade, v int, primary key (a, b));
	create table tree (id int primary key, up int references tree on update cascade on delete cascade);
	create table part (id int, r int, v int default 0, primary key (id, r)) partition by list (r);
	create table part_1 partition of part for values in (1); create table part_2 partition of part for values in (2)`

var scenarioNames = []string{"public.a", "public.p", "public.c", "public.pa", "public.pb", "public.pair", "public.tree", "public.part"}

// emptyScenario takes back what a scenario has made, and what was captured of it.
const emptyScenario = "drop function if exists f(), f(int) cascade; truncate a, p, c, pa, pb, pair, tree, part; delete from lockstep.outbox"

func TestWhatIsThereNowIsWhatIsCaptured(t *testing.T) {
	r := newRig(t, scenarioTables, scenarioNames...)
	for name, sql := range scenarios {
		t.Run(name, func(t *testing.T) {
			for i, s := range splitStatements(sql) {
				r.Exec(t, s)
				r.wantFold(t, fmt.Sprintf("after statement %d (%s)", i+1, s))
			}
			// The same in one message, and one transaction for all.
			r.Exec(t, emptyScenario)
			r.Exec(t, sql)
			r.wantFold(t, "in one message")
			// And under one snapshot.
			r.Exec(t, emptyScenario)
			if !strings.Contains(sql, "commit") {
				r.Exec(t, "begin isolation level repeatable read;"+sql+"; commit")
				r.wantFold(t, "in one snapshot")
				r.Exec(t, emptyScenario)
			}
		})
	}
}

// splitStatements splits at semicolons outside of $$ and of BEGIN ... COMMIT.
func splitStatements(sql string) []string {
	var out []string
	cur, quoted := "", false
	for _, piece := range strings.SplitAfter(sql, ";") {
		cur += piece
		if strings.Count(piece, "$$")%2 == 1 {
			quoted = !quoted
		}
		open := strings.Contains(cur, "begin; ") && !strings.Contains(cur, "commit")
		if !quoted && !open {
			out = append(out, cur)
			cur = ""
		}
	}
	if strings.TrimSpace(cur) != "" {
		out = append(out, cur)
	}
	return out
}

// What capture reads under SERIALIZABLE counts as read by the application: transactions that have nothing to do with
// each other must not fail for it, be they the first of their sessions or after a reset.
func TestUnderSerializableCaptureReadsNothing(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v int); create table b (id int primary key, v int)", "public.a", "public.b")
	one, two := r.Conn(t), r.Conn(t)
	for reset, first := range map[string]string{"select 1": "select 1", "reset all": "select 1", "discard all": "update %s set v = 0 where id = 0"} {
		for _, conn := range []*pgx.Conn{one, two} {
			for _, sql := range []string{reset, "begin isolation level serializable"} {
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, sql := range []string{first, "insert into %s values (coalesce((select max(id) from %[1]s), 0) + 1, 1)", "update %s set v = v + 1", "commit"} {
			for conn, table := range map[*pgx.Conn]string{one: "a", two: "b"} {
				sql := strings.NewReplacer("%s", table, "%[1]s", table).Replace(sql)
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Errorf("after %s, %s: %v", reset, sql, err)
				}
			}
		}
	}
	leads := map[uint64]int{}
	for _, e := range r.events(t) {
		if e.Lead {
			leads[e.Xid]++
		}
	}
	if len(leads) != 6 {
		t.Errorf("%d of 6 transactions ring: %v", len(leads), leads)
	}
}

// underOneSnapshot begins a transaction that sees from beginning to end what is there now.
func (r *rig) underOneSnapshot(t *testing.T) pgx.Tx {
	t.Helper()
	tx, err := r.Conn(t).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err == nil {
		_, err = tx.Exec(t.Context(), "select 1") // takes the snapshot
	}
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func TestUnderOneSnapshotAKeyIsNamedAndNotRead(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	r.Exec(t, "insert into a values (1, 'old')")
	tx := r.underOneSnapshot(t)
	r.Exec(t, "delete from a")
	// Both rows of key 1 are visible to this transaction now. Two statements of two kinds in
	// one message, so that the second capture looks at what is there.
	if _, err := tx.Conn().PgConn().Exec(t.Context(), "insert into a values (1, 'new'); update a set v = 'newer' where v = 'new'").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.short(t); got[len(got)-1] != `R {"id":1}` {
		t.Errorf("the last event is %s of %q", got[len(got)-1], got)
	}
	r.wantFold(t, "two visible rows of one key")
}

// Under one snapshot there may be two rows of the catalogue for one table: that which another transaction has replaced
// since, by emptying it, and our own.
func TestATableEmptiedTwiceUnderOneSnapshotCanBeWritten(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	r.Exec(t, "insert into a values (1, 'old')")
	tx := r.underOneSnapshot(t)
	r.Exec(t, "truncate a")
	if _, err := tx.Conn().PgConn().Exec(t.Context(), "truncate a; insert into a values (2, 'x'); update a set v = 'y'; delete from a; insert into a values (3, 'x')").ReadAll(); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := tx.QueryRow(t.Context(), "select count(*) from pg_class where oid = 'a'::regclass").Scan(&rows); err != nil || rows != 2 {
		t.Fatalf("%d rows of the catalogue are visible, %v: this test shows nothing", rows, err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.wantFold(t, "emptied twice")
}

func TestWritersSettingsChangeNothingStored(t *testing.T) {
	const table = `create table a (id int primary key, ts timestamptz, i interval, b bytea, f float8, m money, d date, c regclass)`
	const row = `insert into a values (1, '2020-05-06 07:08:09.123+00', '1 mon 2 days 03:04:05', '\xdeadbeef', 0.1::float8 + 0.2, 12.5::numeric::money, '2020-05-06', 'public.a')`
	r := newRig(t, table, "public.a")
	for _, settings := range []string{
		"", "set timezone = 'America/St_Johns'", "set datestyle = 'German'", "set datestyle = 'SQL, DMY'", "set intervalstyle = 'iso_8601'",
		"set bytea_output = 'escape'", "set extra_float_digits = -10", "set search_path = ''", "set standard_conforming_strings = off", "set default_transaction_isolation = 'serializable'",
	} {
		r.Exec(t, "set standard_conforming_strings = on; delete from public.a")
		insert := strings.Replace(row, "into a", "into public.a", 1)
		r.Exec(t, strings.Replace(settings, "off", "on", 1)+";"+insert)
	}
	docs := map[string]bool{}
	for _, e := range r.events(t) {
		if e.Op == "I" {
			docs[e.Row] = true
		}
	}
	if len(docs) != 1 {
		t.Errorf("one row was stored in %d ways: %v", len(docs), docs)
	}
}

func TestHostileNamesChangeNothing(t *testing.T) {
	columns := `"lead" text, "row" text, op text, n int, o int, i int, c int, k int, r int, t text, mark text, this text, sql text, new_rows int,
		old_rows int, lockstep_n int, lockstep_k int, doubt text, changed text, done text, tables text, outbox text,
		key text, doc json, note text, leads text, noted text, "weird "" ' \ %s Ö" text`
	long := strings.Repeat("x", 63)
	r := newRig(t, `create schema "Odd ""Schema"" é"; create table "Odd ""Schema"" é"."Täble.with ""all""" ("Id"" 'é" int primary key, `+columns+`);
		create table `+long+` (`+long+` int primary key);
		create function public.eq(int, int) returns boolean language sql as 'select true'; create operator public.= (leftarg = int, rightarg = int, procedure = public.eq)`,
		`"Odd ""Schema"" é"."Täble.with ""all"""`, "public."+long)
	conn := r.Conn(t)
	for _, sql := range []string{
		"create temp table outbox (x int); create temp table tables (relid oid, name text, key_columns text[])", "set search_path = pg_temp, public, pg_catalog",
		`insert into "Odd ""Schema"" é"."Täble.with ""all""" values (1), (2); update "Odd ""Schema"" é"."Täble.with ""all""" set op = 'x', "lead" = 'y'`,
		`update "Odd ""Schema"" é"."Täble.with ""all""" set "Id"" 'é" = "Id"" 'é" + 10`, `delete from "Odd ""Schema"" é"."Täble.with ""all""" where n is null and "Id"" 'é" OPERATOR(pg_catalog.=) 11`,
		"insert into public." + long + " values (1); update public." + long + " set " + long + " = 2",
	} {
		if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	r.wantFold(t, "hostile names")
	if n := len(r.events(t)); n < 8 {
		t.Errorf("%d events", n)
	}
}

func TestMigrationsAndWritesNeverFailBecauseOfCapture(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text, w int default 0)", "public.a")
	for _, sql := range []string{
		"insert into a values (1, 'a'), (2, 'b')", "alter table a rename v to vv", "update a set vv = 'x'", "alter table a add n numeric default 3", "alter table a drop w",
		"alter table a alter vv type varchar(50) using vv || '!'", "alter table a alter id type bigint", "update a set id = id + 10", "alter table a rename id to ident",
		"update a set ident = ident + 100 where ident = 11", "update a set ident = ident + 1", "insert into a (ident, vv) values (50, 'q') on conflict (ident) do nothing",
		"set session_replication_role = replica; delete from a where ident = 50; reset session_replication_role", "alter table a rename to b", "insert into b (ident, vv) values (60, 'renamed')",
		"alter table b drop constraint a_pkey", "update b set ident = ident + 1", "update b set ident = ident - 1 where ident = 61", "alter table b drop ident", "insert into b (vv) values ('no key')",
		"delete from b", "truncate b",
	} {
		r.Exec(t, sql)
	}
	events := r.events(t)
	reloads := 0
	for _, e := range events {
		if e.Table != "public.a" {
			t.Errorf("event %+v is not under the registered name", e)
		}
		if e.Op == "R" && e.Row == "" {
			reloads++
		}
	}
	if reloads == 0 {
		t.Error("without a key every doubt must ask for the whole table")
	}
}

func TestRowTooLargeForADocumentIsNamedByItsKey(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, b bytea, n int); alter table a alter b set storage external", "public.a")
	r.Exec(t, "insert into a values (1, decode(repeat('00', 1000 * 1000), 'hex'), 0), (2, 'small', 0)")
	r.Exec(t, "update a set n = 1")
	r.Exec(t, "update a set n = 2 where id = 1")
	r.Exec(t, "delete from a where id = 1")
	for _, e := range r.events(t) {
		if len(e.Row) > 1000 {
			t.Errorf("%s has a document of %d bytes", e.Op, len(e.Row))
		}
	}
	got := strings.Join(r.short(t), " ")
	if !strings.Contains(got, `R {"id":1}`) || !strings.HasSuffix(got, `D {"id":1}`) {
		t.Errorf("captured %s", got)
	}
	// JSON spends six bytes on each of these: a document of more than a gigabyte, which Postgres cannot make.
	r.Exec(t, "alter table a add x text; alter table a alter x set storage external")
	r.Exec(t, "insert into a (id, x) select 3, repeat(chr(1), 180 * 1000 * 1000)")
	if got := r.short(t); got[len(got)-1] != `R {"id":3}` {
		t.Errorf("180 MB of control characters were captured as %.100s", got[len(got)-1])
	}
	// So it is where it is read back, of two UPDATEs in one statement of the client's, and row by row.
	r.Exec(t, "do $$ begin update a set n = 1 where id = 3; update a set n = 2 where id = 3; end $$")
	if got := r.short(t); !slices.Equal(got[len(got)-2:], []string{`R {"id":3}`, `R {"id":3}`}) {
		t.Errorf("180 MB of control characters, updated twice, were captured as %.100q", got[len(got)-2:])
	}
	r.Exec(t, "create table part (id int primary key, n int, x text) partition by range (id); create table part_1 partition of part default; alter table part_1 alter x set storage external")
	r.install(t, "public.part")
	r.Exec(t, "insert into part values (4, 0, repeat('x', 200 * 1000)); update part set n = 1")
	if got := r.short(t); !slices.Equal(got[len(got)-2:], []string{`R {"id":4}`, `R {"id":4}`}) {
		t.Errorf("200 kB in a partition were captured as %.100q", got[len(got)-2:])
	}
	// Neither the old image is written, nor is it looked at to find out whether the key changed.
	r.Exec(t, "update a set x = 'short' where id = 3")
	if got := r.short(t); !strings.HasPrefix(got[len(got)-1], `U {"id":3,`) {
		t.Errorf("a row that was too large and is small now was captured as %.100s", got[len(got)-1])
	}
}

// Nobody attaches capture by hand; but if its owner did, no write may fail for it.
func TestCaptureWithoutArgumentsLooksEverythingUp(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text); create table part (id int primary key, v text) partition by range (id); create table part_1 partition of part default", "public.a", "public.part")
	r.Exec(t, `create or replace trigger lockstep_update after update on a referencing old table as old_rows new table as new_rows for each statement execute function lockstep.capture();
		create or replace trigger lockstep_truncate after truncate on a for each statement execute function lockstep.capture_truncate();
		create or replace trigger lockstep_row after insert or update or delete on part for each row execute function lockstep.capture_row()`)
	for _, sql := range []string{"insert into a values (1, 'x')", "update a set v = 'y'", "update a set id = 2", "truncate a", "insert into part values (1, 'x')", "update part set v = 'y'"} {
		r.Exec(t, sql)
	}
	r.wantFold(t, "everything")
	found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, f := range found {
		if f.Kind == "trigger changed" || f.Kind == "trigger not ALWAYS" {
			changed++
		}
	}
	if changed < 3 {
		t.Errorf("inspect found %d of 3 triggers that were replaced: %+v", changed, found)
	}
	r.install(t, "public.a", "public.part")
	if found, err = triggers.Inspect(t.Context(), r.pool, triggers.Options{}); err != nil || len(found) > 0 {
		t.Errorf("after another install inspect finds %+v, %v", found, err)
	}
}

func TestBulkUpdateIsCheckedWithoutANestedLoop(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v int); insert into a select i, 0 from generate_series(1, 20000) i", "public.a")
	// Ten seconds are a thousand times what a hash join takes, and a hundredth of what the loop takes.
	r.Exec(t, "set statement_timeout = '60s'; update a set v = v + 1")
	if n := len(r.events(t)); n != 20000 {
		t.Errorf("%d events of 20,000 rows: was there a doubt?", n)
	}
}

// A partition keeps its TRUNCATE trigger when it is detached, and with it the root's name.
func TestEmptyingADetachedPartitionSaysNothingOfItsFormerRoot(t *testing.T) {
	r := newRig(t, scenarioTables, scenarioNames...)
	r.Exec(t, "insert into part values (1, 1), (2, 2)")
	r.Exec(t, "alter table part detach partition part_1")
	before := len(r.events(t))
	r.Exec(t, "truncate part_1")
	for _, e := range r.events(t)[before:] {
		if e.Op == "T" && e.Table == "public.part" {
			t.Errorf("a table that is no partition any more was emptied, and nodes are told that its former root was: %+v", e)
		}
	}
}
