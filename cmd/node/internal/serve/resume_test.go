package serve_test

import (
	"fmt"
	"testing"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

func TestAStreamIsResumedWithWhatItMissedAndNothingElse(t *testing.T) {
	s := served(t, serve.Options{}, twoTables, "public.a", "public.b")
	l := s.listen("")
	l.untilLive()
	s.db.Exec(t, "insert into a values (2, 'two')")
	l.take(1)
	l.leave()
	for i := range 3 {
		s.db.Exec(t, fmt.Sprintf("update a set v = 'v%d' where id = 2", i))
		if err := s.node.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	again := s.listen("", "Last-Event-ID: "+l.lastID)
	want(t, again.take(3), `update public.a 2 {"id":2,"v":"v0"}`, `update public.a 2 {"id":2,"v":"v1"}`, `update public.a 2 {"id":2,"v":"v2"}`)
	again.leave()
	// Twice in a row, and at the newest change.
	last := s.listen("", "Last-Event-ID: "+again.lastID)
	s.db.Exec(t, "delete from a where id = 2")
	want(t, last.take(1), "delete public.a 2")
}

func TestAStreamThatBreaksInsideACutGetsItWholeAgain(t *testing.T) {
	s := served(t, serve.Options{}, twoTables, "public.a", "public.b")
	l := s.listen("")
	l.untilLive()
	s.db.Exec(t, "begin; insert into a values (2, 'two'), (3, 'three'); delete from b; commit")
	l.take(2)
	l.leave()
	again := s.listen("", "Last-Event-ID: "+l.lastID)
	want(t, again.take(3), `insert public.a 2 {"id":2,"v":"two"}`, `insert public.a 3 {"id":3,"v":"three"}`, `delete public.b "x"`)
}

func TestWhereTheWindowDoesNotReachBackAStreamBeginsAgain(t *testing.T) {
	s := served(t, serve.Options{Window: 2000}, twoTables, "public.a", "public.b")
	l := s.listen("?table=public.a")
	l.untilLive()
	l.leave()
	for i := range 50 {
		s.db.Exec(t, fmt.Sprintf("update a set v = 'v%d'", i))
		if err := s.node.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	again := s.listen("?table=public.a", "Last-Event-ID: "+l.lastID)
	want(t, again.untilLive(), "reset", `row public.a 1 {"id":1,"v":"v49"}`, "live")
	again.leave()
	// What the new beginning has left is a place like any other.
	last := s.listen("?table=public.a", "Last-Event-ID: "+again.lastID)
	s.db.Exec(t, "update a set v = 'last'")
	want(t, last.take(1), `update public.a 1 {"id":1,"v":"last"}`)
}

func TestACutLargerThanTheWindowIsAReset(t *testing.T) {
	s := served(t, serve.Options{Window: 10_000}, twoTables, "public.a", "public.b")
	l := s.listen("?table=public.b")
	l.untilLive()
	s.db.Exec(t, "begin; insert into a select i, repeat('x', 100) from generate_series(2, 1000) i; update b set n = 2; commit")
	want(t, l.untilLive(), "reset", `row public.b "x" {"k":"x","n":2}`, "live")
	s.db.Exec(t, "update b set n = 3")
	want(t, l.take(1), `update public.b "x" {"k":"x","n":3}`)
}

func TestAPlaceOfAnotherNodeOrOfOtherTablesIsNone(t *testing.T) {
	s := served(t, serve.Options{}, twoTables, "public.a", "public.b")
	other := servedOn(t, s.db, s.db.Pool(t), serve.Options{}, "public.a", "public.b")
	l := s.listen("?table=public.a")
	l.untilLive()
	rows := []string{"reset", `row public.b "x" {"k":"x","n":1}`, "live"}
	want(t, other.listen("?table=public.b", "Last-Event-ID: "+l.lastID).untilLive(), rows...)
	for _, id := range []string{l.lastID, "", "7", "x-7", l.lastID + "x", "-", "-1"} {
		want(t, s.listen("?table=public.b", "Last-Event-ID: "+id).untilLive(), rows...)
	}
}

func TestALoadIsToldAsTheDifferenceThatItMade(t *testing.T) {
	s := served(t, serve.Options{}, twoTables, "public.a", "public.b")
	l := s.listen("")
	l.untilLive()
	s.db.Exec(t, "set session_replication_role = replica; alter table a disable trigger all; insert into a values (9, 'nine'); alter table a enable always trigger lockstep_insert; alter table a enable always trigger lockstep_update; alter table a enable always trigger lockstep_delete; alter table a enable always trigger lockstep_truncate")
	if err := s.node.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := l.take(1)
	want(t, got, `insert public.a 9 {"id":9,"v":"nine"}`)
	if got[0].data.Xid != "" || got[0].id == "" {
		t.Errorf("%+v", got[0])
	}
}
