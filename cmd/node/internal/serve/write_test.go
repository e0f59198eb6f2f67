package serve_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

const asJSON = "Content-Type: application/json"

var writes = serve.Options{Writes: true, WriteWait: time.Minute}

// until waits for what comes by itself.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	pgtest.Until(t, time.Minute, what, yes)
}

func TestARowIsCreatedReplacedAndDeleted(t *testing.T) {
	s := served(t, writes, `
		create table items (id int primary key, name text not null, qty int default 1, doubled int generated always as (qty * 2) stored);
		create schema "Odd/ %Name"; create table "Odd/ %Name"."T.x" ("K 1" text, "k/2" int, primary key ("k/2", "K 1"))`, "public.items", `"Odd/ %Name"."T.x"`)
	items, odd := rowPath("public.items", "7"), rowPath(`"Odd/ %Name"."T.x"`, ` [5, "a\/b\u003c"]`)
	for _, c := range []struct {
		method, path, body string
		status             int
		row                string // afterwards
	}{
		{http.MethodPut, items, `{"name":"nut"}`, 201, `{"id":7,"name":"nut","qty":1,"doubled":2}`},
		{http.MethodPut, items, `{"id":7,"name":"bolt","qty":3,"doubled":99}`, 204, `{"id":7,"name":"bolt","qty":3,"doubled":6}`},
		{http.MethodPut, items, " {\n\"name\":\"pin\" } ", 204, `{"id":7,"name":"pin","qty":3,"doubled":6}`},
		{http.MethodDelete, items, "", 204, ""},
		{http.MethodPut, odd, `{}`, 201, `{"K 1":"a/b<","k/2":5}`},
		{http.MethodPut, odd, `{ "k/2":5 }`, 204, `{"K 1":"a/b<","k/2":5}`},
		{http.MethodDelete, odd, "", 204, ""},
	} {
		a := s.send(c.method, c.path, c.body, asJSON)
		if a.status != c.status || a.body != "" {
			t.Errorf("%s %s %s: %d %q", c.method, c.path, c.body, a.status, a.body)
		}
		token, err := lockstep.ParseToken(a.header.Get("Lockstep-Token"))
		if none := c.body == `{ "k/2":5 }`; err != nil || (token == lockstep.Token{}) != none {
			t.Errorf("%s %s: token %v, %v", c.method, c.path, token, err)
		}
		// It is to be seen here at once.
		if a := s.send(http.MethodGet, c.path, ""); c.row == "" && a.status != 404 || c.row != "" && a.body != c.row+"\n" {
			t.Errorf("after %s %s: %d %q, want %q", c.method, c.path, a.status, a.body, c.row)
		}
	}
	s.send(http.MethodDelete, items, "").wantProblem(t, 404, "not-found")
}

func TestAKeyInAnotherWayOfWritingNamesTheRowThatPostgresTakesItFor(t *testing.T) {
	s := served(t, writes, "create table ids (id uuid primary key, v int)", "public.ids")
	const id = `"8f14e45f-ceea-467f-a0e6-1e2f3a4b5c6d"`
	for _, want := range []int{201, 204} {
		if a := s.send(http.MethodPut, rowPath("public.ids", strings.ToUpper(id)), `{"v":1}`, asJSON); a.status != want {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if a, b := s.send(http.MethodGet, rowPath("public.ids", id), ""), s.send(http.MethodGet, rowPath("public.ids", strings.ToUpper(id)), ""); a.status != 200 || b.status != 404 {
		t.Errorf("%d %d", a.status, b.status)
	}
	if a := s.send(http.MethodDelete, rowPath("public.ids", strings.ToUpper(id)), ""); a.status != 204 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestWritesAreOffUnlessTheyAreAskedFor(t *testing.T) {
	s := served(t, serve.Options{}, "create table a (id int primary key); insert into a values (1)", "public.a")
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPost, http.MethodPatch} {
		for _, path := range []string{rowPath("public.a", "1"), "/v1/tables/public.a/rows"} {
			a := s.send(method, path, "{}", asJSON)
			a.wantProblem(t, 405, "not-allowed")
			if a.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s: Allow is %q", method, a.header.Get("Allow"))
			}
		}
	}
	if status, _, _ := s.get(rowPath("public.a", "1")); status != 200 {
		t.Errorf("the row: %d", status)
	}
}

func TestWhatIsWrongWithAWriteDecidesItsStatus(t *testing.T) {
	s := served(t, serve.Options{Writes: true, MaxBody: 1000}, `
		create table groups (id int primary key); insert into groups values (1);
		create table items (id int primary key, name text not null unique, qty int check (qty > 0), grp int references groups, at date, during int4range, exclude using gist (during with &&));
		insert into items (id, name, during) values (1, 'taken', '[1,5)'); insert into items (id, name, grp) values (2, 'two', 1);
		create table texts (k text primary key)`, "public.items", "public.groups", "public.texts")
	item := rowPath("public.items", "9")
	for _, c := range []struct {
		name, method, path, body, kind string
		status                         int
		word, detail                   string
	}{
		{"no JSON", "PUT", item, `{"name":`, asJSON, 400, "bad-request", "no JSON"},
		{"nothing", "PUT", item, ``, asJSON, 400, "bad-request", "no JSON"},
		{"broken UTF-8", "PUT", item, "{\"name\":\"\xff\"}", asJSON, 400, "bad-request", "UTF-8"},
		{"two documents", "PUT", item, `{"name":"a"}{}`, asJSON, 400, "bad-request", "no JSON"},
		{"a key that is none", "PUT", rowPath("public.items", "x"), `{}`, asJSON, 400, "bad-request", "JSON of the key"},
		{"a condition", "PUT", item, `{"name":"a"}`, asJSON + "\nIf-None-Match: *", 400, "bad-request", "If-None-Match"},
		{"a condition on DELETE", "DELETE", rowPath("public.items", "1"), ``, "If-Match: \"x\"", 400, "bad-request", "If-Match"},
		{"no such table", "PUT", rowPath("public.nowhere", "1"), `{}`, asJSON, 404, "not-found", "is not served"},
		{"no such row", "DELETE", item, ``, asJSON, 404, "not-found", "no row"},
		{"a text key that is a number", "DELETE", rowPath("public.texts", "7"), ``, asJSON, 404, "not-found", "no row"},
		{"no such page", "PUT", "/v1/tables/public.items/rows/1/2", `{}`, asJSON, 404, "not-found", ""},
		{"all rows", "DELETE", "/v1/tables/public.items/rows", ``, asJSON, 405, "not-allowed", "GET and HEAD"},
		{"POST", "POST", item, `{}`, asJSON, 405, "not-allowed", "PUT and DELETE"},
		{"a unique index", "PUT", item, `{"name":"taken"}`, asJSON, 409, "conflict", "items_name_key"},
		{"a foreign key", "PUT", item, `{"name":"a","grp":2}`, asJSON, 409, "conflict", "items_grp_fkey"},
		{"a foreign key of others", "DELETE", rowPath("public.groups", "1"), ``, asJSON, 409, "conflict", "items_grp_fkey"},
		{"an exclusion", "PUT", item, `{"name":"a","during":"[2,3)"}`, asJSON, 409, "conflict", "items_during_excl"},
		{"a large body", "PUT", item, `{"name":"` + strings.Repeat("x", 1000) + `"}`, asJSON, 413, "too-large", "1000 bytes"},
		{"a form", "PUT", item, `name=a`, "Content-Type: application/x-www-form-urlencoded", 415, "not-json", "application/json"},
		{"text", "PUT", item, `{"name":"a"}`, "Content-Type: text/plain", 415, "not-json", ""},
		{"no type", "PUT", item, `{"name":"a"}`, "X: y", 415, "not-json", ""},
		{"another charset", "PUT", item, `{"name":"a"}`, asJSON + "; charset=latin1", 415, "not-json", ""},
		{"a compressed body", "PUT", item, `{"name":"a"}`, asJSON + "\nContent-Encoding: gzip", 415, "not-json", "gzip"},
		{"an array", "PUT", item, `[1]`, asJSON, 422, "refused", "no JSON object"},
		{"null", "PUT", item, `null`, asJSON, 422, "refused", "no JSON object"},
		{"a column that is not there", "PUT", item, `{"name":"a","colour":1}`, asJSON, 422, "refused", `no column "colour"`},
		{"a column twice", "PUT", item, `{"name":"a","name":"b"}`, asJSON, 422, "refused", "twice"},
		{"another key", "PUT", item, `{"id":8,"name":"a"}`, asJSON, 422, "refused", `has "id" as 8, and the path has 9`},
		{"a key of another kind", "PUT", rowPath("public.texts", "7"), `{}`, asJSON, 422, "refused", "a string"},
		{"a key of too many", "PUT", rowPath("public.items", "[9,1]"), `{"name":"a"}`, asJSON, 422, "refused", "[9,1] is no key"},
		{"a missing column", "PUT", item, `{"qty":1}`, asJSON, 422, "refused", "name is NOT NULL"},
		{"a null", "PUT", item, `{"name":null}`, asJSON, 422, "refused", "null value"},
		{"a check", "PUT", item, `{"name":"a","qty":0}`, asJSON, 422, "refused", "items_qty_check"},
		{"a wrong type", "PUT", item, `{"name":"a","qty":"x"}`, asJSON, 422, "refused", "22P02"},
		{"a wrong date", "PUT", item, `{"name":"a","at":"2020-02-30"}`, asJSON, 422, "refused", "22008"},
		{"a number out of range", "PUT", item, `{"name":"a","qty":9999999999}`, asJSON, 422, "refused", "22003"},
		{"a zero byte", "PUT", item, `{"name":"a\u0000"}`, asJSON, 422, "refused", "22P05"},
	} {
		a := s.send(c.method, c.path, c.body, strings.Split(c.kind, "\n")...)
		if detail := a.wantProblem(t, c.status, c.word); !strings.Contains(detail, c.detail) || strings.Contains(detail, "Failing row") || strings.Contains(detail, "already exists") {
			t.Errorf("%s: %s", c.name, a.body)
		}
		if a.header.Get("Lockstep-Token") != "" {
			t.Errorf("%s: a token, and nothing is committed", c.name)
		}
	}
	if a := s.send(http.MethodPut, item, `{"name":"a"}`, "Content-Type: Application/JSON; charset=UTF-8"); a.status != 201 {
		t.Errorf("a good one after all these: %d %s", a.status, a.body)
	}
}

func TestWhatPostgresSaysOfAWriteDecidesItsStatus(t *testing.T) {
	s := served(t, writes, `
		create table items (id int primary key, code text);
		create function raise() returns trigger language plpgsql as $$ begin raise exception E'said\nso' using errcode = new.code; end $$;
		create trigger raise before insert on items for each row execute function raise()`, "public.items")
	for code, want := range map[string]struct {
		status int
		word   string
	}{
		"40001": {409, "conflict"}, "40P01": {409, "conflict"}, "55P03": {409, "conflict"}, "23001": {409, "conflict"},
		"42501": {403, "forbidden"}, "25006": {503, "unavailable"}, "57014": {503, "unavailable"}, "53100": {503, "unavailable"}, "53300": {503, "unavailable"},
		"P0001": {422, "refused"}, "44000": {422, "refused"}, "42703": {422, "refused"}, "54000": {422, "refused"}, "ZZ999": {500, "failed"}, "XX000": {500, "failed"},
		"08006": {504, "outcome-unknown"}, "57P01": {504, "outcome-unknown"}, "40003": {504, "outcome-unknown"},
	} {
		a := s.send(http.MethodPut, rowPath("public.items", "1"), `{"code":"`+code+`"}`, asJSON)
		if detail := a.wantProblem(t, want.status, want.word); !strings.Contains(detail, "said so") || !strings.Contains(detail, code) {
			t.Errorf("%s: %s", code, detail)
		}
		if retry := a.header.Get("Retry-After") != ""; retry != (want.status == 503) {
			t.Errorf("%s: Retry-After is %q", code, a.header.Get("Retry-After"))
		}
	}
}

func TestATriggerThatKeepsTheRowIsARefusal(t *testing.T) {
	s := served(t, writes, `
		create table items (id int primary key, v int); create function nothing() returns trigger language plpgsql as $$ begin return null; end $$;
		create trigger nothing before insert on items for each row execute function nothing()`, "public.items")
	s.send(http.MethodPut, rowPath("public.items", "1"), `{"v":1}`, asJSON).wantProblem(t, 422, "refused")
}

func TestAWriteOfARoleThatMayNotIsForbidden(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, "create table items (id int primary key)")
	role := db.Role(t)
	db.Exec(t, "grant select on items to "+role.Name)
	if err := triggers.Install(t.Context(), db.Conn(t), triggers.Options{Logger: slog.New(slog.DiscardHandler)}, "public.items"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "grant usage on schema lockstep to "+role.Name+"; grant select on all tables in schema lockstep to "+role.Name+"; grant select on all sequences in schema lockstep to "+role.Name)
	s := servedOn(t, db, db.PoolAs(t, role), writes, "public.items")
	s.send(http.MethodPut, rowPath("public.items", "1"), `{}`, asJSON).wantProblem(t, 403, "forbidden")
	s.send(http.MethodDelete, rowPath("public.items", "1"), ``).wantProblem(t, 403, "forbidden")
}

// A write's client may be told of it and gone, or gone before.
func TestAClientThatLeavesDoesNotEndItsWrite(t *testing.T) {
	s := served(t, writes, "create table items (id int primary key, v int); insert into items values (1, 1)", "public.items")
	conn := s.db.Conn(t)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "update items set v = 2"); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.server.URL+rowPath("public.items", "1"), strings.NewReader(`{"v":3}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	left := make(chan error)
	go func() {
		res, err := s.server.Client().Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		left <- err
	}()
	other := s.db.Conn(t)
	until(t, "the write waits for the row", func() bool {
		var n int
		err := other.QueryRow(t.Context(), "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").Scan(&n)
		return err == nil && n == 1
	})
	leave()
	if err := <-left; err == nil {
		t.Error("the write was answered")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the write of the client that left", func() bool {
		_, body, _ := s.get(rowPath("public.items", "1"))
		return body == "{\"id\":1,\"v\":3}\n"
	})
}

// transaction is one that is open, and its token.
func (s *site) transaction() (pgx.Tx, string) {
	s.t.Helper()
	tx, err := s.db.Conn(s.t).Begin(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	token, err := s.node.TokenOf(s.t.Context(), tx)
	if err != nil {
		s.t.Fatal(err)
	}
	return tx, token.String()
}
