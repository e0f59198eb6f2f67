package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
)

func TestStatusAndTrimSayWhatTheDatabaseKnows(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if _, errs, status := runCommand(t, env, "status"); status != 1 || !strings.Contains(errs, "run lockstep install") || strings.Count(errs, "\n") != 1 {
		t.Errorf("status without the schema: %d, %q", status, errs)
	}
	db.Exec(t, "create table a (id int primary key)")
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a", "--bell", "notify"); status != 0 {
		t.Fatal(errs)
	}
	if out, errs, status := runCommand(t, env, "status"); status != 0 || !strings.Contains(out, "no node has registered") || !strings.Contains(out, "it is empty") {
		t.Errorf("status without nodes: %d, %q, %q", status, out, errs)
	}
	type row struct{ ID int }
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node, err := lockstep.Start(ctx, db.Pool(t), lockstep.Config{Name: "web-1", Logger: slog.New(slog.DiscardHandler)}, lockstep.NewTable("public.a", func(r row) int { return r.ID }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Close(ctx) }() // the test is over
	for i := range 20 {
		db.Exec(t, "insert into a values ($1)", i)
	}
	db.Exec(t, "insert into lockstep.nodes (name, position, state, host, beat) values ('lost-1', '3:3:', 'live', 'elsewhere', clock_timestamp() - interval '3 hours')")
	view := func() (v outbox.Overview) {
		t.Helper()
		out, errs, status := runCommand(t, env, "status", "--json")
		if err := json.Unmarshal([]byte(out), &v); err != nil || status != 0 {
			t.Fatalf("status --json: %d, %q, %q", status, out, errs)
		}
		return v
	}
	for v := view(); len(v.Nodes) != 2 || v.Nodes[1].State != "live"; v = view() {
		if ctx.Err() != nil {
			t.Fatalf("the node never registered as live: %+v", v.Nodes)
		}
	}
	v := view()
	if v.Bell != "notify" || v.Bytes == 0 || v.Oldest.IsZero() || v.Rate == 0 || v.Nodes[0].Name != "lost-1" || v.Nodes[0].Behind != 20 || v.Nodes[0].Age < 3*3600 || v.Nodes[1].Name != "web-1" {
		t.Errorf("status --json: %+v", v)
	}
	if n := v.Nodes[1]; n.Staleness == nil || *n.Staleness < 0 || *n.Staleness > 60 || n.Bell != "notify" || n.Version != outbox.NodeVersion || n.Host == "" || n.Age > 60 || v.Nodes[0].Staleness != nil {
		t.Errorf("the nodes: %+v", v.Nodes)
	}
	out, errs, status := runCommand(t, env, "status")
	if status != 0 || !strings.Contains(out, "20 events, ") || !strings.Contains(out, "3h0m") || !strings.Contains(out, "bell notify") || !strings.Contains(out, "horizon: transaction ") {
		t.Errorf("status: %d, %q, %q", status, out, errs)
	}
	for _, line := range []string{`node +state +staleness +behind +position +last beat +bell +version +host`, `lost-1 +live +\? +20 events, \S+ +3:3: +3h0m\S+ ago +\? +0 +elsewhere`, fmt.Sprintf(`web-1 +live +\S+s +\S.* +\d+:\d+: +\S+ ago +notify +%d +\S+`, outbox.NodeVersion)} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(out) {
			t.Errorf("status has no line %s:\n%s", line, out)
		}
	}
	if out, errs, status := runCommand(t, env, "trim", "--keep", "1h"); status != 0 || !strings.Contains(out, "0 events deleted") {
		t.Errorf("trim of what is young: %d, %q, %q", status, out, errs)
	}
	db.Exec(t, "update lockstep.outbox set at = at - interval '2 days' where seq <= 10")
	for _, args := range [][]string{{"trim", "--keep", "0s"}, {"trim", "--keep", "-1h"}, {"trim", "--keep", "soon"}, {"status", "--json", "--watch"}} {
		if _, errs, status := runCommand(t, env, args...); status != 1 || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: %d, %q", args, status, errs)
		}
	}
	if out, errs, status := runCommand(t, env, "trim", "--keep-rows", "5", "--past-nodes"); status != 0 || !strings.Contains(out, "events deleted") {
		t.Errorf("trim: %d, %q, %q", status, out, errs)
	}
}

// Whoever watches an outage sees its end: an answer that fails is a line, and the next one comes.
func TestStatusWatchesUntilItIsInterrupted(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key)")
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a"); status != 0 {
		t.Fatal(errs)
	}
	cmd := exec.Command(binary, "status", "--watch")
	cmd.Env = append(os.Environ(), env...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	lines := bufio.NewScanner(pipe)
	until := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("it has ended without %q", text)
	}
	until("outbox: about")
	db.Exec(t, "alter schema lockstep rename to away")
	until("lockstep is not installed in this database")
	db.Exec(t, "alter schema away rename to lockstep")
	until("outbox: about")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, pipe) // up to its end
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}
