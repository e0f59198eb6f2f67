package triggers_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/triggers"
)

func TestDetachLeavesTheTableAsItWasAndTheOthersCaptured(t *testing.T) {
	r := newRig(t, installTables+"; create table b (id int primary key)")
	dump := func() string {
		lines := strings.Split(r.Program(t, "", "pg_dump", "-s", "-d", r.DSN(), "-t", "public.a", "-t", "public.part", "-t", "public.part_1"), "\n")
		return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, `\`) }), "\n")
	}
	before := dump()
	o := triggers.Options{Bell: triggers.BellOff, Logger: quiet}
	for range 2 {
		r.install(t, "public.a", "public.b", "public.part")
		r.Exec(t, "insert into a values (1) on conflict do nothing; insert into part values (1, 1) on conflict do nothing")
		if err := triggers.Detach(t.Context(), r.pool, o, "public.a", "part"); err != nil {
			t.Fatal(err)
		}
		if after := dump(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
	left := len(r.events(t))
	r.Exec(t, "insert into a values (2); insert into part values (2, 1); insert into b values (2)")
	events := r.events(t)
	if len(events) != left+1 || events[left].Table != "public.b" {
		t.Errorf("%d events of three tables, of which one is captured", len(events)-left)
	}
	if last := events[left-1]; last.Table != "public.part" || last.Op != "R" || last.Row != "" || !last.Lead {
		t.Errorf("the last event of a table is %+v", last)
	}
	tracked, err := triggers.Tables(t.Context(), r.pool, o)
	if err != nil || len(tracked) != 1 || tracked[0].Name != "public.b" {
		t.Errorf("captured are %v, %v", tracked, err)
	}
	if found, err := triggers.Inspect(t.Context(), r.pool, o); err != nil || len(found) > 0 {
		t.Errorf("it has drifted: %v, %v", found, err)
	}
}

func TestDetachRefusesWhatIsNotCapturedAndDoesTheRest(t *testing.T) {
	r := newRig(t, installTables+`; create table "odd %s ""name" (id int primary key)`, "public.a", "public.part", `"odd %s ""name"`)
	o := triggers.Options{Logger: quiet}
	noName := triggers.ErrNoTable
	if r.Server().Version() >= 160000 { // to_regclass says of it what it says of a name that nothing has
		noName = triggers.ErrNotCaptured
	}
	for name, want := range map[string]error{
		"public.nowhere": triggers.ErrNotCaptured, "public.part_1": triggers.ErrNotCaptured, "lockstep.outbox": triggers.ErrNotCaptured,
		"a b": noName, "": noName, "x.public.a": triggers.ErrNoTable,
	} {
		if err := triggers.Detach(t.Context(), r.pool, o, name); !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "table "+name+": ") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := triggers.Detach(t.Context(), r.pool, o, "public.nowhere", `"odd %s ""name"`); !errors.Is(err, triggers.ErrNotCaptured) {
		t.Error(err)
	}
	tracked, err := triggers.Tables(t.Context(), r.pool, o)
	if err != nil || len(tracked) != 2 {
		t.Errorf("captured are %v, %v", tracked, err)
	}
	r.Exec(t, "drop schema lockstep cascade")
	if err := triggers.Detach(t.Context(), r.pool, o, "public.a"); !errors.Is(err, triggers.ErrNotInstalled) {
		t.Error(err)
	}
}
