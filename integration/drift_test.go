package integration

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
)

// A migration never makes the application's writes fail, and afterwards a node
// holds what the table holds, or names the reason for which it cannot and does
// not call the table live. It comes back once that is mended. Each node follows
// all the tables: none of them holds up another.
func TestANodeFollowsAMigrationOrSaysWhyNot(t *testing.T) {
	r := newDriftRig(t, columnMigrations, keyMigrations, captureMigrations, tableMigrations, partitionMigrations)
	for i := range r.tables {
		r.run(t, i, r.tables[i].sql)
		r.run(t, i, r.tables[i].write)
	}
	r.wantSettled(t)
	if s := r.nodes[0].Status(); s.Resyncs != 0 || s.Failures != 0 {
		t.Errorf("%d resyncs and %d failures, the last %v", s.Resyncs, s.Failures, s.LastError)
	}
	r.mend(t)
	for i := range r.tables {
		r.run(t, i, "update %[1]s set v = v + 1")
	}
	r.wantMended(t)
}

// A row above the limit comes by its key and is read in the cut's own snapshot.
func TestARowTooLargeForAnEventIsReadByItsKey(t *testing.T) {
	db := fresh(t)
	db.Exec(t, "create table docs (id int primary key, body text); alter table docs alter body set storage external")
	install(t, db, "public.docs")
	type doc struct {
		ID   int
		Body string
	}
	table := lockstep.NewTable("public.docs", func(d doc) int { return d.ID })
	node := startNode(t, db.Pool(t), lockstep.Config{}, table)
	big := func(size int) string { return fmt.Sprintf("repeat('x', %d)", size) }
	for _, sql := range []string{
		"insert into docs values (1, " + big(300_000) + "), (2, 'small'), (3, " + big(1<<20) + ")",
		"update docs set body = body || 'y' where id = 1",
		"update docs set body = " + big(200_000) + " where id = 2",
		"update docs set body = 'small again' where id = 2",
		"update docs set id = 30 where id = 3",
		"delete from docs where id = 1",
		"begin; insert into docs values (5, " + big(400_000) + "); update docs set body = " + big(500_000) + " where id = 5; delete from docs where id = 5; insert into docs values (5, 'in the end'); commit",
		"begin; delete from docs where id = 30; insert into docs values (30, " + big(150_000) + "); commit",
	} {
		db.Exec(t, sql)
		barrier(t, node)
		want := rowsOf(t, db, "select id, body from docs", func(d doc) int { return d.ID })
		if !maps.Equal(maps.Collect(table.All()), want) {
			t.Errorf("after %.60s the node differs from the table", sql)
		}
	}
	if s := node.Status(); s.Rereads == 0 || s.Reloads != 0 {
		t.Errorf("%d cuts read rows by key, %d tables were loaded again", s.Rereads, s.Reloads)
	}
}

// Nonsense that the outbox's owner puts there by hand costs loads, and names
// itself; it stops nothing.
func TestNonsenseInTheOutboxIsNamedAndStopsNothing(t *testing.T) {
	db := fresh(t)
	items(t, db)
	db.Exec(t, "create table quiet (id int primary key, v int not null)")
	install(t, db, "public.quiet")
	table, quiet := itemTable(), lockstep.NewTable("public.quiet", func(i item) int { return i.ID })
	node := startNode(t, db.Pool(t), lockstep.Config{}, table, quiet)
	for i, row := range []string{
		`'public.items', 'I', '{"id":"x","v":1}'`, `'public.items', 'U', '{"v":1}'`, `'public.items', 'D', '{"v":1}'`, `'public.items', 'U', '[]'`, `'public.items', 'U', null`,
		`'public.items', 'R', '{"id":"x"}'`, `'public.items', 'R', '{"v":1}'`, `'public.items', 'R', '7'`, `'public.items', 'Z', '{"id":1,"v":1}'`, `'public.nowhere', 'I', '{"id":1,"v":1}'`,
		`'', 'I', '{}'`, `'public.items', 'R', '{"id":1}'`, `'public.items', 'I', '{"id":99999999999,"v":1}'`,
	} {
		db.Exec(t, fmt.Sprintf("begin; insert into items values (%d, 1); insert into lockstep.outbox (table_name, op, row, lead) values (%s, false); insert into quiet values (%d, 1); commit", 1000+i, row, i))
		barrier(t, node)
		wantSame(t, db, table)
		if quiet.Len() != i+1 {
			t.Fatalf("after %s the other table has %d rows", row, quiet.Len())
		}
	}
	s := node.Status()
	if s.State != lockstep.Live || s.Resyncs != 0 || s.Failures != 0 || s.Reloads == 0 || s.Reloads > 13 {
		t.Errorf("%v, %d resyncs, %d failures (%v), %d reloads", s.State, s.Resyncs, s.Failures, s.LastError, s.Reloads)
	}
	named := false
	for _, l := range s.Loads {
		named = named || strings.HasPrefix(l.Detail, "event ")
	}
	if !named {
		t.Errorf("no load names the event that led to it: %+v", s.Loads)
	}
	// A number and an id far beyond what was handed out come with their row, or not at all; neither stops what follows.
	before := node.Status().Fetches
	db.Exec(t, `insert into lockstep.outbox (seq, xid, table_name, op, row, lead) overriding system value values (1::bigint << 60, '1', 'public.items', 'I', '{"id":5000,"v":1}', true)`)
	db.Exec(t, "update items set v = 9 where id = 1")
	until(t, "what follows is seen", func() bool { i, _ := table.Get(1); return i.V == 9 })
	until(t, "the node says that it is live", func() bool { return node.Status().State == lockstep.Live })
	if n := node.Status().Fetches - before; n > 200 {
		t.Errorf("%d fetches for two commits", n)
	}
}
