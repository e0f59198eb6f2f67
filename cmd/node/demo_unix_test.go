//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// running is a demo in a process group of its own, as a shell starts it.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *bufio.Reader
	said strings.Builder
}

func startDemo(t *testing.T, tmp string, env []string, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(binary, append([]string{"demo"}, args...)...)}
	r.cmd.Env = append(append(os.Environ(), "TMPDIR="+tmp), env...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Not StdoutPipe, which Wait would close under the reader.
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr, r.out = out, out, bufio.NewReader(in)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close() // the demo has it
	limit := time.AfterFunc(time.Minute, func() { _ = r.cmd.Process.Kill() })
	t.Cleanup(func() {
		limit.Stop()
		_ = r.cmd.Process.Kill() // or it has ended
		_ = r.cmd.Wait()
		_ = in.Close()
	})
	return r
}

// until reads what the demo says up to a line with the text.
func (r *running) until(text string) {
	r.t.Helper()
	for {
		line, err := r.out.ReadString('\n')
		r.said.WriteString(line)
		if strings.Contains(line, text) {
			return
		}
		if err != nil {
			r.t.Fatalf("the demo has ended without %q: %v\n%s", text, err, r.said.String())
		}
	}
}

// interrupt does what Ctrl-C does: every process of the group gets the signal.
func (r *running) interrupt() {
	r.t.Helper()
	if err := syscall.Kill(-r.cmd.Process.Pid, syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
}

// end waits for the demo's end and returns its exit status and all it said.
func (r *running) end() (int, string) {
	r.t.Helper()
	rest, err := io.ReadAll(r.out)
	r.said.Write(rest)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = r.cmd.Wait() // the status says it
	return r.cmd.ProcessState.ExitCode(), r.said.String()
}

// processes are those that were started with this directory for their files.
func processes(t *testing.T, tmp string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00TMPDIR="+tmp+"\x00")) {
			continue // it has ended, or is not ours
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		found = append(found, strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))))
	}
	return found
}

// wantNothing waits until neither a process nor a file is left of a demo.
func wantNothing(t *testing.T, tmp string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := filepath.Glob(filepath.Join(tmp, "*"))
		running := processes(t, tmp)
		if err == nil && len(left) == 0 && len(running) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("left behind: files %q (%v), processes %q", left, err, running)
		}
	}
}

func TestDemoThatIsInterruptedGivesItsAccountAndLeavesNothing(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, nil, "--duration", "3s", "--nodes", "2")
	r.until("healed")
	r.interrupt()
	if status, said := r.end(); status != 0 || !strings.Contains(said, "every node holds exactly what Postgres holds") {
		t.Errorf("exit status %d\n%s", status, said)
	}
	wantNothing(t, tmp)
}

func TestDemoThatIsInterruptedBeforeItBeganLeavesNothing(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, nil, "--duration", "3s")
	r.until("a private PostgreSQL")
	r.interrupt()
	if _, said := r.end(); strings.Contains(said, "goroutine") {
		t.Errorf("it panicked\n%s", said)
	}
	wantNothing(t, tmp)
}

// Whatever a killed demo cannot clean up itself is gone after the next one, if not before.
func TestDemoThatIsKilledLeavesNothingToTheNext(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, nil, "--duration", "60s", "--nodes", "2")
	r.until("departments and employees are there")
	r.until("node-2 has loaded")
	if len(processes(t, tmp)) < 4 {
		t.Fatalf("a demo of two nodes has the processes %q", processes(t, tmp))
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.cmd.Wait() // it was killed
	next := startDemo(t, tmp, nil, "--duration", "3s", "--nodes", "1", "--once")
	if status, said := next.end(); status != 0 {
		t.Errorf("the next demo: exit status %d\n%s", status, said)
	}
	wantNothing(t, tmp)
}

// inventory is what a database and its cluster hold besides rows.
func inventory(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	rows, _ := db.Conn(t).Query(t.Context(), `
		select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_(toast_)?temp_' union all
		select 'role ' || rolname from pg_roles union all
		select 'table ' || oid::regclass from pg_class where relkind in ('r', 'p') and oid >= 16384 union all
		select 'function ' || oid::regprocedure from pg_proc where oid >= 16384 union all
		select 'trigger ' || tgname from pg_trigger where not tgisinternal union all
		select 'slot ' || slot_name from pg_replication_slots union all
		select 'lock ' || classid || ' ' || objid from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
		order by 1`) // CollectRows has its error
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, "\n")
}

// wantAsItWas waits until the server has what it had: a session ends a moment
// after its client, and what it has locked with it.
func wantAsItWas(t *testing.T, db *pgtest.DB, before, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for after := inventory(t, db); after != before; after = inventory(t, db) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s the server has\n%s\nand had\n%s", what, after, before)
		}
	}
}

func TestDemoOnYourOwnServerLeavesItAsItWas(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table mine (id int primary key)")
	before := inventory(t, db)
	tmp := temporary(t)
	for name, end := range map[string]func(*running){
		"to its end":  func(*running) {},
		"interrupted": func(r *running) { r.until("has lost its way"); r.interrupt() },
	} {
		r := startDemo(t, tmp, nil, "--dsn", db.DSN(), "--duration", "3s", "--nodes", "2", "--once")
		end(r)
		if status, said := r.end(); status != 0 || strings.Contains(said, "goroutine") {
			t.Errorf("%s: exit status %d\n%s", name, status, said)
		}
		wantAsItWas(t, db, before, name)
		wantNothing(t, tmp)
	}
	// A killed one leaves its schemas, which the next drops.
	r := startDemo(t, tmp, nil, "--dsn", db.DSN(), "--duration", "60s", "--nodes", "1")
	r.until("node-1 has loaded")
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.cmd.Wait() // it was killed
	next := startDemo(t, tmp, nil, "--dsn", db.DSN(), "--duration", "3s", "--nodes", "1", "--once")
	if status, said := next.end(); status != 0 || !strings.Contains(said, "which a demo had left") {
		t.Errorf("after a killed one: exit status %d\n%s", status, said)
	}
	wantAsItWas(t, db, before, "after a killed one")
	wantNothing(t, tmp)
}

// A standby can neither be followed nor written.
func TestAStandbyIsRefusedInOneLine(t *testing.T) {
	build(t)
	c := pgtest.Own(t)
	db := c.New(t)
	db.Exec(t, "create table a (id int primary key)")
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a"); status != 0 {
		t.Fatal(errs)
	}
	c.BecomeStandby(t)
	for _, args := range [][]string{
		{"serve", "--table", "public.a"}, {"install", "--table", "public.a"}, {"uninstall"}, {"demo", "--once", "--dsn", db.DSN()},
	} {
		out, errs, status := runCommand(t, env, args...)
		if status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "standby") || !strings.Contains(errs, "primary") || strings.Contains(out+errs, "goroutine") {
			t.Errorf("%s on a standby: status %d, %q", args[0], status, errs)
		}
	}
}
