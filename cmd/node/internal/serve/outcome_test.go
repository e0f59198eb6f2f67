package serve_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
	"github.com/pglockstep/lockstep/internal/link"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestATokenShowsAWriteOnAnotherNode(t *testing.T) {
	s := served(t, writes, "create table a (id int primary key)", "public.a")
	other := servedOn(t, s.db, s.db.Pool(t), serve.Options{ReadWait: time.Minute}, "public.a")
	a := s.send(http.MethodPut, rowPath("public.a", "1"), "{}", asJSON)
	token := "Lockstep-Token: " + a.header.Get("Lockstep-Token")
	if a := other.send(http.MethodGet, rowPath("public.a", "1"), "", token); a.status != 200 {
		t.Errorf("the other node: %d %s", a.status, a.body)
	}
	if a := other.send(http.MethodGet, "/v1/tables/public.a/rows", "", token); a.body != "{\"id\":1}\n" {
		t.Errorf("the other node: %d %s", a.status, a.body)
	}
}

func TestAReadWaitsForItsTokenAndNotForEver(t *testing.T) {
	s := served(t, serve.Options{ReadWait: time.Millisecond}, "create table a (id int primary key); insert into a values (1)", "public.a")
	patient := serve.New(s.tables, serve.Options{ReadWait: time.Minute})
	patient.Ready(s.node)
	tx, token := s.transaction()
	if _, err := tx.Exec(t.Context(), "update a set id = 2"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{rowPath("public.a", "1"), "/v1/tables/public.a/rows", "/v1/status"} {
		a := s.send(http.MethodGet, path, "", "Lockstep-Token: "+token)
		a.wantProblem(t, 504, "not-here-yet")
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", path, a.header)
		}
		if a := s.send(http.MethodGet, path, ""); a.status != 200 {
			t.Errorf("%s without a token: %d", path, a.status)
		}
	}
	got := make(chan answer)
	go func() {
		got <- ask(patient, http.MethodGet, "http://localhost"+rowPath("public.a", "2"), "Lockstep-Token: "+token)
	}()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.status != 200 {
		t.Errorf("after the commit: %d %s", a.status, a.body)
	}
}

func TestATokenThatSaysNothingHereIsRefused(t *testing.T) {
	s := served(t, serve.Options{}, "create table a (id int primary key)", "public.a")
	for _, path := range []string{"/v1/tables/public.a/rows", "/v1/status"} {
		s.send(http.MethodGet, path, "", "Lockstep-Token: "+uuid.NewString()+":7").wantProblem(t, 412, "other-history")
		for _, token := range []string{"x", "7", uuid.NewString(), uuid.NewString() + ":-1", "nil:7"} {
			s.send(http.MethodGet, path, "", "Lockstep-Token: "+token).wantProblem(t, 400, "bad-request")
		}
	}
}

func TestATableThatIsNotKeptDoesNotAnswerForAToken(t *testing.T) {
	s := served(t, serve.Options{ReadWait: time.Minute}, "create table a (id int primary key); create table b (id int primary key)", "public.a", "public.b")
	s.db.Exec(t, "drop table b")
	until(t, "the node misses the table", func() bool { return s.node.Status().Tables[1].Problem != nil })
	tx, token := s.transaction()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := s.send(http.MethodGet, "/v1/tables/public.a/rows", "", "Lockstep-Token: "+token); a.status != 200 {
		t.Errorf("the table that is kept: %d %s", a.status, a.body)
	}
	s.send(http.MethodGet, "/v1/tables/public.b/rows", "", "Lockstep-Token: "+token).wantProblem(t, 503, "unavailable")
}

func TestWhilePostgresIsAwayWritesAreRefusedAndReadsGoOn(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key); insert into a values (1)")
	var l link.Link
	s := servedOn(t, db, db.Pool(t, l.Through), writes, "public.a")
	l.Cut()
	put := func() answer { return s.send(http.MethodPut, rowPath("public.a", "2"), "{}", asJSON) }
	until(t, "the pool has noticed", func() bool { return put().status != 504 })
	a := put()
	a.wantProblem(t, 503, "unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	if status, body, _ := s.get(rowPath("public.a", "1")); status != 200 {
		t.Errorf("a read: %d %s", status, body)
	}
	l.Heal()
	until(t, "writes again", func() bool { return put().status < 300 })
}

func TestAWriteWhoseAnswerIsLostIsSaidToBeUnknown(t *testing.T) {
	s := served(t, writes, `create table a (id int primary key);
		create function dies() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
		create trigger dies before insert on a for each row execute function dies()`, "public.a")
	a := s.send(http.MethodPut, rowPath("public.a", "1"), "{}", asJSON)
	if detail := a.wantProblem(t, 504, "outcome-unknown"); !strings.Contains(detail, "look before you write again") || a.header.Get("Retry-After") != "" {
		t.Errorf("%v %s", a.header, detail)
	}
}

func TestAWriteThatIsCommittedAndNotVisibleIsAccepted(t *testing.T) {
	s := served(t, serve.Options{Writes: true, WriteWait: 4 * time.Second}, "create table a (id int primary key)", "public.a")
	tx, err := s.db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table lockstep.meta in access exclusive mode"); err != nil { // which every fetch reads
		t.Fatal(err)
	}
	a := s.send(http.MethodPut, rowPath("public.a", "1"), "{}", asJSON)
	if a.status != 202 || !strings.HasPrefix(a.body, `{"committed":true,"visible":false,"detail":"`) || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Its token waits for it.
	until(t, "the row", func() bool {
		return s.send(http.MethodGet, rowPath("public.a", "1"), "", "Lockstep-Token: "+a.header.Get("Lockstep-Token")).status == 200
	})
}
