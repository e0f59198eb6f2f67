package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestColumnsAreNamedAsSQLWritesThem(t *testing.T) {
	got, err := columnsByTable([]string{"public.a=ssn, Photo", `"Odd=Schema"."a,b"="The ""SSN""","x,y"`}, []string{"b"})
	want := map[string][]string{"public.a": {"ssn", "photo"}, `"Odd=Schema"."a,b"`: {`The "SSN"`, "x,y"}, "b": {}}
	if err != nil || !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"public.a", "public.a=", "public.a= ", "=x", "a=b=c", "a=b,", "a=b c", `a="b`, `a=""`, `a="b"c"`, `a=b.c`, ""} {
		if got, err := columnsByTable([]string{bad}, nil); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is %q, %v", bad, got, err)
		}
	}
	for want, all := range map[string][]string{"names table a twice": nil, "is in --all-columns and in": {"a"}} {
		if _, err := columnsByTable([]string{"a=b", "a=c"}, all); err == nil || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
}

// What a served node, its streams, its checkpoint and the commands that read them say of a table of which columns are left out.
func TestATableOfWhichColumnsAreLeftOutIsServedComparedAndReplayed(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, `create table a (ssn text not null default 'geheim 1', id int primary key, name text, doc json default '{"a":  1}', photo bytea default 'geheim 2');
		insert into a (id, name) select i, 'row ' || i from generate_series(1, 700) i`)
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	var said strings.Builder // everything that any command has said
	run := func(status int, want string, args ...string) {
		t.Helper()
		out, errs, code := runCommand(t, env, args...)
		said.WriteString(out + errs)
		if code != status || !strings.Contains(out+errs, want) {
			t.Errorf("%q: status %d, %s%s, want %d and %q", args, code, out, errs, status, want)
		}
	}
	run(0, "statement capture, without ssn, photo\n", "install", "--exclude-columns", "public.a=ssn,PHOTO")
	run(0, `"columns":"ssn, photo"`, "install", "--all-columns", "public.a")
	run(1, "names no column: say --all-columns public.a", "install", "--exclude-columns", "public.a=")
	run(1, `column "id" cannot be left out`, "install", "--exclude-columns", "public.a=id")
	run(0, "captured", "install", "--exclude-columns", "public.a=ssn,photo")
	run(0, "without ssn, photo\n", "install", "--table", "public.a")
	run(0, "without ssn, photo\nnothing has drifted", "inspect")
	dir := filepath.Join(t.TempDir(), "kept")
	serve := []string{"--listen", "127.0.0.1:0", "--writes", "--checkpoint", dir, "--name", "web-1"}
	s := startServe(t, db, nil, serve...)
	ask := func(method, path, body string, status int) string {
		t.Helper()
		code, answer, _ := s.curl(t, method, path, body)
		said.WriteString(answer)
		if code != status {
			t.Errorf("%s %s: %d %s, want %d", method, path, code, answer, status)
		}
		return answer
	}
	row := ask(http.MethodGet, "/v1/tables/public.a/rows/7", "", 200)
	if row != `{"id":7,"name":"row 7","doc":{"a":1}}`+"\n" {
		t.Errorf("GET: %q", row)
	}
	ask(http.MethodPut, "/v1/tables/public.a/rows/7", strings.Replace(row, "row 7", "put", 1), 204)
	ask(http.MethodPut, "/v1/tables/public.a/rows/8", `{"name":"b","ssn":"geheim 8"}`, 204)
	ask(http.MethodPut, "/v1/tables/public.a/rows/1000", `{"name":"new","photo":"\\x67656865696d"}`, 201)
	ask(http.MethodDelete, "/v1/tables/public.a/rows/9", "", 204)
	db.Exec(t, "update a set name = 'x', photo = 'geheim 3' where id < 5; update a set ssn = 'geheim 4'; update a set id = -id where id = 20")
	db.Exec(t, "begin isolation level serializable; update a set name = 'y' where id = 30; commit")
	if got := ask(http.MethodGet, "/v1/tables/public.a/rows/8", "", 200); got != `{"id":8,"name":"b","doc":{"a":1}}`+"\n" {
		t.Errorf("GET: %q", got)
	}
	var kept []string
	conn := db.Conn(t)
	if err := conn.QueryRow(t.Context(), "select array[(select ssn from a where id = 7), (select ssn from a where id = 8), (select convert_from(photo, 'UTF8') from a where id = 1000)]").Scan(&kept); err != nil || !slices.Equal(kept, []string{"geheim 4", "geheim 4", "geheim"}) {
		t.Errorf("Postgres has %q, %v", kept, err)
	}
	run(0, "public.a: 700 rows in Postgres, 700 in the node, 0 wrong", "verify", "--url", s.url)
	silently(t, db, "update a set ssn = 'geheim 5' where id = 1") // which no node shows
	run(0, "0 wrong", "verify", "--url", s.url)
	silently(t, db, "update a set name = 'wrong', ssn = 'geheim 6' where id = 1")
	run(2, "public.a 1: the rows differ", "verify", "--url", s.url)
	run(0, "loaded it again", "verify", "--url", s.url, "--repair")
	if code := s.stop(t); code != 0 {
		t.Fatalf("exit status %d\n%s", code, s.log)
	}
	said.WriteString(s.log.String())
	db.Exec(t, "update a set name = 'missed', ssn = 'geheim 7' where id < 300; delete from a where id = 300; insert into a (id) values (2000)")
	run(0, "0 wrong", "verify", "--checkpoint", dir)
	run(0, `"name":"missed"`, "replay", "--node", "web-1")
	run(0, "", "replay", "--checkpoint", dir)
	run(0, "0 wrong", "verify", "--checkpoint", dir)
	// Captured again: the checkpoint's documents are of before.
	run(0, "captured again", "install", "--exclude-columns", "public.a=photo")
	run(0, "0 wrong", "verify", "--checkpoint", dir)
	run(0, "", "replay", "--checkpoint", dir)
	run(0, "0 wrong", "verify", "--checkpoint", dir)
	s = startServe(t, db, nil, serve...)
	if code, got, _ := s.curl(t, http.MethodGet, "/v1/tables/public.a/rows/2000", ""); code != 200 || !strings.Contains(got, `"ssn":"geheim 1"`) || !json.Valid([]byte(got)) {
		t.Errorf("GET: %d %q", code, got)
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("exit status %d\n%s", code, s.log)
	}
	for _, marker := range []string{"geheim", "67656865696d"} {
		if i := strings.Index(said.String(), marker); i >= 0 {
			t.Errorf("what is left out was said: %.200s", said.String()[max(0, i-100):])
		}
	}
}
