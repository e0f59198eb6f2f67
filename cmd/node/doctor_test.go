package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/doctor"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestDoctorSaysWhatItFoundAndEndsWithAStatusForIt(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key)")
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if out, errs, status := runCommand(t, env, "doctor"); status != 2 || !strings.Contains(out, "there is no schema lockstep") || strings.Count(errs, "\n") != 1 {
		t.Errorf("before the install: %d, %q, %q", status, out, errs)
	}
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a"); status != 0 {
		t.Fatal(errs)
	}
	if out, errs, status := runCommand(t, env, "doctor"); status != 0 || errs != "" || !strings.Contains(out, "18 checks: ") || !strings.Contains(out, "0 wrong, 0 warnings, 0 not seen") {
		t.Errorf("a healthy install: %d, %q, %q", status, out, errs)
	}
	db.Exec(t, "create publication every for all tables")
	out, errs, status := runCommand(t, env, "doctor")
	if status != 2 || !strings.Contains(out, "warning  publications: publication every is FOR ALL TABLES") || !strings.Contains(out, "\n         why: ") ||
		!strings.Contains(out, "\n         mend: publish tables by name") || strings.Count(errs, "\n") != 1 {
		t.Errorf("a warning: %d, %q, %q", status, out, errs)
	}
	db.Exec(t, "alter table a disable trigger lockstep_update")
	out, errs, status = runCommand(t, env, "doctor", "--json")
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 1 || strings.Count(errs, "\n") != 1 {
		t.Fatalf("something wrong: %v, %d, %q, %q", err, status, out, errs)
	}
	if r.Findings[0].Check != "drift" || r.Findings[0].Level != doctor.Wrong || r.Findings[0].Mend != "lockstep install --table public.a" || r.Database != db.Name || !r.Installed {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"doctor", "--retention", "0s"}, {"doctor", "--long", "-1m"}, {"doctor", "--max-outbox", "0"}, {"doctor", "now"}} {
		if _, errs, status := runCommand(t, env, args...); status != 1 || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: %d, %q", args, status, errs)
		}
	}
}
