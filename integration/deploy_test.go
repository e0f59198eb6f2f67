package integration

import (
	"maps"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// noted is the row of a build that has a column more than item.
type noted struct {
	ID   int
	V    int
	Note string
}

func notedTable() *lockstep.Table[int, noted] {
	return lockstep.NewTable("public.items", func(n noted) int { return n.ID })
}

const addNote = "alter table items add note text not null default 'none'"

// fleet is table items under writers, for builds that come and go.
type fleet struct {
	db      *pgtest.DB
	writers crew
}

func newFleet(t *testing.T, sql string) *fleet {
	t.Helper()
	db := fresh(t)
	items(t, db)
	if sql != "" {
		db.Exec(t, sql)
	}
	f := &fleet{db, writeTo(t, db, &migrated{what: "the application's", name: "items", shared: true})}
	f.writers.turn(t)
	return f
}

// build starts a node of one build.
func build[T any](t *testing.T, f *fleet, name string, table *lockstep.Table[int, T]) *lockstep.Node {
	t.Helper()
	return startNode(t, f.db.Pool(t), lockstep.Config{Name: name}, table)
}

// wantLive waits until a node that was told of everything is live with what the database holds.
func wantLive[T comparable](t *testing.T, f *fleet, node *lockstep.Node, table *lockstep.Table[int, T], sql string, key func(T) int) {
	t.Helper()
	pool := f.db.Pool(t)
	until(t, "a node is live and equal", func() bool {
		s := node.Status()
		return s.State == lockstep.Live && s.Tables[0].Problem == nil && maps.Equal(maps.Collect(table.All()), rowsFrom(t, pool, sql, key))
	})
	if s := node.Status(); s.Failures+s.Resyncs > 0 {
		t.Errorf("%d failures (%v), %d resyncs", s.Failures, s.LastError, s.Resyncs)
	}
}

func (f *fleet) wantItems(t *testing.T, node *lockstep.Node, table *lockstep.Table[int, item]) {
	t.Helper()
	wantLive(t, f, node, table, "select id, v from items", func(i item) int { return i.ID })
}

func (f *fleet) wantNoted(t *testing.T, node *lockstep.Node, table *lockstep.Table[int, noted]) {
	t.Helper()
	wantLive(t, f, node, table, "select id, v, note from items", func(n noted) int { return n.ID })
}

// docs/deploy.md, "A new column": the column, then the struct. The builds run side by side.
func TestAColumnIsAddedBeforeTheStructThatHasIt(t *testing.T) {
	f := newFleet(t, "")
	old := itemTable()
	oldNode := build(t, f, "old", old)
	f.db.Exec(t, addNote)
	f.writers.turn(t)
	next := notedTable()
	nextNode := build(t, f, "next", next)
	f.writers.turn(t)
	f.writers.stop()
	f.writers.wantHarmless(t)
	f.wantItems(t, oldNode, old)
	f.wantNoted(t, nextNode, next)
	// Each build writes what it has, and leaves the rest as it is.
	if _, err := next.Put(deadline(t), noted{500, 1, "written"}); err != nil {
		t.Fatal(err)
	}
	token, err := old.Put(deadline(t), item{500, 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := nextNode.WaitFor(deadline(t), token); err != nil {
		t.Fatal(err)
	}
	if got, _ := next.Get(500); got != (noted{500, 2, "written"}) {
		t.Errorf("after both builds wrote it the row is %v", got)
	}
	if _, err := old.Put(deadline(t), item{501, 1}); err != nil {
		t.Errorf("the old build inserts: %v", err)
	}
	barrier(t, nextNode)
	if got, _ := next.Get(501); got.Note != "none" {
		t.Errorf("a row of the old build's is %v", got)
	}
}

// The wrong way round: a build ahead of its column does not start, and says why.
func TestABuildAheadOfItsColumnDoesNotStart(t *testing.T) {
	f := newFleet(t, "")
	f.writers.stop()
	next := notedTable()
	_, err := lockstep.Start(deadline(t), f.db.Pool(t), lockstep.Config{Name: "next", Logger: silent}, next)
	if err == nil || !strings.Contains(err.Error(), `no column "Note"`) {
		t.Fatalf("a node without its column: %v", err)
	}
	f.db.Exec(t, addNote)
	f.wantNoted(t, build(t, f, "next", next), next) // the same declaration, tried again
}

// A column that every INSERT must give: the build that lacks it can still Update.
func TestAColumnThatIsRequiredStopsThePutsOfTheBuildThatLacksIt(t *testing.T) {
	f := newFleet(t, "")
	f.writers.stop()
	old := itemTable()
	oldNode := build(t, f, "old", old)
	f.db.Exec(t, addNote+"; alter table items alter note drop default")
	f.db.Exec(t, "insert into items values (500, 1, 'x')")
	until(t, "the old build knows of the column", func() bool {
		_, err := old.Put(deadline(t), item{500, 2})
		return err != nil && strings.Contains(err.Error(), "note") && strings.Contains(err.Error(), "Update")
	})
	if _, err := old.Update(deadline(t), 500, func(i item) (item, error) { i.V = 3; return i, nil }); err != nil {
		t.Error(err)
	}
	f.wantItems(t, oldNode, old)
}

// docs/deploy.md, "A column goes": the struct, then the column.
func TestAColumnIsDroppedAfterTheStructThatHadIt(t *testing.T) {
	f := newFleet(t, addNote)
	old, next := notedTable(), itemTable()
	oldNode, nextNode := build(t, f, "old", old), build(t, f, "next", next)
	f.writers.turn(t)
	if _, err := next.Put(deadline(t), item{500, 1}); err != nil {
		t.Fatal(err)
	}
	barrier(t, oldNode)
	if got, _ := old.Get(500); got != (noted{500, 1, "none"}) {
		t.Errorf("a row that the next build wrote is %v", got)
	}
	if err := oldNode.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
	f.db.Exec(t, "alter table items drop note")
	f.writers.turn(t)
	f.writers.stop()
	f.writers.wantHarmless(t)
	f.wantItems(t, nextNode, next)
}

// The wrong way round: only the build that still has the column stops, it says
// so, it goes on answering from memory, and comes back with the column.
func TestAColumnDroppedTooEarlyStopsNoOtherBuild(t *testing.T) {
	f := newFleet(t, addNote)
	old, next := notedTable(), itemTable()
	oldNode, nextNode := build(t, f, "old", old), build(t, f, "next", next)
	f.db.Exec(t, "insert into items values (500, 1); alter table items drop note")
	f.writers.turn(t)
	until(t, "the old build says what it lacks", func() bool {
		s := oldNode.Status()
		return s.State == lockstep.Stale && s.Tables[0].Problem != nil && strings.Contains(s.Tables[0].Problem.Error(), `no column "Note"`)
	})
	if old.Len() == 0 {
		t.Error("the old build has forgotten its rows")
	}
	f.db.Exec(t, addNote)
	f.writers.turn(t)
	f.writers.stop()
	f.writers.wantHarmless(t)
	f.wantItems(t, nextNode, next)
	f.wantNoted(t, oldNode, old)
}
