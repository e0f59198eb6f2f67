package triggers_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// marker is in every value of a column that is left out, and nowhere else.
const marker = "geheim"

// exclude installs with columns that are left out.
func (r *rig) exclude(t *testing.T, by map[string][]string, tables ...string) {
	t.Helper()
	if err := triggers.Install(t.Context(), r.pool, triggers.Options{Bell: triggers.BellOff, Logger: quiet, ExcludeColumns: by}, tables...); err != nil {
		t.Fatal(err)
	}
}

// wantNoMarker checks that no byte of what is left out is in any table of the schema.
func (r *rig) wantNoMarker(t *testing.T, what string) {
	t.Helper()
	found := r.list(t, `select 'outbox: ' || o::text from lockstep.outbox o where strpos(o::text, 'geheim') > 0 or strpos(o::text, '67656865696d') > 0
		union all select 'register: ' || n::text from lockstep.tables n where strpos(n::text, 'geheim') > 0`)
	if len(found) > 0 {
		t.Errorf("%s: what is left out was written: %q", what, found)
	}
}

func TestNothingOfAColumnThatIsLeftOutReachesTheOutbox(t *testing.T) {
	const columns = `"the ssn" text default 'geheim 1', amount numeric(12, 3) default 1.10, doc json default '{"a" : 1.10,  "a":2}', photo bytea default 'geheim 2'::bytea, note text default 'n'`
	r := newRig(t, `create table a (id int primary key, `+columns+`);
		create table pair (gone int, l text, `+columns+`, k int, primary key (k, l)); alter table pair drop gone;
		create table part (r int, id int, `+columns+`, primary key (id, r)) partition by list (r);
		create table part_1 partition of part for values in (1);
		create table part_2 (note text default 'n', id int not null, gone int, doc json, photo bytea default 'geheim 4', amount numeric(12, 3), r int not null, "the ssn" text default 'geheim 3');
		alter table part_2 drop gone; alter table part attach partition part_2 for values in (2)`)
	out := []string{"the ssn", "photo"}
	r.exclude(t, map[string][]string{"public.a": out, "pair": out, "public.part": out}, "public.a")
	r.wantInstalled(t, "public.a", "public.pair", "public.part")
	for _, run := range []struct{ name, begin, commit string }{
		{"on its own", "", ""},
		{"in one message", "begin;", ";commit"},
		{"in one snapshot", "begin isolation level repeatable read;", ";commit"},
		{"serializable", "begin isolation level serializable;", ";commit"},
	} {
		r.exclude(t, nil)
		for _, script := range []string{
			`insert into a (id) values (1); insert into a (id) select generate_series(2, 20); update a set note = 'm' where id = 1; update a set note = 'o';
			 update a set "the ssn" = 'geheim 9' where id = 1; update a set photo = 'geheim 8'; update a set id = 100 where id = 1; update a set id = id + 1000, photo = 'geheim 7' where id < 10;
			 insert into a (id) values (11), (31) on conflict (id) do update set "the ssn" = 'geheim 6', note = null;
			 with d as (delete from a where id = 12 returning *) insert into a select id + 50, "the ssn", amount, doc, photo, note from d;
			 delete from a where id = 13; delete from a where id > 14; update a set note = repeat('x', 700); insert into a (id, note) values (40, repeat('y', 700));
			 insert into a (id, photo) values (41, decode(repeat('67656865696d', 2000), 'hex')); delete from a where id = 40; update a set note = 'z'; truncate a; insert into a (id) values (1)`,
			`insert into pair (k, l) values (1, 'a'), (1, 'b'), (2, 'a'); update pair set l = 'z' where k = 2; update pair set k = k + 1; update pair set photo = null where l = 'b'; delete from pair where l = 'a'`,
			`insert into part (id, r) values (1, 1), (2, 2), (3, 2); update part set note = 'm' where id = 2; update part set r = 2 where id = 1; update part set "the ssn" = 'geheim 5';
			 delete from part where id = 3; truncate part_1; insert into part (id, r, note) values (4, 2, repeat('x', 700)); update part set note = 'x'; delete from part where id = 4`,
		} {
			r.Exec(t, "truncate a, pair, part")
			if run.begin == "" {
				conn := r.Conn(t)
				for _, sql := range splitStatements(script) {
					if _, err := conn.Exec(t.Context(), sql); err != nil {
						t.Fatalf("%s: %v", sql, err)
					}
				}
			} else {
				r.Exec(t, run.begin+script+run.commit)
			}
			r.wantFold(t, run.name)
		}
		r.wantNoMarker(t, run.name)
		// Once more with small rows only.
		if err := triggers.Install(t.Context(), r.pool, triggers.Options{MaxRowBytes: 500, Logger: quiet}); err != nil {
			t.Fatal(err)
		}
	}
	// What was written as it is was not only read again.
	r.Exec(t, "truncate a; truncate lockstep.outbox")
	r.Exec(t, "insert into a (id, photo) values (1, decode(repeat('67656865696d', 2000), 'hex'))")
	r.Exec(t, "update a set note = null")
	r.Exec(t, "update a set photo = 'geheim'")
	r.Exec(t, "update a set note = repeat('x', 600)")
	r.Exec(t, "update a set note = 'b'")
	r.Exec(t, "delete from a")
	r.Exec(t, "insert into part (id, r) values (8, 2)")
	want := []string{
		`I {"id":1,"amount":1.100,"doc":{"a":1.10,"a":2},"note":"n"}`, `U {"id":1,"amount":1.100,"doc":{"a":1.10,"a":2},"note":null}`,
		`U {"id":1,"amount":1.100,"doc":{"a":1.10,"a":2},"note":null}`, `R {"id":1}`, `U {"id":1,"amount":1.100,"doc":{"a":1.10,"a":2},"note":"b"}`,
		`D {"id":1,"amount":1.100,"doc":{"a":1.10,"a":2},"note":"b"}`, `I {"r":2,"id":8,"amount":1.100,"doc":{"a":1.10,"a":2},"note":"n"}`,
	}
	if got := r.short(t); !slices.Equal(got, want) {
		t.Errorf("captured\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	r.wantNoMarker(t, "at last")
	// Where capture fails, which only somebody who breaks the outbox can bring about, no error shows what is left out.
	r.Exec(t, "alter table lockstep.outbox add check (op <> 'U') not valid, add check (op <> 'D') not valid")
	r.Exec(t, "insert into a (id) values (1)")
	for _, sql := range []string{"update a set note = 'u'", "delete from a", "update part set note = 'u'", "delete from part"} {
		_, err := r.pool.Exec(t.Context(), sql)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "23514" || !strings.Contains(pgErr.Detail, "amount") || strings.Contains(fmt.Sprintf("%+v", *pgErr), marker) || strings.Contains(pgErr.Detail, "6765") {
			t.Errorf("%s: %+v", sql, err)
		}
	}
}

// Each of the scenarios of TestWhatIsThereNowIsWhatIsCaptured, with a column in every table that is left out.
func TestWhatIsThereNowIsCapturedWithoutWhatIsLeftOut(t *testing.T) {
	tables, by := scenarioTables, map[string][]string{}
	for _, name := range scenarioNames {
		tables += "; alter table " + name + " add secret text default 'geheim'"
		by[name] = []string{"secret"}
	}
	r := newRig(t, tables)
	r.exclude(t, by)
	for name, sql := range scenarios {
		r.Exec(t, sql)
		r.wantFold(t, name)
		r.wantNoMarker(t, name)
		r.Exec(t, emptyScenario)
	}
}

// A write leaves nothing where it changed nothing, and one event leads its transaction.
func TestACaptureThatLeavesColumnsOutKeepsTheRulesOfCapture(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text, secret text)")
	r.exclude(t, map[string][]string{"public.a": {"secret"}})
	conn := r.Conn(t)
	for _, level := range []string{"read committed", "repeatable read"} {
		var xid *string
		for _, sql := range []string{"begin isolation level " + level, "update a set v = 'x'", "delete from a", "insert into a select 1, 'x' where false"} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.QueryRow(t.Context(), "select pg_current_xact_id_if_assigned()::text").Scan(&xid); err != nil || xid != nil {
			t.Errorf("%s: three statements without a row drew transaction %v, %v", level, xid, err)
		}
		for _, sql := range []string{"insert into a values (1)", "savepoint s", "insert into a values (2), (3)", "rollback to s", "update a set v = 'y'", "commit"} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		if e := r.events(t); len(e) != 2 || !e[0].Lead || e[1].Lead {
			t.Errorf("%s: %+v", level, e)
		}
		r.Exec(t, "truncate a; delete from lockstep.outbox")
	}
	app := r.Role(t) // whoever writes needs no right to read
	r.Exec(t, "grant insert on a to "+app.Name)
	if err := tries(t, r.PoolAs(t, app), "insert into a values (1, 'x', 'geheim'); insert into a values (2, 'y', 'geheim')"); err != "" {
		t.Error(err)
	}
	r.wantFold(t, "written by the application")
	r.wantNoMarker(t, "written by the application")
}

func TestAColumnThatIsLeftOutStaysSoWhateverBecomesOfTheTable(t *testing.T) {
	const finding = "excluded column"
	const rekey = "alter table a drop constraint a_pkey; update a set ssn = 'geheim' || id; alter table a add primary key (ssn)"
	const parts = " partition by list (id); create table a_1 partition of a default"
	r := newRig(t, "select 1")
	for _, c := range []struct {
		name, with, sql, table string
		found                  bool     // inspect says so
		excluded               []string // after the next install
		refused                string   // or why there is none
	}{
		{"renamed", "", "alter table a rename ssn to social", "public.a", true, []string{"social"}, ""},
		{"renamed in a table of partitions", parts, "alter table a rename ssn to social", "public.a", true, []string{"social"}, ""},
		{"dropped", "", "alter table a drop ssn", "public.a", true, []string{"ssn"}, ""},
		{"dropped and made again", "", "alter table a drop ssn; alter table a add ssn text", "public.a", true, []string{"ssn"}, ""},
		{"two change names", "", "alter table a rename v to x; alter table a rename ssn to v; alter table a rename x to ssn", "public.a", true, nil, "cannot be told: say --exclude-columns public.a=COLUMN, with its name for COLUMN, or --all-columns public.a where"},
		{"a column is added", "", "alter table a add more int default 5", "public.a", false, []string{"ssn"}, ""},
		{"another is dropped and one renamed", "", "alter table a drop v; alter table a rename w to v", "public.a", false, []string{"ssn"}, ""},
		{"its type changes", "", "alter table a alter ssn type varchar(50)", "public.a", false, []string{"ssn"}, ""},
		{"the table is renamed", "", "alter table a rename to b", "public.b", false, []string{"ssn"}, ""},
		{"another table takes the name", "", "truncate a; alter table a rename to b; create table a (x int, ssn text, id int primary key, v text)", "public.a", false, []string{"ssn"}, ""},
		{"the table is made again", "", "drop table a; create table a (x int, ssn text, id int primary key, v text)", "public.a", false, []string{"ssn"}, ""},
		{"made again with another name for the column", "", "drop table a; create table a (x int, social text, id int primary key, v text)", "public.a", false, nil, "cannot be told"},
		{"it becomes the key", "", rekey, "public.a", false, nil, "part of the primary key by now"},
		{"it joins the key", "", strings.Replace(rekey, "(ssn)", "(id, ssn)", 1), "public.a", false, nil, "part of the primary key by now"},
		{"it joins the key in a table of partitions", parts, strings.Replace(rekey, "(ssn)", "(id, ssn)", 1), "public.a", false, nil, "part of the primary key by now"},
		{"it becomes the key under another name", "", rekey + "; alter table a rename ssn to social", "public.a", true, nil, "part of the primary key by now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.Exec(t, "drop table if exists a, b; delete from lockstep.left_out; create table a (id int primary key, gone int, v text, w text, ssn text)"+c.with+"; alter table a drop gone")
			r.exclude(t, map[string][]string{"public.a": {"ssn"}})
			secret := "ssn"
			if strings.Contains(c.sql, "social") {
				secret = "social"
			} else if strings.Contains(c.sql, "ssn to v") {
				secret = "v"
			}
			r.Exec(t, "delete from lockstep.outbox; insert into a (id, ssn) values (1, 'geheim')")
			r.Exec(t, c.sql)
			value := marker
			if c.name == "dropped" {
				secret, value = "w", "open"
			}
			conn := r.Conn(t)
			write := func() {
				t.Helper()
				for i, begin := range []string{"", "begin isolation level repeatable read;", "begin isolation level serializable;"} {
					all := []string{
						fmt.Sprintf("insert into %s (id, %s) values (%[3]d, '%[4]s 1%[3]d'), (%[5]d, '%[4]s 2%[3]d');", c.table, secret, 1002+1000*i, value, 1003+1000*i),
						"update " + c.table + " set " + secret + " = " + secret + " || 'x';", "update " + c.table + " set id = id + 10;", "delete from " + c.table + " where id % 10 = 3;",
					}
					if begin != "" {
						all = []string{begin + strings.Join(all, "") + "commit"}
					}
					for _, sql := range all {
						if _, err := conn.Exec(t.Context(), sql); err != nil {
							t.Errorf("%s: %v", sql, err)
						}
					}
				}
			}
			if !strings.Contains(c.sql, "create table a") { // that is not captured yet
				write()
				r.wantNoMarker(t, "before the next install")
			}
			found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
			is := func(f triggers.Finding) bool {
				return f.Kind == finding && strings.HasPrefix(f.Mend, "lockstep install --")
			}
			if err != nil || slices.ContainsFunc(found, is) != c.found {
				t.Errorf("inspect: %+v, %v", found, err)
			}
			err = triggers.Install(t.Context(), r.pool, triggers.Options{Logger: quiet}, c.table)
			if c.refused != "" {
				var refused *triggers.RefusedError
				if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), `"s`) || strings.Contains(err.Error(), "\n") {
					t.Errorf("install: %v, want %q", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tracked, err := triggers.Tables(t.Context(), r.pool, triggers.Options{})
			at := slices.IndexFunc(tracked, func(tab triggers.Table) bool { return tab.Name == c.table })
			if err != nil || at < 0 || !slices.Equal(tracked[at].Excluded, c.excluded) {
				t.Fatalf("%+v, %v", tracked, err)
			}
			r.Exec(t, "truncate "+c.table+"; delete from lockstep.outbox")
			write()
			r.wantFold(t, "after the next install")
			r.wantNoMarker(t, "after the next install")
			if found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{}); err != nil || len(found) > 0 {
				t.Errorf("inspect: %+v, %v", found, err)
			}
			r.Exec(t, "delete from lockstep.outbox; insert into "+c.table+" (id) values (1000)")
			if e := r.events(t); len(e) != 1 || e[0].Op != "I" {
				t.Errorf("rows are still captured by their key: %q", r.short(t))
			}
		})
	}
}

// A dump keeps triggers and register and gives columns other numbers.
func TestADumpTakesAlongWhatIsLeftOut(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, gone int, ssn text, photo text, v text); alter table a drop gone")
	r.exclude(t, map[string][]string{"public.a": {"ssn", "photo"}})
	for _, name := range []string{"as it is", "after a column was renamed"} {
		if name != "as it is" {
			r.Exec(t, "alter table a rename ssn to social")
		}
		dump := r.Program(t, "", "pg_dump", "-d", r.DSN())
		db := pgtest.New(t)
		db.Program(t, dump, "psql", "-v", "ON_ERROR_STOP=1", "-q", "-d", db.DSN())
		restored := &rig{db, db.Pool(t)}
		for range 2 {
			restored.Exec(t, "insert into a select 1, 'geheim', 'geheim', 'v'; update a set v = 'w'; delete from a")
			restored.wantNoMarker(t, name)
			if err := triggers.NewHistory(t.Context(), restored.pool, triggers.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		err := triggers.Install(t.Context(), restored.pool, triggers.Options{Logger: quiet}, "public.a")
		if name != "as it is" {
			const say = "--exclude-columns public.a=COLUMN,photo"
			if !errors.Is(err, triggers.ErrRefused) || !strings.Contains(err.Error(), `"ssn"`) || !strings.Contains(err.Error(), say+",") {
				t.Errorf("%s: %v", name, err)
			}
			found, err := triggers.Inspect(t.Context(), restored.pool, triggers.Options{})
			if err != nil || !slices.ContainsFunc(found, func(f triggers.Finding) bool { return f.Mend == "lockstep install "+say }) {
				t.Errorf("%s: inspect: %+v, %v", name, found, err)
			}
			restored.exclude(t, map[string][]string{"public.a": {"social", "photo"}})
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		restored.wantInstalled(t, "public.a")
		restored.Exec(t, "insert into a select 1, 'geheim', 'geheim', 'v'")
		restored.wantNoMarker(t, name)
		if got := restored.short(t); !slices.Equal(got, []string{`R`, `I {"id":1,"v":"v"}`}) {
			t.Errorf("%s: captured %q", name, got)
		}
	}
}

// Under one snapshot for a whole transaction the catalogue's rows are older than the table.
func TestATransactionThatBeganBeforeAMigrationIsCapturedByTheNamesOfNow(t *testing.T) {
	r := newRig(t, "select 1")
	tables := []string{"a", "b", "c", "d"}
	for _, level := range []string{"repeatable read", "serializable"} {
		r.Exec(t, `drop table if exists a, b, c, d; create table a (id int primary key, v text, ssn int); create table b (id int primary key, v text, ssn int);
			create table c (id int primary key, v text, ssn int) partition by hash (id); create table c_1 partition of c for values with (modulus 1, remainder 0);
			create table d (id int primary key, v text, ssn int) partition by hash (id); create table d_1 partition of d for values with (modulus 1, remainder 0)`)
		r.exclude(t, map[string][]string{"public.a": {"ssn"}, "public.c": {"ssn"}}, "public.b", "public.d")
		r.Exec(t, "delete from lockstep.outbox")
		conn := r.Conn(t)
		write := func(sql string) {
			t.Helper()
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %s: %v", level, sql, err)
			}
		}
		write("begin isolation level " + level)
		write("select 1")
		for _, table := range tables {
			r.Exec(t, "alter table "+table+" rename id to ident; alter table "+table+" rename ssn to id")
		}
		for _, table := range tables {
			write("insert into " + table + " values (1, 'x', 777), (2, 'y', 777)")
			write("update " + table + " set v = 'z'")
			write("insert into " + table + " values (1, 'x', 777), (3, 'y', 777) on conflict (ident) do update set v = 'up'")
			write("delete from " + table + " where ident = 2")
		}
		write("commit")
		for _, table := range []string{"a", "c"} {
			got := r.list(t, "select distinct op::text || row from lockstep.outbox where table_name = 'public."+table+"' order by 1")
			if want := []string{`R{"ident" : 1}`, `R{"ident" : 2}`, `R{"ident" : 3}`}; !slices.Equal(got, want) {
				t.Errorf("%s: %s: captured %q", level, table, got)
			}
		}
	}
}

// told hears when an install waits for a lock.
type told chan struct{}

func (w told) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "waiting for a lock") {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

// An install may wait for long, and what it was to do may be another thing by then.
func TestAnInstallThatWaitedLeavesOutWhatIsLeftOutByThen(t *testing.T) {
	r := newRig(t, "create table busy (id int primary key); create table a (id int primary key, ssn text)")
	snapshots := r.Pool(t, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
	})
	for _, c := range []struct {
		name, hold string
		by         map[string][]string // of the install that waits
		meanwhile  func()
	}{
		{"another install", "lock table busy in row exclusive mode", nil, func() { r.exclude(t, map[string][]string{"public.a": {"ssn"}}) }},
		{"another table has the name", "alter table a rename to old; create table a (ssn text, id int primary key)", map[string][]string{"public.a": {"ssn"}}, func() {}},
	} {
		conn, waits, done := r.Conn(t), make(told, 1), make(chan error, 1)
		if _, err := conn.Exec(t.Context(), "begin;"+c.hold); err != nil {
			t.Fatal(err)
		}
		o := triggers.Options{Bell: triggers.BellOff, ExcludeColumns: c.by, LockTimeout: 50 * time.Millisecond, Retries: 1000, Logger: slog.New(slog.NewTextHandler(waits, nil))}
		go func() { done <- triggers.Install(t.Context(), snapshots, o, "public.busy", "public.a") }()
		<-waits
		c.meanwhile()
		if _, err := conn.Exec(t.Context(), "commit"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		r.Exec(t, "insert into a (id, ssn) values (1, 'geheim')")
		r.wantFold(t, c.name)
		r.wantNoMarker(t, c.name)
		r.Exec(t, "truncate a")
		if err := triggers.Uninstall(t.Context(), r.pool, triggers.Options{Logger: quiet}); err != nil {
			t.Fatal(err)
		}
		r.install(t)
	}
}

// What is left out is remembered by the table's name until install is told otherwise.
func TestWhatIsLeftOutIsForgottenByAWordOnly(t *testing.T) {
	const again = "create table a (x int, id int primary key, ssn text)"
	r := newRig(t, "select 1")
	for _, c := range []struct {
		name  string
		steps []string // SQL, or the table that is installed; "all columns" of public.a
		want  []string // left out of public.a
	}{
		{"the table was away", []string{"drop table a", "public.other", again, "public.other", "public.a"}, []string{"ssn"}},
		{"it has another name", []string{"alter table a rename to old; " + again, "public.old", "public.a"}, []string{"ssn"}},
		{"the column was away", []string{"alter table a drop ssn", "public.a", "public.other", "alter table a add ssn text"}, []string{"ssn"}},
		{"one that is captured takes the name", []string{"public.other", "drop table a; alter table other add ssn text; alter table other rename to a", "public.a"}, []string{"ssn"}},
		{"said otherwise", []string{"all columns", "drop table a", "public.other", again, "public.a"}, nil},
		{"said otherwise of one that never had it", []string{"drop table a; create table a (id int primary key)", "all columns", "alter table a add ssn text", "public.a"}, nil},
	} {
		r.Exec(t, "drop table if exists a, old, other; delete from lockstep.left_out; create table other (id int primary key); create table a (id int primary key, ssn text)")
		r.exclude(t, map[string][]string{"public.a": {"ssn"}})
		for _, step := range c.steps {
			switch {
			case step == "all columns":
				r.exclude(t, map[string][]string{"public.a": {}})
			case strings.HasPrefix(step, "public."):
				r.install(t, step)
			default:
				r.Exec(t, step)
			}
		}
		if c.want != nil {
			r.Exec(t, "insert into a (id, ssn) values (1, 'geheim')")
			r.wantNoMarker(t, c.name)
			r.install(t, "public.a")
		}
		tracked, err := triggers.Tables(t.Context(), r.pool, triggers.Options{})
		if err != nil || len(tracked) == 0 || tracked[0].Name != "public.a" || !slices.Equal(tracked[0].Excluded, c.want) {
			t.Errorf("%s: %+v, %v", c.name, tracked, err)
		}
		r.Exec(t, "delete from lockstep.outbox; insert into a (id, ssn) values (2, 'geheim')")
		if got := r.short(t); len(got) != 1 || strings.HasPrefix(got[0], "R") || strings.Contains(got[0], marker) == (c.want != nil) {
			t.Errorf("%s: captured %q", c.name, got)
		}
	}
}

func TestWhatCannotBeLeftOutIsRefusedByName(t *testing.T) {
	r := newRig(t, installTables, "public.a")
	for _, c := range []struct {
		by     map[string][]string
		what   error
		phrase string
	}{
		{map[string][]string{"public.a": {"id"}}, triggers.ErrRefused, `column "id" cannot be left out: it is part of the primary key`},
		{map[string][]string{"public.a": {"v", "nope", "ctid"}}, triggers.ErrRefused, `column "nope" cannot be left out: there is no such column; column "ctid"`},
		{map[string][]string{"public.part": {"r"}}, triggers.ErrRefused, `"r"`},
		{map[string][]string{"public.nowhere": {"v"}}, triggers.ErrNoTable, "public.nowhere"},
		{map[string][]string{"not..good": {"v"}}, triggers.ErrNoTable, "not..good"},
		{map[string][]string{"public.a": {"v"}, "a": {"v"}}, nil, "a and public.a are the same table"},
	} {
		err := triggers.Install(t.Context(), r.pool, triggers.Options{Logger: quiet, ExcludeColumns: c.by}, "public.a")
		if err == nil || c.what != nil && !errors.Is(err, c.what) || !strings.Contains(err.Error(), c.phrase) {
			t.Errorf("%v: %v", c.by, err)
		}
	}
	r.wantInstalled(t, "public.a")
}

func TestOnlyWhoSaysSoCapturesAColumnAgain(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text, secret text); create table b (id int primary key)", "public.a", "public.b")
	var said, sql strings.Builder
	install := func(by map[string][]string, want string, tables ...string) {
		t.Helper()
		said.Reset()
		o := triggers.Options{Bell: triggers.BellOff, ExcludeColumns: by, Logger: slog.New(slog.NewTextHandler(&said, nil))}
		if err := triggers.Install(t.Context(), r.pool, o, tables...); err != nil {
			t.Fatal(err)
		}
		if got := said.String(); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
	out := map[string][]string{"public.a": {"secret"}}
	// What a reviewer gets to see.
	o := triggers.Options{Bell: triggers.BellOff, Logger: quiet, Print: &sql, ExcludeColumns: out}
	if err := triggers.Install(t.Context(), r.pool, o, "public.a"); err != nil {
		t.Fatal(err)
	}
	if s := sql.String(); !strings.Contains(s, `-- columns are left out of capture from now on (what the outbox has of them stays until it is trimmed): "secret"`) || strings.Count(s, "-- put capture on") != 1 ||
		!strings.Contains(s, "-- bring the register up to date\nbegin;") ||
		!strings.Contains(s, `"capture_without"('public.a', '{id}', '{{secret,3}}')`) {
		t.Errorf("printed %s", s)
	}
	install(out, `columns are left out of capture from now on (what the outbox has of them stays until it is trimmed)" table=public.a columns=secret`, "public.a")
	n := len(r.events(t))
	install(nil, "", "public.a", "public.b")
	install(out, "", "public.b")
	r.Exec(t, "alter table a disable trigger lockstep_update")
	install(nil, "", "public.a")
	install(map[string][]string{"public.b": {}}, "")
	r.Exec(t, "insert into a values (1, 'v', 'geheim'); insert into b values (1)")
	r.wantNoMarker(t, "after others")
	if got := r.short(t)[n:]; !slices.Equal(got, []string{"R", `I {"id":1,"v":"v"}`, `I {"id":1}`}) {
		t.Errorf("captured %q", got)
	}
	install(map[string][]string{"public.a": {}}, `columns that were left out are captured again" table=public.a columns=secret`)
	r.Exec(t, "update a set v = 'w'")
	if got := r.short(t); got[len(got)-1] != `U {"id":1,"v":"w","secret":"geheim"}` {
		t.Errorf("captured %q", got)
	}
	install(nil, "")
	r.wantInstalled(t, "public.a", "public.b")
}
