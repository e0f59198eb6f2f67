package triggers_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/triggers"
)

// wantInstalled checks that nothing has drifted and which tables are registered.
func (r *rig) wantInstalled(t *testing.T, names ...string) {
	t.Helper()
	found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
	if err != nil || len(found) > 0 {
		t.Errorf("inspect: %+v, %v", found, err)
	}
	tracked, err := triggers.Tables(t.Context(), r.pool, triggers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, tab := range tracked {
		have = append(have, tab.Name)
	}
	if !slices.Equal(have, names) {
		t.Errorf("%q are registered, want %q", have, names)
	}
}

// The functions' owner may use the schemas of the tables as they were at install.
func TestATableMovedToASchemaThatTheOwnerMayNotUseCanBeWritten(t *testing.T) {
	r := newRig(t, installTables, "public.a")
	r.Exec(t, "create schema s; alter table a set schema s")
	for _, sql := range []string{
		"insert into s.a values (1, 'x'), (2, 'y')", "update s.a set id = id + 10", "with d as (delete from s.a where id = 11 returning *) insert into s.a select id + 5, v from d",
	} {
		if err := tries(t, r.pool, sql); err != "" {
			t.Errorf("%s: %s", sql, err)
		}
	}
	r.install(t, "s.a")
	r.wantInstalled(t, "s.a")
}

// A table that was renamed keeps its registered name until another one needs
// it: two tables under one name would be one to the nodes.
func TestATableMayTakeTheNameOfOneThatWasRenamed(t *testing.T) {
	r := newRig(t, installTables, "public.a")
	r.Exec(t, "alter table a rename to before; create table a (id int primary key, v text)")
	r.install(t, "public.a")
	r.wantInstalled(t, "public.a", "public.before")
	r.Exec(t, "insert into a values (1, 'x'); insert into before values (1, 'y')")
	r.wantFold(t, "both")
	// One that cannot be kept gives its name up, and its capture with it.
	r.Exec(t, "alter table before drop constraint a_pkey; alter table before rename to earlier; alter table a rename to before; create table a (id int primary key)")
	r.install(t, "public.a", "public.before")
	r.wantInstalled(t, "public.a", "public.before")
	n := len(r.events(t))
	r.Exec(t, "insert into earlier values (5, 'z')")
	if got := r.short(t)[n:]; len(got) != 0 {
		t.Errorf("a table that is captured no more has written %q", got)
	}
}

func TestTwoTablesMayChangeNames(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text); create table b (id int primary key, w int)", "public.a", "public.b")
	r.Exec(t, "alter table a rename to c; alter table b rename to a; alter table c rename to b")
	n := len(r.events(t))
	r.install(t, "public.a")
	r.wantInstalled(t, "public.a", "public.b")
	// Whoever follows either reads it again before another event has its name.
	var again []string
	for _, e := range r.events(t)[n:] {
		if e.Op == "R" && e.Row == "" {
			again = append(again, e.Table)
		}
	}
	if !slices.Contains(again, "public.a") || !slices.Contains(again, "public.b") {
		t.Errorf("%q are to be read again", again)
	}
	r.Exec(t, "insert into a values (1, 7); insert into b values (2, 'x')")
	r.wantFold(t, "both")
}

// A partition keeps its TRUNCATE trigger when it is detached, with the name of
// the table that it belonged to.
func TestATruncatedTableThatWasAPartitionEmptiesNothingElse(t *testing.T) {
	r := newRig(t, installTables, "public.part")
	r.Exec(t, "create table part_2 partition of part for values in (2); create table part_3 partition of part for values in (3) partition by list (r); create table part_3a partition of part_3 default")
	r.install(t, "public.part")
	r.Exec(t, "insert into part values (1, 1), (2, 2), (3, 3); alter table part detach partition part_2; alter table part detach partition part_3")
	n := len(r.events(t))
	r.Exec(t, "truncate part_2; truncate part_3; truncate part_3a")
	for _, e := range r.events(t)[n:] {
		if e.Table == "public.part" {
			t.Errorf("the table it was detached from was told %s %s", e.Op, e.Row)
		}
	}
	r.Exec(t, "truncate part_1")
	if got := r.events(t); got[len(got)-1].Table != "public.part" || !strings.HasPrefix(got[len(got)-1].Op, "R") {
		t.Errorf("after a partition was truncated: %+v", got[len(got)-1])
	}
}
