package integration

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// migration is what somebody does to a table that a node follows. In its SQL
// the table is %[1]s; columns id and v, rows 1 to 3 with v = 0.
type migration struct {
	sql   string
	write string // what the application does afterwards; it must never fail because of capture
	says  string // why the node cannot keep the table; "": it can
	mend  string // what makes it right again, before another install
}

const touch = "update %[1]s set v = v + 100 where id = 1; insert into %[1]s (id, v) values (10, 10); delete from %[1]s where id = 2"

var migrations = map[string]migration{
	"a column is added":                {sql: "alter table %[1]s add extra text not null default 'x'", write: touch},
	"a column that nobody maps goes":   {sql: "alter table %[1]s add extra text; alter table %[1]s drop extra", write: touch},
	"a mapped column is dropped":       {sql: "alter table %[1]s drop v", write: "insert into %[1]s values (11)", says: `no column "V"`, mend: "alter table %[1]s add v int not null default 7"},
	"a mapped column is renamed":       {sql: "alter table %[1]s rename v to w", write: "update %[1]s set w = 5", says: `no column "V"`, mend: "alter table %[1]s rename w to v"},
	"dropped and added in one go":      {sql: "alter table %[1]s drop v, add v int not null default 9", write: touch},
	"its type is changed":              {sql: "alter table %[1]s alter v type bigint using v + 1000", write: touch},
	"the table is renamed":             {sql: "alter table %[1]s rename to %[1]s_new", write: "update %[1]s_new set v = 3", says: "it is not there", mend: "alter table %[1]s_new rename to %[1]s"},
	"the table changes its schema":     {sql: "create schema %[1]s_s; alter table %[1]s set schema %[1]s_s", write: "update %[1]s_s.%[1]s set v = 3", says: "it is not there", mend: "alter table %[1]s_s.%[1]s set schema public"},
	"a trigger is dropped":             {sql: "drop trigger lockstep_update on %[1]s", write: touch, says: "trigger lockstep_update"},
	"a trigger is disabled":            {sql: "alter table %[1]s disable trigger lockstep_update", write: touch, says: "is disabled"},
	"all are disabled":                 {sql: "alter table %[1]s disable trigger all", write: touch, says: "is disabled"},
	"disabled for one transaction":     {sql: "begin; alter table %[1]s disable trigger all; update %[1]s set v = 77; alter table %[1]s enable always trigger lockstep_insert; alter table %[1]s enable always trigger lockstep_update; alter table %[1]s enable always trigger lockstep_delete; alter table %[1]s enable always trigger lockstep_truncate; commit", write: "select 1"},
	"dropped and created again":        {sql: "drop table %[1]s; create table %[1]s (id int primary key, v int not null); insert into %[1]s values (1, 5)", write: touch, says: "its changes are not captured"},
	"the key is dropped":               {sql: "alter table %[1]s drop constraint %[1]s_pkey", write: touch, says: "it has no primary key", mend: "alter table %[1]s add primary key (id)"},
	"the key becomes deferrable":       {sql: "alter table %[1]s drop constraint %[1]s_pkey, add primary key (id) deferrable", write: touch, says: "DEFERRABLE", mend: "alter table %[1]s drop constraint %[1]s_pkey, add primary key (id)"},
	"the key is another one":           {sql: "alter table %[1]s add k int generated always as identity; alter table %[1]s drop constraint %[1]s_pkey, add primary key (k)", write: touch, says: "the primary key was (id) and is (k)", mend: "alter table %[1]s drop constraint %[1]s_pkey, add primary key (id), drop k"},
	"it is given a parent":             {sql: "create table %[1]s_p (id int, v int); alter table %[1]s inherit %[1]s_p", write: "update %[1]s_p set v = 8", says: "inherit", mend: "alter table %[1]s no inherit %[1]s_p"},
	"it is given a child":              {sql: "create table %[1]s_c () inherits (%[1]s)", write: "update %[1]s set v = 8; insert into %[1]s_c values (50, 50)", says: "inherit", mend: "drop table %[1]s_c"},
	"written as a replica":             {sql: "set session_replication_role = replica; update %[1]s set v = 66; reset session_replication_role", write: touch},
	"it becomes unlogged":              {sql: "alter table %[1]s set unlogged", write: touch, says: "unlogged", mend: "alter table %[1]s set logged"},
	"it is rewritten":                  {sql: "cluster %[1]s using %[1]s_pkey", write: touch},
	"a policy hides rows":              {sql: "alter table %[1]s enable row level security", write: touch},
	"the functions lose their right":   {sql: "revoke select on %[1]s from lockstep_capture", write: touch + "; update %[1]s set id = id + 20; insert into %[1]s values (1, 1)"},
	"an enum's value is renamed":       {sql: "create type %[1]s_m as enum ('a'); alter table %[1]s add m %[1]s_m default 'a'; alter type %[1]s_m rename value 'a' to 'b'", write: touch},
	"emptied together with a rollback": {sql: "begin; truncate %[1]s; rollback; truncate %[1]s", write: "insert into %[1]s values (4, 4)"},
}

// driftRig is one node over a table for each migration.
type driftRig struct {
	db     *pgtest.DB
	node   *lockstep.Node
	names  []string // the migrations, by table
	tables []*lockstep.Table[int, item]
}

func newDriftRig(t *testing.T) *driftRig {
	r := &driftRig{db: fresh(t)}
	var all []lockstep.AnyTable
	var names []string
	for what := range migrations {
		name := fmt.Sprintf("t%02d", len(r.names))
		r.db.Exec(t, fmt.Sprintf("create table %[1]s (id int primary key, v int not null); insert into %[1]s select i, 0 from generate_series(1, 3) i", name))
		table := lockstep.NewTable("public."+name, func(i item) int { return i.ID })
		r.names, r.tables, all, names = append(r.names, what), append(r.tables, table), append(all, table), append(names, "public."+name)
	}
	install(t, r.db, names...)
	r.node = startNode(t, r.db.Pool(t), lockstep.Config{}, all...)
	return r
}

// run runs SQL on the table of a migration, one statement after another.
func (r *driftRig) run(t *testing.T, table int, sql string) {
	t.Helper()
	if sql == "" {
		return
	}
	conn := r.db.Conn(t)
	for _, s := range strings.Split(fmt.Sprintf(sql, fmt.Sprintf("t%02d", table)), ";") {
		if _, err := conn.Exec(deadline(t), strings.TrimSuffix(s, "%!(EXTRA string="+fmt.Sprintf("t%02d", table)+")")); err != nil {
			t.Fatalf("%s: %s: %v", r.names[table], s, err)
		}
	}
}

// equal reports whether the node holds what the table holds.
func (r *driftRig) equal(t *testing.T, table int) bool {
	t.Helper()
	sql := fmt.Sprintf("select id, v::int from only public.t%02d", table)
	want := rowsOf(t, r.db, sql, func(i item) int { return i.ID })
	return maps.Equal(maps.Collect(r.tables[table].All()), want)
}

func (r *driftRig) live(table int) (bool, error) {
	s := r.node.Status().Tables[table]
	return s.Live, s.Problem
}

// until waits ten seconds for what a node says and holds of a table.
func (r *driftRig) until(t *testing.T, table int, yes func(live bool, problem error) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for live, problem := r.live(table); !yes(live, problem); live, problem = r.live(table) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("live %v, problem %v, rows %v", live, problem, maps.Collect(r.tables[table].All()))
		}
	}
}

// A migration never makes the application's writes fail, and afterwards a node
// holds what the table holds, or names the reason for which it cannot and does
// not call the table live. It comes back once that is mended. One node follows
// all the tables: none of them holds up another.
func TestANodeFollowsAMigrationOrSaysWhyNot(t *testing.T) {
	r := newDriftRig(t)
	for i, what := range r.names {
		r.run(t, i, migrations[what].sql)
		r.run(t, i, migrations[what].write)
	}
	for i, what := range r.names {
		t.Run(what, func(t *testing.T) {
			want := migrations[what].says
			r.until(t, i, func(live bool, problem error) bool {
				if want != "" {
					return !live && problem != nil && strings.Contains(problem.Error(), want)
				}
				return live && problem == nil && r.equal(t, i)
			})
		})
	}
	if s := r.node.Status(); s.Resyncs != 0 || s.Failures != 0 {
		t.Errorf("%d resyncs and %d failures, the last %v", s.Resyncs, s.Failures, s.LastError)
	}
	var mended []string
	for i, what := range r.names {
		if m := migrations[what]; m.says != "" {
			r.run(t, i, m.mend)
			mended = append(mended, fmt.Sprintf("public.t%02d", i))
		}
	}
	install(t, r.db, mended...)
	for i, what := range r.names {
		r.db.Exec(t, fmt.Sprintf("update t%02d set v = v + 1", i))
		t.Run(what+", and is mended", func(t *testing.T) {
			r.until(t, i, func(live bool, problem error) bool { return live && problem == nil && r.equal(t, i) })
		})
	}
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
