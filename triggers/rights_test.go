package triggers_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// tries runs SQL as a role and returns its error's text.
func tries(t *testing.T, pool *pgxpool.Pool, sql string) string {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		return err.Error()
	}
	return ""
}

func TestApplicationNeedsNoRightOnTheSchema(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	app := r.Role(t)
	r.Exec(t, "grant select, insert, update, delete, truncate on a to "+app.Name)
	pool := r.PoolAs(t, app)
	// Two writes in one message, so that the reread path runs as well.
	if err := tries(t, pool, "insert into a values (1, 'x'); update a set v = 'y'; update a set id = 2; truncate a; insert into a values (3)"); err != "" {
		t.Fatal(err)
	}
	r.wantFold(t, "written by the application")
	for _, sql := range []string{
		"select from lockstep.outbox", "insert into lockstep.outbox (table_name, op, lead) values ('public.a', 'T', true)", "delete from lockstep.outbox",
		"select lockstep.write_reload(1)", "update lockstep.horizon set xid = '5'",
	} {
		if err := tries(t, pool, sql); !strings.Contains(err, "permission denied") {
			t.Errorf("%s: %q", sql, err)
		}
	}
}

func TestNobodyCanAttachCaptureToATableOfTheirOwn(t *testing.T) {
	r := newRig(t, "create table a (id int primary key)", "public.a")
	thief := r.Role(t)
	r.Exec(t, "create schema own authorization "+thief.Name+"; grant usage on schema lockstep to "+thief.Name)
	pool := r.PoolAs(t, thief)
	if err := tries(t, pool, "create table own.a (id int primary key)"); err != "" {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"create trigger t after insert on own.a referencing new table as new_rows for each statement execute function lockstep.capture()",
		"create trigger t after insert on own.a for each row execute function lockstep.capture_row()",
		"create trigger t after truncate on own.a for each statement execute function lockstep.capture_truncate()",
		"create constraint trigger t after insert on own.a for each row execute function lockstep.announce()",
	} {
		if err := tries(t, pool, sql); !strings.Contains(err, "permission denied for function") {
			t.Errorf("%s: %q", sql, err)
		}
	}
}

// row_to_json runs a type's own cast to json. Whoever owns a type can make one
// after the table is captured; it must not run as anybody who matters.
func TestCastToJSONDoesNotMakeATablesOwnerMore(t *testing.T) {
	db := pgtest.New(t)
	owner := db.Role(t)
	db.Exec(t, "create schema own authorization "+owner.Name)
	pool := db.PoolAs(t, owner)
	if err := tries(t, pool, "create type own.odd as enum ('x'); create table own.a (id int primary key, o own.odd); create table own.ran (who text, super boolean); grant insert on own.ran to public; grant usage on schema own to public"); err != "" {
		t.Fatal(err)
	}
	r := &rig{db, db.Pool(t)}
	r.install(t, "own.a")
	if err := tries(t, pool, `create function own.odd_json(own.odd) returns json language plpgsql as $$
		begin insert into own.ran values (current_user, (select rolsuper from pg_roles where rolname = current_user));
		begin execute 'alter role `+owner.Name+` superuser'; exception when others then null; end;
		return '{}'::json; end $$; create cast (own.odd as json) with function own.odd_json(own.odd)`); err != "" {
		t.Fatal(err)
	}
	if err := tries(t, pool, "insert into own.a values (1, 'x')"); err != "" {
		t.Fatal(err)
	}
	var who string
	var super, became bool
	err := r.pool.QueryRow(t.Context(), "select who, super, (select rolsuper from pg_roles where rolname = $1) from own.ran", owner.Name).Scan(&who, &super, &became)
	if err != nil || super || became || who != "lockstep_capture" {
		t.Errorf("the cast ran as %s (superuser: %v), and its owner is a superuser now: %v (%v)", who, super, became, err)
	}
	if err := triggers.Check(t.Context(), r.pool, triggers.Options{}, "own.a"); err == nil || !strings.Contains(err.Error(), "cast to json") {
		t.Errorf("such a type is refused; Check says %v", err)
	}
}

func TestFunctionsOwnerMayInsertAndReadAndNothingElse(t *testing.T) {
	r := newRig(t, "create table a (id int primary key); create table other (id int primary key)", "public.a")
	var got string
	err := r.pool.QueryRow(t.Context(), `select concat_ws(' ', rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication,
		has_table_privilege(rolname, 'lockstep.outbox', 'insert'), has_table_privilege(rolname, 'lockstep.outbox', 'select,update,delete,truncate'),
		has_table_privilege(rolname, 'a', 'select'), has_table_privilege(rolname, 'a', 'insert,update,delete,truncate'), has_table_privilege(rolname, 'other', 'select'),
		has_schema_privilege(rolname, 'lockstep', 'create')) from pg_roles where rolname = 'lockstep_capture'`).Scan(&got)
	if err != nil || got != "f f f f f f t f t f f f" {
		t.Errorf("the owner's rights are %q, %v", got, err)
	}
}

func TestPolicyHidesNothingFromCapture(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	app := r.Role(t)
	r.Exec(t, "grant select, insert, update, delete on a to "+app.Name+"; alter table a enable row level security; create policy own on a to "+app.Name+" using (true)")
	if err := tries(t, r.PoolAs(t, app), "insert into a values (1, 'x'); update a set v = 'y'; update a set id = 5"); err != "" {
		t.Fatal(err)
	}
	r.wantFold(t, "a table with a policy")
}

func TestReaderAndTrimmerNeedExactlyTheirGrants(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	reader, trimmer := r.Role(t), r.Role(t)
	for kind, role := range map[string]string{"reader": reader.Name, "trimmer": trimmer.Name} {
		sql, err := triggers.Grants(triggers.Options{}, kind, role)
		if err != nil {
			t.Fatal(err)
		}
		r.Exec(t, sql)
	}
	r.Exec(t, "insert into a values (1, 'x')")
	src, err := outbox.NewSource(outbox.Config{Pool: r.PoolAs(t, reader), Tables: []outbox.TableSpec{{Name: "public.a"}},
		Check: func(ctx context.Context, q outbox.Querier, table string) error {
			return triggers.Check(ctx, q, triggers.Options{}, table)
		}})
	if err != nil {
		t.Fatal(err)
	}
	load := func() (rows int, problem error) {
		s, err := src.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sink := &countingSink{}
		if err := s.Fetch(t.Context(), outbox.Request{Reload: []int{0}}, sink); err != nil {
			t.Fatal(err)
		}
		return sink.rows, sink.problem
	}
	if _, problem := load(); problem == nil || !strings.Contains(problem.Error(), "may not read it") {
		t.Errorf("without SELECT on its table: %v", problem)
	}
	r.Exec(t, "grant select on a to "+reader.Name)
	if rows, problem := load(); rows != 1 || problem != nil {
		t.Errorf("%d rows, %v", rows, problem)
	}
	r.Exec(t, "alter table a enable row level security")
	if _, problem := load(); problem == nil || !strings.Contains(problem.Error(), "row-level security") {
		t.Errorf("a policy must make an error, not a silent half: %v", problem)
	}
	if err := tries(t, r.PoolAs(t, reader), "insert into lockstep.nodes (name, position, state) values ('n', '', 'live'); update lockstep.nodes set beat = now()"); err != "" {
		t.Error(err)
	}
	if err := tries(t, r.PoolAs(t, reader), "delete from lockstep.outbox"); !strings.Contains(err, "permission denied") {
		t.Errorf("a reader deletes: %q", err)
	}
	trimPool := r.PoolAs(t, trimmer)
	if res, err := outbox.Trim(t.Context(), trimPool, outbox.TrimOptions{KeepAge: time.Nanosecond, KeepNewest: 1}); err != nil {
		t.Errorf("%+v, %v", res, err)
	}
	if err := tries(t, trimPool, "select from a"); !strings.Contains(err, "permission denied") {
		t.Errorf("a trimmer reads the table: %q", err)
	}
	if _, err := triggers.Grants(triggers.Options{}, "king", "x"); err == nil {
		t.Error("grants for a king")
	}
}

func TestARelaysKeyIsForNodesAndRelaysOnly(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	open := func(kind string) *outbox.Session {
		role := r.Role(t)
		sql, err := triggers.Grants(triggers.Options{}, kind, role.Name)
		if err != nil {
			t.Fatal(err)
		}
		r.Exec(t, sql)
		src, err := outbox.NewSource(outbox.Config{Pool: r.PoolAs(t, role)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := src.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	relay, reader := open("relay"), open("reader")
	if _, err := reader.Running(t.Context()); !errors.Is(err, outbox.ErrRun) {
		t.Errorf("before any relay leads: %v", err)
	}
	run, err := relay.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open("relay").Lead(t.Context()); !errors.Is(err, outbox.ErrLed) {
		t.Errorf("a second relay: %v", err)
	}
	if there, err := reader.Running(t.Context()); err != nil || there.ID != run.ID || !bytes.Equal(there.Key, run.Key) {
		t.Errorf("a node reads run %d with %d bytes of a key, %v", there.ID, len(there.Key), err)
	}
	app := r.Role(t)
	if err := tries(t, r.PoolAs(t, app), "select key from lockstep.relays"); !strings.Contains(err, "permission denied") {
		t.Errorf("an application reads the key: %q", err)
	}
	if err := relay.Fetch(t.Context(), outbox.Request{}, &countingSink{}); err != nil {
		t.Errorf("a relay fetches: %v", err)
	}
	relay.Close()
	tick := time.NewTicker(10 * time.Millisecond) // the server ends the connection in its own time
	defer tick.Stop()
	for {
		_, err := reader.Running(t.Context())
		if errors.Is(err, outbox.ErrRun) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the run is never over")
		}
	}
}
