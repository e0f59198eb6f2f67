package triggers_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/triggers"
)

// An apply worker writes as this session does; capture in it goes on.
func TestWhatReplicationBringsStaysOutOfOurTables(t *testing.T) {
	r := newRig(t, installTables, "public.a")
	r.Exec(t, "insert into a values (1, 'x'); insert into lockstep.nodes (name, position, state) values ('n', '1:1:', 'live')")
	state := func() string {
		var s string
		err := r.pool.QueryRow(t.Context(), `select concat_ws(' ', (select string_agg(name || key_columns::text, ',') from lockstep.tables), (select string_agg(n::text, ',') from lockstep.nodes n),
			(select h::text from lockstep.horizon h), (select m::text from lockstep.meta m), (select count(*) from lockstep.outbox))`).Scan(&s)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := state()
	r.Exec(t, `set session_replication_role = replica;
		insert into lockstep.outbox (seq, xid, table_name, op, lead) overriding system value values (1, '7', 'public.a', 'T', true);
		insert into lockstep.tables values (1, 'public.a', '{id}', 'row'); insert into lockstep.nodes (name, position, state) values ('theirs', '1:1:', 'live');
		insert into lockstep.meta values (true, 9, 9, gen_random_uuid(), 1, 'off'); insert into lockstep.horizon values (true, '900');
		update lockstep.meta set history = gen_random_uuid(); update lockstep.horizon set xid = '900'; update lockstep.nodes set state = 'x'; update lockstep.tables set name = 'y';
		delete from lockstep.outbox; delete from lockstep.nodes; delete from lockstep.tables; delete from lockstep.meta`)
	if after := state(); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	r.Exec(t, "set session_replication_role = replica; insert into a values (2, 'y'); update a set id = id + 5; truncate a")
	r.wantFold(t, "written as a replica")
	r.Exec(t, "alter table lockstep.outbox disable trigger lockstep_foreign; drop trigger lockstep_foreign on lockstep.meta")
	found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
	if err != nil || len(found) != 2 || found[0].Kind != "unguarded" {
		t.Errorf("%+v, %v", found, err)
	}
	r.install(t)
	r.wantInstalled(t, "public.a")
}

func TestInstallRefusesASessionWhoseWritesWouldBeTakenForAReplicas(t *testing.T) {
	r := newRig(t, installTables, "public.a")
	replica := r.Pool(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["session_replication_role"] = "replica" })
	if err := triggers.Install(t.Context(), replica, triggers.Options{Logger: quiet}, "public.a"); !errors.Is(err, triggers.ErrReplica) {
		t.Errorf("%v", err)
	}
}

func TestAPublicationForAllTablesIsNamedBeforeTheSchemaIsMade(t *testing.T) {
	r := &rig{}
	r.DB = newRig(t, installTables).DB
	r.pool = r.Pool(t)
	if err := triggers.Uninstall(t.Context(), r.pool, triggers.Options{Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	r.Exec(t, `create publication one_table for table a; create publication "every one" for all tables`)
	o := triggers.Options{Bell: triggers.BellOff, Logger: quiet}
	err := triggers.Install(t.Context(), r.pool, o, "public.a")
	if !errors.Is(err, triggers.ErrPublished) || !strings.Contains(err.Error(), `"every one" is FOR ALL TABLES`) || !strings.Contains(err.Error(), "--published") {
		t.Errorf("%v", err)
	}
	o.Published = true
	if err := triggers.Install(t.Context(), r.pool, o, "public.a"); err != nil {
		t.Fatal(err)
	}
	r.install(t, "public.a", "public.part") // once it is there it is not asked again
	r.wantInstalled(t, "public.a", "public.part")
}

// A table that a subscription feeds from now on, or no more, is captured in one way.
func TestAnotherModeOfCaptureReplacesTheFirst(t *testing.T) {
	r := newRig(t, installTables, "public.a")
	names := func() []string {
		return r.list(t, "select tgname::text from pg_trigger where tgrelid = 'a'::regclass order by 1")
	}
	statement := []string{"lockstep_delete", "lockstep_insert", "lockstep_truncate", "lockstep_update"}
	for i, sql := range []string{
		"create subscription s_%[1]s connection 'dbname=%[1]s' publication p with (connect = false)", "alter subscription s_%[1]s set (slot_name = none); drop subscription s_%[1]s",
	} {
		r.Exec(t, fmt.Sprintf(sql, r.Name))
		if i == 0 { // as if it had been asked for its tables
			r.Exec(t, "insert into pg_subscription_rel select oid, 'a'::regclass, 'r', null from pg_subscription where subname = 's_"+r.Name+"'")
		}
		r.install(t, "public.a")
		r.wantInstalled(t, "public.a")
		want := statement
		if i == 0 {
			want = []string{"lockstep_row", "lockstep_truncate"}
		}
		if got := names(); !slices.Equal(got, want) {
			t.Errorf("triggers %q, want %q", got, want)
		}
		r.Exec(t, "insert into a values (1, 'x'), (2, 'y'); update a set v = 'z'; delete from a")
		r.wantFold(t, "written")
	}
}
