package serve_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

// openCut opens a cut and returns its path.
func (s *site) openCut(body string) string {
	s.t.Helper()
	a := s.send("POST", "/v1/cuts", body)
	var cut struct {
		ID       string
		Position string
		Name     string `json:"snapshot_name"`
	}
	if err := json.Unmarshal([]byte(a.body), &cut); err != nil || a.status != 201 || cut.ID == "" || cut.Position == "" || cut.Name == "" {
		s.t.Fatalf("POST /v1/cuts: %d %s", a.status, a.body)
	}
	return "/v1/cuts/" + cut.ID
}

func TestACutIsOneInstantUntilItEnds(t *testing.T) {
	s := served(t, serve.Options{}, "create table a (id int primary key, v text); insert into a values (1, 'one'), (2, 'two')", "public.a")
	cut := s.openCut("")
	s.send("POST", "/v1/cuts", "").wantProblem(t, 503, "unavailable")
	s.db.Exec(t, "update a set v = 'else' where id = 1; delete from a where id = 2; insert into a values (3, 'three')")
	if err := s.node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := s.send("POST", cut+"/tables/public.a/rows", "[2,1,3]")
	if a.status != 200 || a.body != `{"id":2,"v":"two"}`+"\n"+`{"id":1,"v":"one"}`+"\nnull\n" || a.header.Get("Lockstep-Position") == "" {
		t.Errorf("rows: %d %q", a.status, a.body)
	}
	if a := s.send("GET", cut+"/tables/public.a/keys", ""); a.body != "1\n2\n" && a.body != "2\n1\n" {
		t.Errorf("keys: %d %q", a.status, a.body)
	}
	s.send("POST", cut+"/tables/public.b/rows", "[1]").wantProblem(t, 404, "not-found")
	s.send("POST", cut+"/tables/public.a/rows", "[null]").wantProblem(t, 400, "bad-request")
	s.send("POST", cut+"/tables/public.a/rows", "{").wantProblem(t, 400, "bad-request")
	s.send("POST", cut+"/tables/public.a/rows", "["+strings.Repeat("1,", 10_000)+"1]").wantProblem(t, 413, "too-large")
	s.send("POST", cut+"/tables/public.a/rows", `["`+strings.Repeat("x", 2<<20)+`"]`).wantProblem(t, 413, "too-large")
	s.send("GET", cut+"/tables/public.a/rows", "").wantProblem(t, 405, "not-allowed")
	s.send("GET", "/v1/cuts", "").wantProblem(t, 405, "not-allowed")
	s.send("GET", cut, "").wantProblem(t, 405, "not-allowed")
	s.send("DELETE", cut, "", "Origin: http://elsewhere.example").wantProblem(t, 403, "foreign")
	s.send("DELETE", cut+"x", "").wantProblem(t, 404, "not-found")
	if a := s.send("DELETE", cut, ""); a.status != 204 {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	s.send("POST", cut+"/tables/public.a/rows", "[1]").wantProblem(t, 404, "not-found")
	s.send("POST", "/v1/cuts", `{"tables":["public.nowhere"]}`).wantProblem(t, 404, "not-found")
	s.send("POST", "/v1/cuts", "[").wantProblem(t, 400, "bad-request")
	cut = s.openCut(`{"tables":["public.a"]}`)
	s.pages.End()
	s.send("GET", cut+"/tables/public.a/keys", "").wantProblem(t, 404, "not-found")
	s.wantNoTransaction()
}

// wantNoTransaction waits until nothing holds a snapshot.
func (s *site) wantNoTransaction() {
	s.t.Helper()
	conn := s.db.Conn(s.t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for {
		var n int
		if err := conn.QueryRow(s.t.Context(), "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'").Scan(&n); err != nil {
			s.t.Fatal(err)
		}
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("%d transactions were left open", n)
		}
	}
}

func TestACutThatIsNotAskedForEnds(t *testing.T) {
	s := served(t, serve.Options{CutIdle: 50 * time.Millisecond}, "create table a (id int primary key)", "public.a")
	s.openCut("")
	s.wantNoTransaction()
	s.openCut("") // there is room for another one
}

func TestReloadMendsATable(t *testing.T) {
	s := served(t, serve.Options{}, "create table a (id int primary key); insert into a values (1)", "public.a")
	s.db.Exec(t, "begin; insert into a values (2); delete from lockstep.outbox where xid = pg_current_xact_id(); commit")
	if err := s.node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := s.get(rowPath("public.a", "2")); status != 404 {
		t.Fatalf("the row's event was deleted, and yet %d", status)
	}
	s.send("GET", "/v1/tables/public.a/reload", "").wantProblem(t, 405, "not-allowed")
	s.send("POST", "/v1/tables/public.a/reload", "", "Host: evil.example").wantProblem(t, 403, "foreign")
	s.send("POST", "/v1/tables/public.b/reload", "").wantProblem(t, 404, "not-found")
	if a := s.send("POST", "/v1/tables/public.a/reload", ""); a.status != 204 {
		t.Errorf("reload: %d %s", a.status, a.body)
	}
	if status, body, _ := s.get(rowPath("public.a", "2")); status != 200 {
		t.Errorf("after the reload: %d %s", status, body)
	}
}
