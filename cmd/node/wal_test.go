package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
)

func TestTheWALBellIsInstalledAndMissedByName(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key)")
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if out, errs, status := runCommand(t, env, "install", "--table", "public.a", "--bell", "wal"); status != 0 || !strings.Contains(errs, "nodes poll until wal_level is logical") {
		t.Fatalf("install: %d, %q, %q", status, out, errs)
	}
	if out, _, status := runCommand(t, env, "inspect"); status != 1 || !strings.Contains(out, "wal_level is replica") {
		t.Errorf("inspect: %d, %q", status, out)
	}
	if _, errs, status := runCommand(t, env, "serve", "--table", "public.a", "--listen", "127.0.0.1:0", "--bell", "wal"); status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "wal_level is replica, and must be logical") {
		t.Errorf("serve --bell wal: %d, %q", status, errs)
	}
	if out, _, status := runCommand(t, env, "status"); status != 0 || !strings.Contains(out, "bell wal") {
		t.Errorf("status: %d, %q", status, out)
	}
	if _, errs, status := runCommand(t, env, "install", "--bell", "notify"); status != 0 {
		t.Errorf("install --bell notify: %q", errs)
	}
	if _, errs, status := runCommand(t, env, "serve", "--table", "public.a", "--listen", "127.0.0.1:0", "--bell", "wal"); status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "run lockstep install --bell wal") {
		t.Errorf("serve --bell wal of a database with another one: %d, %q", status, errs)
	}
}

func TestServeReadsTheLogWhereTheDatabaseWasInstalledSo(t *testing.T) {
	build(t)
	c := pgtest.Own(t, pgtest.With("wal_level", "logical"))
	db := c.New(t)
	db.Exec(t, "create table a (id int primary key)")
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a", "--bell", "wal"); status != 0 || errs != "" {
		t.Fatalf("install: %d, %q", status, errs)
	}
	if out, errs, status := runCommand(t, env, "inspect"); status != 0 {
		t.Errorf("inspect: %q, %q", out, errs)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "--table", "public.a", "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	n, err := out.Read(buf)
	_, address, ok := strings.Cut(strings.TrimSpace(string(buf[:n])), "http://")
	if err != nil || !ok {
		t.Fatalf("serve says %q, %v", buf[:n], err)
	}
	page := get(ctx, t, "http://"+address+"/v1/status")
	var view outbox.Overview
	for len(view.Nodes) == 0 || view.Nodes[0].Bell != "wal" { // its row in the register is written beside
		said, errs, status := runCommand(t, env, "status", "--json")
		if err := json.Unmarshal([]byte(said), &view); err != nil || status != 0 || ctx.Err() != nil {
			t.Fatalf("status --json: %d, %q, %q", status, said, errs)
		}
	}
	if said, _, _ := runCommand(t, env, "status"); view.LogKept == 0 || !strings.Contains(said, "read the server's log keep") {
		t.Errorf("the server's log is kept for a node that reads it, and status says %d bytes, %q", view.LogKept, said)
	}
	if said := get(ctx, t, "http://"+address+"/metrics"); !strings.Contains(said, `lockstep_bell{bell="wal"} 1`) {
		t.Errorf("metrics: %s", said)
	}
	if err := errors.Join(cmd.Process.Kill(), cmd.Wait()); !strings.Contains(page, `"bell":"wal"`) && !strings.Contains(page, `"bell": "wal"`) {
		t.Errorf("status of the node (%v): %s", err, page)
	}
}

func get(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
