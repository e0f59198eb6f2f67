package triggers_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// published are the publications of a database with what they publish.
func (r *rig) published(t *testing.T) []string {
	t.Helper()
	return r.list(t, `select concat_ws(' ', p.pubname, t.schemaname, t.tablename, case when pubinsert then 'i' end, case when pubupdate or pubdelete or pubtruncate then 'more' end)
		from pg_publication p left join pg_publication_tables t using (pubname) order by 1`)
}

func (r *rig) setBell(t *testing.T, bell triggers.Bell) {
	t.Helper()
	if err := triggers.Install(t.Context(), r.pool, triggers.Options{Bell: bell, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	if found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{}); err != nil || len(found) > 0 {
		t.Errorf("bell %q: findings %v, %v", bell, found, err)
	}
}

func TestEachBellTakesTheOthersAway(t *testing.T) {
	r := newRig(t, "create table a (id int primary key)", "public.a")
	const state = `select m.bell || ' ' || (select count(*) from pg_trigger where tgname = 'lockstep_announce')
		|| ' ' || (select count(*) from pg_publication where pubname = 'lockstep_bell') from lockstep.meta m`
	for _, step := range []struct {
		bell triggers.Bell
		want string
	}{
		{triggers.BellWAL, "wal 0 1"}, {triggers.BellWAL, "wal 0 1"}, {triggers.BellDefault, "wal 0 1"}, {triggers.BellNotify, "notify 1 0"}, {triggers.BellDefault, "notify 1 0"},
		{triggers.BellWAL, "wal 0 1"}, {triggers.BellOff, "off 0 0"}, {triggers.BellDefault, "off 0 0"}, {triggers.BellWAL, "wal 0 1"},
	} {
		r.setBell(t, step.bell)
		var got string
		if err := r.pool.QueryRow(t.Context(), state).Scan(&got); err != nil || got != step.want {
			t.Errorf("after bell %q: %s (%v), want %s", step.bell, got, err, step.want)
		}
	}
	if got := r.published(t); !slices.Equal(got, []string{"lockstep_bell lockstep outbox i"}) {
		t.Errorf("published: %q", got)
	}
	if err := tries(t, r.pool, "begin; insert into a values (1); prepare transaction 'lockstep bell'"); err != "" {
		t.Errorf("PREPARE TRANSACTION with bell wal: %s", err)
	}
	r.Exec(t, "commit prepared 'lockstep bell'")
	if err := triggers.Uninstall(t.Context(), r.pool, triggers.Options{Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	if got := r.published(t); len(got) > 0 {
		t.Errorf("after uninstall: %q", got)
	}
}

func TestInspectNamesWhatIsWrongWithTheBellAndInstallMendsIt(t *testing.T) {
	r := newRig(t, "create table a (id int primary key)", "public.a")
	for sql, c := range map[string]struct {
		bell triggers.Bell
		what string
	}{
		"drop publication lockstep_bell":                                   {triggers.BellWAL, "publication lockstep_bell is missing or publishes something else"},
		"alter publication lockstep_bell set (publish = 'insert, update')": {triggers.BellWAL, "publication lockstep_bell is missing or publishes something else"},
		"alter publication lockstep_bell add table a":                      {triggers.BellWAL, "publication lockstep_bell is missing or publishes something else"},
		"alter publication lockstep_bell set table a":                      {triggers.BellWAL, "publication lockstep_bell is missing or publishes something else"},
		"create trigger lockstep_announce after insert on lockstep.outbox for each row execute function lockstep.announce()": {triggers.BellWAL, "the trigger that notifies is there as well"},
		"drop trigger lockstep_announce on lockstep.outbox":                                                                  {triggers.BellNotify, "its trigger is missing"},
		"alter table lockstep.outbox disable trigger lockstep_announce":                                                      {triggers.BellNotify, "its trigger is missing or not ALWAYS"},
		"create publication lockstep_bell for table lockstep.outbox":                                                         {triggers.BellOff, "the bell is off"},
	} {
		r.setBell(t, c.bell)
		r.Exec(t, sql)
		found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
		if err != nil || len(found) != 1 || !strings.Contains(found[0].What, c.what) || found[0].Mend != "lockstep install --bell "+string(c.bell) {
			t.Errorf("%s: findings %v, %v", sql, found, err)
		}
		if err := triggers.Check(t.Context(), r.pool, triggers.Options{}, "public.a"); err != nil {
			t.Errorf("%s: capture is as good as before, but Check says %v", sql, err)
		}
		r.setBell(t, triggers.BellDefault)
	}
}

func TestTheWALBellIsInstalledByPsqlAndUnderAnyName(t *testing.T) {
	long := strings.Repeat("ö", 31) // 62 bytes of the 63 that a name may have
	for _, schema := range []string{"lockstep", `od"d '%s`, long} {
		db := pgtest.New(t)
		db.Exec(t, "create table a (id int primary key)")
		r := &rig{db, db.Pool(t)}
		var sql strings.Builder
		o := triggers.Options{Schema: schema, Owner: "lockstep_owner_of_a_test", Bell: triggers.BellWAL, Logger: quiet, Print: &sql}
		if err := triggers.Install(t.Context(), r.pool, o, "public.a"); err != nil {
			t.Fatal(err)
		}
		db.Program(t, sql.String(), "psql", "-v", "ON_ERROR_STOP=1", "-q", "-d", db.DSN())
		o.Print = nil
		if found, err := triggers.Inspect(t.Context(), r.pool, o); err != nil || len(found) > 0 {
			t.Errorf("schema %s: findings %v, %v", schema, found, err)
		}
		if got := r.published(t); len(got) != 1 {
			t.Errorf("schema %s: published %q", schema, got)
		}
		if err := triggers.Uninstall(t.Context(), r.pool, o); err != nil {
			t.Fatal(err)
		}
		if got := r.published(t); len(got) > 0 {
			t.Errorf("schema %s: after uninstall %q", schema, got)
		}
	}
}

// A schema that was made when there was no WAL bell.
func TestAnOlderSchemaTakesTheWALBell(t *testing.T) {
	r := newRig(t, "create table a (id int primary key)", "public.a")
	r.Exec(t, "alter table lockstep.meta drop constraint meta_bell_check, add constraint meta_bell_check check (bell in ('notify', 'off'))")
	r.Exec(t, "alter table lockstep.nodes drop column bell")
	r.setBell(t, triggers.BellWAL)
	r.Exec(t, "insert into lockstep.nodes (name, position, state, bell) values ('n', '1:1:', 'live', 'wal')")
	if err := tries(t, r.pool, "update lockstep.meta set bell = 'gong'"); !strings.Contains(err, "meta_bell_check") {
		t.Errorf("bell gong: %q", err)
	}
}
