package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// silently changes tables without an event, which leaves a node wrong.
func silently(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	db.Exec(t, "begin; "+sql+"; delete from lockstep.outbox where xid = pg_current_xact_id(); commit")
}

func TestVerifyNamesWhatDiffersAndRepairsIt(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, `create table a (id int primary key, name text); insert into a select i, 'row ' || i from generate_series(1, 1203) i;
		create table b (k text, n int, j json, primary key (k, n)); insert into b select 'k' || i, i, '{"a":  1}' from generate_series(1, 700) i;
		create table busy (id int primary key, n int); insert into busy select i, 0 from generate_series(1, 2000) i`)
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if _, errs, status := runCommand(t, env, "install", "--table", "public.b", "--table", "public.busy"); status != 0 {
		t.Fatal(errs)
	}
	s := startServe(t, db, nil, "--listen", "127.0.0.1:0", "--table", "public.b", "--table", "public.busy")
	ctx, stop := context.WithCancel(t.Context())
	conn, wrote := db.Conn(t), make(chan error, 1)
	go func() { // what changes meanwhile must never be named
		var err error
		for i := 0; err == nil && ctx.Err() == nil; i++ {
			_, err = conn.Exec(ctx, fmt.Sprintf("update busy set n = n + 1 where id %% 7 = %d; delete from busy where id = %d; insert into busy values (%d, 1)", i%7, 2+i, 3000+i))
		}
		if ctx.Err() != nil {
			err = nil
		}
		wrote <- err
	}()
	verify := func(args ...string) (string, int) {
		t.Helper()
		out, errs, status := runCommand(t, env, append([]string{"verify", "--url", s.url}, args...)...)
		return out + errs, status
	}
	for range 3 {
		if said, status := verify(); status != 0 || !strings.Contains(said, "public.a: 1203 rows in Postgres, 1203 in the node, 0 wrong") || !strings.Contains(said, "position ") {
			t.Fatalf("nothing is wrong, and yet %d\n%s", status, said)
		}
	}
	silently(t, db, `update a set name = null where id = 777; delete from a where id = 1; insert into a values (-5, 'new');
		delete from b where n = 500; update b set j = '{"a": 2}' where n = 501; insert into b values ('z"', 9, null)`)
	said, status := verify()
	for _, want := range []string{
		"public.a 777: the rows differ\n", "public.a 1: Postgres does not have it\n", "public.a -5: the node does not have it\n",
		`public.b ["k500",500]: Postgres does not have it` + "\n", `public.b ["k501",501]: the rows differ` + "\n", `public.b ["z\"",9]: the node does not have it` + "\n",
		"public.a: 1203 rows in Postgres, 1203 in the node, 3 wrong\n", "public.b: 700 rows in Postgres, 700 in the node, 3 wrong\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if status != 2 || strings.Contains(said, "public.busy 1") || strings.Contains(said, "public.busy 2") {
		t.Errorf("status %d\n%s", status, said)
	}
	if said, status := verify("--table", "public.b", "--repair"); status != 0 || !strings.Contains(said, "public.b: the node has loaded it again\n") || strings.Contains(said, "public.a") {
		t.Errorf("--repair of one table: %d\n%s", status, said)
	}
	if said, status := verify("--table", "public.b"); status != 0 {
		t.Errorf("after the repair: %d\n%s", status, said)
	}
	if said, status := verify("--table", "public.a"); status != 2 {
		t.Errorf("the other table: %d\n%s", status, said)
	}
	stop()
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if status := s.stop(t); status != 0 {
		t.Errorf("serve ends with %d\n%s", status, s.log)
	}
}

func TestVerifySaysInOneLineWhyItCannot(t *testing.T) {
	build(t)
	db, other := pgtest.New(t), pgtest.New(t)
	for _, d := range []*pgtest.DB{db, other} {
		d.Exec(t, "create table a (id int primary key)")
		if _, errs, status := runCommand(t, []string{"LOCKSTEP_DSN=" + d.DSN()}, "install", "--table", "public.a"); status != 0 {
			t.Fatal(errs)
		}
	}
	s := startServe(t, db, []string{tokenVar + "=" + httpToken}, "--listen", "127.0.0.1:0")
	here, token := "LOCKSTEP_DSN="+db.DSN(), tokenVar+"="+httpToken
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"no address", []string{here}, nil, "--url"},
		{"no address that is one", []string{here}, []string{"--url", "127.0.0.1:8080"}, "--url"},
		{"another page", []string{here}, []string{"--url", s.url + "/v1"}, "--url"},
		{"nobody there", []string{here}, []string{"--url", "http://127.0.0.1:1"}, "no node answers"},
		{"no token", []string{here}, []string{"--url", s.url}, "401"},
		{"a token too short", []string{here, tokenVar + "=short"}, []string{"--url", s.url}, "characters"},
		{"another table", []string{here, token}, []string{"--url", s.url, "--table", "public.b"}, "public.b is not served"},
		{"another database", []string{"LOCKSTEP_DSN=" + other.DSN(), token}, []string{"--url", s.url}, "does the node follow this database?"},
		{"no server", []string{"LOCKSTEP_DSN=postgres://u@127.0.0.1:1/x", token}, []string{"--url", s.url}, "no Postgres answers"},
	} {
		out, errs, status := runCommand(t, c.env, append([]string{"verify"}, c.args...)...)
		if status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) || strings.Contains(out+errs, httpToken) {
			t.Errorf("%s: status %d, %q, want one line with %q", c.name, status, errs, c.want)
		}
	}
	// Whatever went wrong, the node is free for the next one.
	if out, errs, status := runCommand(t, []string{here, token}, "verify", "--url", s.url); status != 0 {
		t.Errorf("at last: %d %s%s", status, out, errs)
	}
	if status := s.stop(t); status != 0 {
		t.Errorf("serve ends with %d\n%s", status, s.log)
	}
}
