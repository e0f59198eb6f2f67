package serve_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

func TestOddTablesAndOddKeys(t *testing.T) {
	tables := []string{`"Odd/ %Name"."T.x"`, "public.texts", "public.big", "public.pair", "public.ids"}
	site := served(t, serve.Options{MaxStale: time.Minute}, `
		create schema "Odd/ %Name"; create table "Odd/ %Name"."T.x" ("Id" int primary key, j json); insert into "Odd/ %Name"."T.x" values (7, E'{\n "a" : 1.10 }');
		create table texts (k text primary key, v int); insert into texts values ('a/b', 1), ('"q" \ é '||chr(10)||chr(1)||'<&>', 2), ('', 3), ('ünï%20', 4);
		create table big (id bigint primary key); insert into big values (9223372036854775807), (9007199254740993), (-1);
		create table pair (a int, b text, v date, primary key (b, a)); insert into pair values (1, 'x/y', '2020-02-29');
		create table ids (id uuid primary key); insert into ids values ('8f14e45f-ceea-467f-a0e6-1e2f3a4b5c6d')`, tables...)
	db, node, get := site.db, site.node, site.get
	row := func(table, key string) string {
		return "/v1/tables/" + url.PathEscape(table) + "/rows/" + url.PathEscape(key)
	}
	for _, c := range []struct {
		table, key string
		status     int
		want       string
	}{
		{tables[0], "7", 200, `{"Id":7,"j":{"a":1.10}}`},
		{tables[1], `"a/b"`, 200, `{"k":"a/b","v":1}`},
		{tables[1], `"a\/b"`, 200, `{"k":"a/b","v":1}`},
		{tables[1], `"\u0022q\" \\ \u00e9 \n\u0001<&>"`, 200, `"v":2}`},
		{tables[1], `""`, 200, `"v":3}`},
		{tables[1], `"ünï%20"`, 200, `"v":4}`},
		{tables[1], `"no"`, 404, "has no row"},
		{tables[1], `a/b`, 400, "want the JSON of the key"},
		{tables[2], "9223372036854775807", 200, `{"id":9223372036854775807}`},
		{tables[2], "9007199254740993", 200, `{"id":9007199254740993}`},
		{tables[2], "9007199254740992", 404, "has no row"},
		{tables[2], "null", 400, "never null"},
		{tables[3], `["x/y",1]`, 200, `{"a":1,"b":"x/y","v":"2020-02-29"}`},
		{tables[3], ` [ "x\/y" , 1 ] `, 200, `"v":"2020-02-29"}`},
		{tables[3], `[1,"x/y"]`, 404, "has no row"},
		{tables[3], `["x/y",`, 400, "no JSON array"},
		{tables[4], `"8f14e45f-ceea-467f-a0e6-1e2f3a4b5c6d"`, 200, "8f14e45f"},
		{"public.nowhere", "1", 404, "is not served here"},
	} {
		status, body, _ := get(row(c.table, c.key))
		if status != c.status || !strings.Contains(body, c.want) || strings.Count(body, "\n") != 1 {
			t.Errorf("%s %s: %d %q, want %d %q", c.table, c.key, status, body, c.status, c.want)
		}
	}
	db.Exec(t, `update texts set v = 100 where k = 'a/b'; delete from pair; update big set id = 5 where id = -1`)
	if err := node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{row(tables[3], `["x/y",1]`): 404, row(tables[2], "5"): 200, row(tables[2], "-1"): 404} {
		if status, body, _ := get(path); status != want {
			t.Errorf("%s: %d %q, want %d", path, status, body, want)
		}
	}
	if _, body, _ := get(row(tables[1], `"a/b"`)); !strings.Contains(body, `"v":100`) {
		t.Errorf("after the update: %q", body)
	}
}

func TestRowsAreOneViewAndStatusIsJSON(t *testing.T) {
	get := served(t, serve.Options{MaxStale: time.Minute}, "create table a (id int primary key, v text); insert into a select i, 'row ' || i from generate_series(1, 2500) i", "public.a").get
	status, body, header := get("/v1/tables/public.a/rows")
	if n := strings.Count(body, "\n"); status != 200 || n != 2500 || header.Get("Lockstep-Position") == "" || header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d, %d lines, %v", status, n, header)
	}
	for line := range strings.Lines(body) {
		if !json.Valid([]byte(line)) {
			t.Fatalf("%q is no JSON", line)
		}
	}
	_, body, _ = get("/v1/status")
	var s struct {
		Name, State, Position string
		Staleness             float64 `json:"staleness_seconds"`
		Tables                []struct {
			Name string
			Rows int
		}
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.Name != "n1" || s.State != "live" || s.Position == "" || len(s.Tables) != 1 || s.Tables[0].Rows != 2500 {
		t.Errorf("%+v, %v of %s", s, err, body)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 404, "/v1/tables/public.a": 404, "/v1/tables/public.a/rows/1/2": 404} {
		if status, _, _ := get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}
