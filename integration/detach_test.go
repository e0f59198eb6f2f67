package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/triggers"
)

// Who takes capture off a table has its nodes say so with their next fetch, and not when they compare the catalogue; they go on
// answering from memory, and the other tables with them.
func TestANodeSaysAtOnceThatATableIsNotCapturedAnyMore(t *testing.T) {
	db := fresh(t)
	db.Exec(t, "create table a (id int primary key, v int not null); create table b (like a including all)")
	install(t, db, "public.a", "public.b")
	a, b := lockstep.NewTable("public.a", func(i item) int { return i.ID }), lockstep.NewTable("public.b", func(i item) int { return i.ID })
	node := startNode(t, db.Pool(t), lockstep.Config{Logger: silent}, a, b)
	db.Exec(t, "insert into a values (1, 1)")
	barrier(t, node)
	options := triggers.Options{Logger: silent}
	if err := triggers.Detach(t.Context(), db.Pool(t), options, "public.a"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "update a set v = 2; insert into b values (1, 1)")
	if err := node.Barrier(t.Context()); err == nil || !strings.Contains(err.Error(), "public.a") {
		t.Errorf("a barrier over a table that is not captured: %v", err)
	}
	s := node.Status()
	if p := s.Tables[0].Problem; p == nil || !strings.Contains(p.Error(), "lockstep install --table public.a") {
		t.Errorf("the problem of a table that is not captured any more is %v", p)
	}
	if p := s.Tables[1].Problem; p != nil {
		t.Errorf("the other table: %v", p)
	}
	if got := fmt.Sprint(a.Get(1)) + fmt.Sprint(b.Get(1)); got != "{1 1} true{1 1} true" {
		t.Errorf("in memory: %s", got)
	}
	install(t, db, "public.a")
	until(t, "the table is back", func() bool { return node.Status().Tables[0].Problem == nil })
	if got, _ := a.Get(1); got.V != 2 {
		t.Errorf("after it was captured again: %v", got)
	}
}
