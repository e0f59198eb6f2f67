package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// migration is what somebody does to a table that nodes follow. In its SQL
// the table is %[1]s.
type migration struct {
	kind  *tableKind // nil: plain
	sql   string
	write string // what the application does afterwards; it must never fail because of capture
	says  string // why the nodes cannot keep the table; "": they can
	mend  string // what makes it right again, before another install

	// Writers write the table all the while (migration_traffic_test.go).
	table  string   // what they call it where its name finds nothing; "": the same
	column string   // what they call v where it finds nothing; "": the same
	fails  []string // the SQLSTATEs that they meet with or without capture
}

const touch = "update %[1]s set v = v + 100 where id = 1; insert into %[1]s (id, v) values (10, 10); delete from %[1]s where id = 2"

// tableKind is a table before its migration, rows 1 to 3 with v = 0, and what nodes keep of it.
type tableKind struct {
	make string
	keep func(name string) kept
	from string // what finds its rows as kept
}

// kept is one node's table.
type kept struct {
	lockstep.AnyTable
	rows func() map[int]labelled
}

// labelled is a row of any kind of table.
type labelled struct {
	ID int
	V  int
	M  string
}

var (
	plain = &tableKind{
		make: "create table %[1]s (id int primary key, v int not null); insert into %[1]s select i, 0 from generate_series(1, 3) i",
		keep: keepItems, from: "select id, v::int, '' from only %[1]s",
	}
	parted = &tableKind{
		make: "create table %[1]s (id int primary key, v int not null) partition by range (id); " +
			"create table %[1]s_a partition of %[1]s for values from (0) to (20); create table %[1]s_b partition of %[1]s for values from (20) to (60); " +
			"insert into %[1]s select i, 0 from generate_series(1, 3) i; insert into %[1]s values (30, 0)",
		keep: keepItems, from: "select id, v::int, '' from %[1]s",
	}
	mooded = &tableKind{
		make: "create type %[1]s_m as enum ('a', 'b'); create table %[1]s (id int primary key, v int not null, m %[1]s_m not null default 'a'); " +
			"insert into %[1]s select i, 0 from generate_series(1, 3) i",
		keep: keepLabelled, from: "select id, v::int, m::text from only %[1]s",
	}
)

func keepItems(name string) kept {
	t := lockstep.NewTable(name, func(i item) int { return i.ID })
	return kept{t, func() map[int]labelled {
		m := map[int]labelled{}
		for k, i := range t.All() {
			m[k] = labelled{i.ID, i.V, ""}
		}
		return m
	}}
}

func keepLabelled(name string) kept {
	t := lockstep.NewTable(name, func(l labelled) int { return l.ID })
	return kept{t, func() map[int]labelled { return maps.Collect(t.All()) }}
}

// migrated is a table of the rig's.
type migrated struct {
	migration
	what string
	name string
	kept []kept // by node

	shared bool // a test keeps rows of its own there, so nobody empties it
}

// driftRig is two nodes over a table for each migration.
type driftRig struct {
	db     *pgtest.DB
	pool   *pgxpool.Pool
	nodes  []*lockstep.Node
	tables []*migrated
}

func newDriftRig(t *testing.T, lists ...map[string]migration) *driftRig {
	t.Helper()
	db := fresh(t)
	r := &driftRig{db: db, pool: db.Pool(t)}
	of := make([][]lockstep.AnyTable, 2)
	var names []string
	for _, list := range lists {
		for _, what := range slices.Sorted(maps.Keys(list)) {
			m := &migrated{migration: list[what], what: what, name: fmt.Sprintf("t%02d", len(r.tables))}
			if m.kind == nil {
				m.kind = plain
			}
			r.db.Exec(t, m.of(m.kind.make))
			for i := range of {
				k := m.kind.keep("public." + m.name)
				m.kept, of[i] = append(m.kept, k), append(of[i], k.AnyTable)
			}
			r.tables, names = append(r.tables, m), append(names, "public."+m.name)
		}
	}
	install(t, r.db, names...)
	for i, tables := range of {
		r.nodes = append(r.nodes, startNode(t, r.db.Pool(t), lockstep.Config{Name: fmt.Sprint("node-", i)}, tables...))
	}
	return r
}

// of puts the table's name into SQL.
func (m *migrated) of(sql string) string { return strings.ReplaceAll(sql, "%[1]s", m.name) }

// run runs SQL on the table of a migration, one statement after another.
func (r *driftRig) run(t *testing.T, table int, sql string) {
	t.Helper()
	if sql == "" {
		return
	}
	m := r.tables[table]
	conn, err := pgx.Connect(deadline(t), r.db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }() // its statements were looked at
	for _, s := range strings.Split(m.of(sql), ";") {
		if _, err := conn.Exec(deadline(t), s); err != nil {
			t.Fatalf("%s: %s: %v", m.what, s, err)
		}
	}
}

// until waits ten seconds for what every node says and holds of a table.
func (r *driftRig) until(t *testing.T, table int, yes func(node int, s lockstep.TableStatus) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for node := 0; node < len(r.nodes); {
		s := r.nodes[node].Status().Tables[table]
		if yes(node, s) {
			node++
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("node %d: live %v, problem %v, rows %v", node, s.Live, s.Problem, r.tables[table].kept[node].rows())
		}
	}
}

// untilSaid waits until every node says why it cannot keep the table, and does not call it live.
func (r *driftRig) untilSaid(t *testing.T, table int) {
	t.Helper()
	r.until(t, table, func(_ int, s lockstep.TableStatus) bool {
		return !s.Live && s.Problem != nil && strings.Contains(s.Problem.Error(), r.tables[table].of(r.tables[table].says))
	})
}

// untilEqual waits until every node holds what the table holds, and calls it live.
func (r *driftRig) untilEqual(t *testing.T, table int) {
	t.Helper()
	m := r.tables[table]
	r.until(t, table, func(node int, s lockstep.TableStatus) bool {
		return s.Live && s.Problem == nil && maps.Equal(m.kept[node].rows(), rowsFrom(t, r.pool, m.of(m.kind.from), func(l labelled) int { return l.ID }))
	})
}

// wantSettled checks what every node makes of each migration.
func (r *driftRig) wantSettled(t *testing.T) {
	t.Helper()
	for i, m := range r.tables {
		t.Run(m.what, func(t *testing.T) {
			if m.says != "" {
				r.untilSaid(t, i)
				return
			}
			r.untilEqual(t, i)
		})
	}
}

// mend makes right what the nodes could not keep.
func (r *driftRig) mend(t *testing.T) {
	t.Helper()
	var names []string
	for i, m := range r.tables {
		if m.says != "" {
			r.run(t, i, m.mend)
			names = append(names, "public."+m.name)
		}
	}
	install(t, r.db, names...)
}

// wantMended checks that every node has come back to each table.
func (r *driftRig) wantMended(t *testing.T) {
	t.Helper()
	for i, m := range r.tables {
		t.Run(m.what+", and is mended", func(t *testing.T) { r.untilEqual(t, i) })
	}
}
