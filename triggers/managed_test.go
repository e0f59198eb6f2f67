package triggers_test

import (
	"testing"
	"time"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// On a managed server nobody is a superuser: whoever owns the database and its
// tables and may create roles installs, again and again, and takes it away.
func TestNoSuperuserIsNeededToInstall(t *testing.T) {
	db := pgtest.New(t)
	admin := db.Role(t, "CREATEROLE")
	db.Exec(t, "alter database "+db.Name+" owner to "+admin.Name)
	pool := db.PoolAs(t, admin)
	if err := tries(t, pool, "create table a (id int primary key, v text); create table p (id int primary key) partition by range (id); create table p1 partition of p for values from (0) to (10)"); err != "" {
		t.Fatal(err)
	}
	o := triggers.Options{Owner: admin.Name + "_capture", Logger: quiet}
	for range 2 {
		if err := triggers.Install(t.Context(), pool, o, "public.a", "public.p"); err != nil {
			t.Fatal(err)
		}
	}
	if err := tries(t, pool, "insert into a values (1, 'x'); update a set v = 'y'; insert into p values (1); truncate p1"); err != "" {
		t.Fatal(err)
	}
	r := &rig{db, db.Pool(t)}
	r.wantFold(t, "installed without a superuser")
	if found, err := triggers.Inspect(t.Context(), pool, o); err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	// All of the functions: else the next one to install, another member of that role, could not replace them.
	if others := r.list(t, "select proname from pg_proc where pronamespace = 'lockstep'::regnamespace and proowner <> '"+o.Owner+"'::regrole"); len(others) > 0 {
		t.Errorf("functions of somebody else's: %q", others)
	}
	if err := triggers.NewHistory(t.Context(), pool, o); err != nil {
		t.Error(err)
	}
	if err := triggers.Uninstall(t.Context(), pool, o); err != nil {
		t.Error(err)
	}
	var left bool
	if err := r.pool.QueryRow(t.Context(), "select exists (select from pg_roles where rolname = $1)", o.Owner).Scan(&left); err != nil || left {
		t.Errorf("the functions' owner is still there: %v, %v", left, err)
	}
}

// The functions' owner belongs to the whole cluster: who installs in two databases at once makes it in both.
func TestTwoDatabasesMayBeInstalledAtOnce(t *testing.T) {
	one, other := pgtest.New(t), pgtest.New(t)
	o := triggers.Options{Owner: "owner_of_" + one.Name, Logger: quiet}
	other.Exec(t, "create table a (id int primary key)")
	first := one.Conn(t)
	if _, err := first.Exec(t.Context(), "begin; create role "+o.Owner+" nologin noinherit"); err != nil {
		t.Fatal(err)
	}
	pool := other.Pool(t)
	done := make(chan error, 1)
	go func() { done <- triggers.Install(t.Context(), pool, o, "public.a") }()
	watch := one.Conn(t)
	pgtest.Until(t, time.Minute, "the second install waits for the first", func() (waits bool) {
		select {
		case err := <-done:
			t.Fatalf("the second install did not wait: %v", err)
		default:
		}
		if err := watch.QueryRow(t.Context(), "select exists (select from pg_stat_activity where datname = $1 and wait_event = 'transactionid')", other.Name).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	if _, err := first.Exec(t.Context(), "commit"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := triggers.Uninstall(t.Context(), pool, o); err != nil {
		t.Error(err)
	}
}
