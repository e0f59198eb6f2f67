package main

import (
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// Whoever is refused because the outbox is another cluster's runs what the
// refusal says, as it stands there, and is not refused any more.
func TestTheCommandThatTheRefusalNamesMakesAnEndOfIt(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	db.Exec(t, "create table a (id int primary key)")
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a"); status != 0 {
		t.Fatal(errs)
	}
	db.Exec(t, "insert into a values (1); update lockstep.meta set system_identifier = 1; update lockstep.tables set relid = 1")
	_, errs, status := runCommand(t, env, "serve", "--table", "public.a", "--listen", "127.0.0.1:0")
	_, command, named := strings.Cut(strings.TrimSpace(errs), "run lockstep ")
	if status != 1 || !named || strings.Count(errs, "\n") != 1 {
		t.Fatalf("serve on another cluster's outbox: %d, %q", status, errs)
	}
	if out, errs, status := runCommand(t, env, strings.Fields(command)...); status != 0 || !strings.Contains(out, "public.a") {
		t.Errorf("lockstep %s: %d, %q, %q", command, status, out, errs)
	}
	if out, errs, status := runCommand(t, env, "inspect"); status != 0 || !strings.Contains(out, "nothing has drifted") {
		t.Errorf("inspect: %d, %q, %q", status, out, errs)
	}
	if out, errs, status := runCommand(t, env, "status"); status != 0 || !strings.Contains(out, "it is empty") {
		t.Errorf("status: %d, %q, %q", status, out, errs)
	}
}
