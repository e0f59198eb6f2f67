package lockstep_test

import (
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

const peopleSQL = `create table people (ssn text not null default 'geheim', id int primary key, name text, amount numeric(12, 3) default 1.10, doc json default '{"a" : 1,  "a":2}', photo bytea default 'geheim');
	insert into people (id, name) values (1, 'Ann'), (2, 'Bob'), (3, 'Cid')`

// people is a database with a table of which ssn and photo are left out.
func people(t *testing.T) *pgtest.DB {
	t.Helper()
	db := database(t, peopleSQL)
	leaveOut(t, db, "ssn", "photo")
	return db
}

func leaveOut(t *testing.T, db *pgtest.DB, columns ...string) {
	t.Helper()
	err := triggers.Install(deadline(t), db.Conn(t), triggers.Options{Logger: quiet.Logger, ExcludeColumns: map[string][]string{"public.people": columns}})
	if err != nil {
		t.Fatal(err)
	}
}

type person struct {
	ID   int
	Name string
}

func persons() *lockstep.Table[int, person] {
	return lockstep.NewTable("public.people", func(p person) int { return p.ID })
}

func TestATypeThatHasAColumnThatIsLeftOutIsRefusedByName(t *testing.T) {
	db := people(t)
	type whole struct {
		ID   int
		Name string
		SSN  string
	}
	mapped := lockstep.NewTable("public.people", func(p whole) int { return p.ID })
	listed := lockstep.NewTable("public.people", func(p person) int { return p.ID },
		lockstep.WithRow[int, person](func(pgx.CollectableRow) (person, error) { return person{}, nil }, "id", "ssn"))
	for name, table := range map[string]lockstep.AnyTable{"a mapped type": mapped, "a list of columns": listed} {
		_, err := lockstep.Start(deadline(t), db.Pool(t), quiet, table)
		if !errors.Is(err, lockstep.ErrTable) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "table public.people: column ssn is left out of capture") ||
			!strings.Contains(err.Error(), "take it out there") || strings.Contains(err.Error(), "photo") {
			t.Errorf("%s: %v", name, err)
		}
	}
	tab := persons()
	node := start(t, db.Pool(t), tab)
	db.Exec(t, "update people set name = 'Eve', ssn = 'geheim 2' where id = 2; delete from people where id = 1")
	if err := node.Barrier(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if got, _ := tab.Get(2); got != (person{2, "Eve"}) || tab.Len() != 2 {
		t.Errorf("the node has %+v, %d rows", got, tab.Len())
	}
	if _, err := tab.Put(deadline(t), person{2, "Fay"}); err != nil {
		t.Error(err)
	}
	if got := row(t, db, "people", "id = 2"); !strings.HasPrefix(got, "(\"geheim 2\",2,Fay,") {
		t.Errorf("a column that is left out is not kept: %s", got)
	}
	// A node that follows the table notices as well.
	leaveOut(t, db, "name")
	until(t, node, "the table is refused", func(s lockstep.Status) bool {
		return len(s.Tables) == 1 && s.Tables[0].Problem != nil && strings.Contains(s.Tables[0].Problem.Error(), "column name is left out of capture")
	})
	leaveOut(t, db)
	until(t, node, "the table is kept again", func(s lockstep.Status) bool { return s.Tables[0].Problem == nil })
}

// A node whose tables are all refused leaves nothing on disk of what they held.
func TestACheckpointWithAColumnThatIsLeftOutByNowIsRemoved(t *testing.T) {
	db := database(t, peopleSQL, "public.people")
	type whole struct {
		ID  int
		SSN string
	}
	cfg := quiet
	cfg.Checkpoint = t.TempDir()
	for _, left := range []int{1, 0} {
		node := startWith(t, db.Pool(t), cfg, lockstep.NewTable("public.people", func(p whole) int { return p.ID }))
		if left == 0 {
			leaveOut(t, db, "ssn")
			until(t, node, "the table is refused", func(s lockstep.Status) bool { return s.Tables[0].Problem != nil })
		}
		if err := node.Close(deadline(t)); err != nil {
			t.Fatal(err)
		}
		if files, err := filepath.Glob(filepath.Join(cfg.Checkpoint, "*.checkpoint")); err != nil || len(files) != left {
			t.Errorf("the node has left %q, %v", files, err)
		}
	}
}

// What was loaded, what was captured, what was read by its key and what a checkpoint brought look the same.
func TestDocumentsAreTheSameWhicheverWayTheyCame(t *testing.T) {
	db := people(t)
	cfg := quiet
	cfg.Checkpoint, cfg.Audit = t.TempDir(), 1_000_000
	docs := func(tab *lockstep.Table[string, json.RawMessage]) map[string]string {
		all := map[string]string{}
		for key, doc := range tab.All() {
			if all[key] = string(doc); strings.Contains(all[key], "geheim") || strings.Contains(all[key], "67656865696d") || strings.Contains(all[key], "ssn") {
				t.Errorf("the node holds %s", doc)
			}
		}
		return all
	}
	captured, loaded := lockstep.Documents("public.people"), lockstep.Documents("public.people")
	node := startWith(t, db.Pool(t), cfg, captured)
	for _, sql := range []string{
		"insert into people (id, name) values (4, 'Dan'), (5, 'Eve')", "update people set name = 'F', photo = 'geheim 2' where id < 3", "update people set ssn = 'geheim 3' where id = 3",
		"update people set id = 7 where id = 4", "delete from people where id = 5", "update people set name = repeat('x', 200000) where id = 1",
		"begin isolation level repeatable read; update people set amount = 2 where id = 2; insert into people (id) values (9); commit",
		"alter table people rename photo to picture; alter table people add more int default 5", "insert into people (id, name) values (10, 'Gil'); update people set more = 6 where id = 3",
	} {
		db.Exec(t, sql)
		if err := node.Barrier(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, node, "the new column has come", func(lockstep.Status) bool { return strings.Contains(documentOf(t, captured, "2"), `"more":5`) })
	start(t, db.Pool(t), loaded)
	want := docs(loaded)
	if got := docs(captured); !maps.Equal(got, want) || len(want) != 6 {
		t.Errorf("captured\n%.1000v\nloaded\n%.1000v", got, want)
	}
	leaveOut(t, db, "ssn", "picture")
	if a := sweeps(t, node); a.Wrong != nil || a.LastError != nil {
		t.Errorf("the audit: %+v", a)
	}
	if err := node.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "update people set name = 'missed', ssn = 'geheim 5' where id = 2")
	again := lockstep.Documents("public.people")
	restored := startWith(t, db.Pool(t), cfg, again)
	if s := restored.Status(); !s.Checkpoint.Restored {
		t.Errorf("the checkpoint: %+v", s.Checkpoint)
	}
	want["2"] = documentOf(t, loaded, "2")
	if got := docs(again); len(got) != 6 || !strings.Contains(got["2"], `"name":"missed"`) {
		t.Errorf("from the checkpoint %v", got)
	}
}

// A document that was read can be put again, and one may bring what no node shows.
func TestADocumentMayBringAColumnThatIsLeftOut(t *testing.T) {
	db := people(t)
	tab := lockstep.Documents("public.people")
	start(t, db.Pool(t), tab)
	before := documentOf(t, tab, "1")
	putDocument(t, tab, strings.Replace(before, "Ann", "Amy", 1))
	if got := row(t, db, "people", "id = 1"); !strings.HasPrefix(got, "(geheim,1,Amy,") || documentOf(t, tab, "1") != strings.Replace(before, "Ann", "Amy", 1) {
		t.Errorf("the row is %s, the node has %s", got, documentOf(t, tab, "1"))
	}
	if !putDocument(t, tab, `{"id":8,"name":"Gus","ssn":"geheim 8"}`) {
		t.Error("it is new")
	}
	if got := row(t, db, "people", "id = 8"); !strings.HasPrefix(got, `("geheim 8",8,Gus,`) || strings.Contains(documentOf(t, tab, "8"), "ssn") {
		t.Errorf("the row is %s, the node has %s", got, documentOf(t, tab, "8"))
	}
}

// A schema of before columns could be left out is followed as it is, and brought up under its node.
func TestASchemaThatKnowsNothingOfColumnsThatAreLeftOutIsFollowedAndBroughtUp(t *testing.T) {
	db := database(t, peopleSQL, "public.people")
	db.Exec(t, `drop table lockstep.left_out; alter table lockstep.tables drop excluded; update lockstep.meta set version = 3;
		drop function lockstep.capture_without(), lockstep.capture_row_without(), lockstep.kept_columns, lockstep.reread_sql(oid, text[], text[]);
		create or replace function lockstep.reread_sql(relid oid, images text[]) returns text language plpgsql stable as 'begin return null; end'`)
	pool := db.Pool(t)
	if found, err := triggers.Inspect(deadline(t), pool, triggers.Options{}); err != nil || len(found) > 0 {
		t.Errorf("inspect: %+v, %v", found, err)
	}
	if tracked, err := triggers.Tables(deadline(t), pool, triggers.Options{}); err != nil || len(tracked) != 1 || len(tracked[0].Excluded) > 0 {
		t.Errorf("%+v, %v", tracked, err)
	}
	tab := lockstep.Documents("public.people")
	node := start(t, pool, tab)
	if !strings.Contains(documentOf(t, tab, "1"), `"ssn":"geheim"`) {
		t.Errorf("the node has %s", documentOf(t, tab, "1"))
	}
	leaveOut(t, db, "ssn", "photo")
	until(t, node, "the columns have gone", func(lockstep.Status) bool { return !strings.Contains(documentOf(t, tab, "1"), "ssn") })
	db.Exec(t, "update people set id = id + 10, ssn = 'geheim 2'")
	if err := node.Barrier(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if tab.Len() != 3 || documentOf(t, tab, "13") != `{"id":13,"name":"Cid","amount":1.100,"doc":{"a" : 1,  "a":2}}` {
		t.Errorf("the node has %d rows, %s", tab.Len(), documentOf(t, tab, "13"))
	}
	if found, err := triggers.Inspect(deadline(t), pool, triggers.Options{}); err != nil || len(found) > 0 {
		t.Errorf("inspect: %+v, %v", found, err)
	}
}
