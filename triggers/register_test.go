package triggers_test

import (
	"slices"
	"testing"

	"github.com/pglockstep/lockstep/triggers"
)

// A dump brings the register with the oids of where it was made. They mean
// nothing where it is restored, or other tables.
func TestARestoredRegisterIsMatchedByName(t *testing.T) {
	for what, again := range map[string]func(*testing.T, *rig){
		"a new history": func(t *testing.T, r *rig) {
			if err := triggers.NewHistory(t.Context(), r.pool, triggers.Options{}); err != nil {
				t.Fatal(err)
			}
		},
		"install": func(t *testing.T, r *rig) { r.install(t) },
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, installTables+`; create table "B ü" (id int primary key); create table c (id int primary key); create table d (id int primary key);
				create table plain (id int primary key)`, "public.a", `public."B ü"`, "public.c", "public.d", "public.part")
			before, err := triggers.Tables(t.Context(), r.pool, triggers.Options{})
			if err != nil {
				t.Fatal(err)
			}
			r.Exec(t, `create temporary table was as select * from lockstep.tables; delete from lockstep.tables;
				insert into lockstep.tables (relid, name, key_columns, mode)
				select case name when 'public.a' then '"B ü"'::regclass::oid when 'public."B ü"' then 'a'::regclass::oid when 'public.c' then 4000000000
					when 'public.part' then 'c'::regclass::oid when 'public.d' then 'plain'::regclass::oid end, name, key_columns, mode from was;
				drop table d`)
			again(t, r)
			after, err := triggers.Tables(t.Context(), r.pool, triggers.Options{})
			want := slices.DeleteFunc(before, func(tab triggers.Table) bool { return tab.Name == "public.d" })
			same := slices.EqualFunc(after, want, func(a, b triggers.Table) bool {
				return a.OID == b.OID && a.Name == b.Name && slices.Equal(a.Key, b.Key) && a.Mode == b.Mode
			})
			if err != nil || !same {
				t.Errorf("registered are %v (%v), want %v", after, err, want)
			}
			if found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{}); err != nil || len(found) > 0 {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
}

// Tables that were renamed are captured under the names of then, and stay
// registered as what they are.
func TestTablesThatHaveChangedNamesAreNotMistakenForOneAnother(t *testing.T) {
	r := newRig(t, installTables+"; create table b (id int primary key)", "public.a", "public.b")
	before, err := triggers.Tables(t.Context(), r.pool, triggers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Exec(t, "alter table a rename to c; alter table b rename to a")
	r.install(t)
	after, err := triggers.Tables(t.Context(), r.pool, triggers.Options{})
	if err != nil || !slices.EqualFunc(after, before, func(a, b triggers.Table) bool { return a.OID == b.OID && a.Name == b.Name }) {
		t.Errorf("registered are %v (%v), want %v", after, err, before)
	}
}
