//go:build unix

package main

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// inventory is what a database and its cluster hold besides rows.
func inventory(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	rows, _ := conn.Query(t.Context(), `
		select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_(toast_)?temp_' union all
		select 'role ' || rolname from pg_roles union all
		select 'table ' || oid::regclass from pg_class where relkind in ('r', 'p') and oid >= 16384 union all
		select 'function ' || oid::regprocedure from pg_proc where oid >= 16384 union all
		select 'trigger ' || tgname from pg_trigger where not tgisinternal union all
		select 'slot ' || slot_name from pg_replication_slots union all
		select 'lock ' || classid || ' ' || objid from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
		order by 1`) // CollectRows has its error
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, "\n")
}

// wantAsItWas waits until the server has what it had: a session ends a moment
// after its client, and what it has locked with it.
func wantAsItWas(t *testing.T, conn *pgx.Conn, before string) {
	t.Helper()
	var after string
	poll(t, func() bool { after = inventory(t, conn); return after == before })
	if after != before {
		t.Fatalf("the server has\n%s\nand had\n%s", after, before)
	}
}

func TestDemoOnYourOwnServerLeavesItAsItWas(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table mine (id int primary key)")
	conn := db.Conn(t)
	before := inventory(t, conn)
	for _, c := range []struct {
		name   string
		args   []string
		end    func(*running)
		status int
	}{
		{"to its end", []string{"--nodes", "2"}, func(r *running) {
			r.until("node-2 has loaded")
			if during := inventory(t, conn); !strings.Contains(during, "schema lockstep_demo_") || !strings.Contains(during, "role lockstep_demo_") {
				t.Errorf("the demo runs in another place: the server has\n%s", during)
			}
		}, 0},
		{"fanned out, interrupted in an outage", []string{"--nodes", "2", "--fanout"}, func(r *running) { r.until("has lost its way"); r.interrupt() }, 0},
		{"interrupted before its nodes run", []string{"--nodes", "12"}, func(r *running) { r.until("are there, and captured"); r.interrupt() }, 1},
		{"unheard", []string{"--nodes", "2"}, func(r *running) { r.until("node-2 has loaded"); r.leave() }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmp := temporary(t)
			r := startDemo(t, tmp, append([]string{"--dsn", db.DSN(), "--duration", "3s", "--once"}, c.args...)...)
			c.end(r)
			if status, said := r.end(); status != c.status || strings.Contains(said, "goroutine") {
				t.Errorf("exit status %d, want %d\n%s", status, c.status, said)
			}
			wantAsItWas(t, conn, before)
			wantNothing(t, tmp)
		})
	}
}

func TestDemoOnYourOwnServerDropsWhatAKilledOneHasLeft(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	conn := db.Conn(t)
	before := inventory(t, conn)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--dsn", db.DSN(), "--duration", "60s", "--nodes", "1")
	r.until("transactions a second")
	r.kill()
	if left := inventory(t, conn); !strings.Contains(left, "schema lockstep_demo_") {
		t.Fatalf("the killed demo has left nothing: this test shows nothing\n%s", left)
	}
	next := startDemo(t, tmp, "--dsn", db.DSN(), "--duration", "3s", "--nodes", "1", "--once")
	if status, said := next.end(); status != 0 || !strings.Contains(said, "which a demo had left") {
		t.Errorf("exit status %d\n%s", status, said)
	}
	wantAsItWas(t, conn, before)
	awaitNothing(t, tmp)
}

func TestDemoWhoseServerDiesSaysSoInOneLineAndEnds(t *testing.T) {
	build(t)
	c := pgtest.Own(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--dsn", c.New(t).DSN(), "--duration", "60s", "--nodes", "2")
	r.until("transactions a second")
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	r.limit.Reset(endLimit)
	status, said := r.end()
	_, errs, _ := strings.Cut(said, "\nlockstep: ")
	if status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "which the next demo on this server drops") {
		t.Errorf("exit status %d\n%s", status, said)
	}
	wantNothing(t, tmp)
}

// A standby can neither be followed nor written.
func TestAStandbyIsRefusedInOneLine(t *testing.T) {
	build(t)
	c := pgtest.Own(t)
	db := c.New(t)
	db.Exec(t, "create table a (id int primary key)")
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a"); status != 0 {
		t.Fatal(errs)
	}
	c.BecomeStandby(t)
	for _, args := range [][]string{
		{"serve", "--table", "public.a"}, {"install", "--table", "public.a"}, {"uninstall"}, {"demo", "--once", "--dsn", db.DSN()},
	} {
		out, errs, status := runCommand(t, env, args...)
		if status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "standby") || !strings.Contains(errs, "primary") || strings.Contains(out+errs, "goroutine") {
			t.Errorf("%s on a standby: status %d, %q", args[0], status, errs)
		}
	}
}
