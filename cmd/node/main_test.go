package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// binary is the built command.
var binary string

func TestMain(m *testing.M) { pgtest.Main(m) }

func build(t *testing.T) {
	t.Helper()
	binary = pgtest.Built(t, ".")
}

// runCommand runs it and returns what it prints and its exit status.
func runCommand(t *testing.T, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// temporary is a directory like /tmp for one demo's files: the server's user,
// who is another one where this is root, may work there, and sockets fit.
// t.TempDir is neither, and a demo would go elsewhere.
func temporary(t *testing.T) string {
	t.Helper()
	base := os.TempDir()
	if info, err := os.Stat(base); err != nil || info.Mode()&0o007 != 0o007 || len(base) > 32 {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "demo-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a test has looked
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // as the server names it
		t.Fatal(err)
	}
	return dir
}

func TestBadInputGetsOneLineThatSaysWhatToDo(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table good (id int primary key); insert into good values (1); create view seen as select 1; create table no_key (id int)")
	dsn := "LOCKSTEP_DSN=" + db.DSN()
	if out, errs, status := runCommand(t, []string{dsn}, "install", "--table", "public.good"); status != 0 {
		t.Fatal(out, errs)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	role := db.Role(t)
	empty := pgtest.New(t)
	secret := "LOCKSTEP_DSN=" + strings.Replace(db.DSNAs(role), "@", "-wrong@", 1)
	for _, c := range []struct {
		name string
		env  string
		args []string
		want string
	}{
		{"no server", "LOCKSTEP_DSN=postgres://u:geheim@127.0.0.1:1/x", []string{"inspect"}, "no Postgres answers at 127.0.0.1:1"},
		{"wrong password", secret, []string{"inspect"}, "refuses the login"},
		{"unreadable connection string", "LOCKSTEP_DSN=postgres://u:geheim@[", []string{"inspect"}, "cannot be read"},
		{"no such table", dsn, []string{"serve", "--table", "public.nowhere"}, "it is not there"},
		{"a view", dsn, []string{"install", "--table", "public.seen"}, "it is a view"},
		{"no key", dsn, []string{"install", "--table", "public.no_key"}, "no primary key"},
		{"not captured", dsn, []string{"serve", "--table", "public.no_key"}, "lockstep install"},
		{"port taken", dsn, []string{"serve", "--table", "public.good", "--listen", taken.Addr().String()}, "cannot listen on"},
		{"not installed", "LOCKSTEP_DSN=" + empty.DSN(), []string{"serve", "--table", "public.good"}, "run lockstep install"},
		{"nothing to uninstall", "LOCKSTEP_DSN=" + empty.DSN(), []string{"uninstall"}, "lockstep install"},
		{"a negative retention", dsn, []string{"serve", "--table", "public.good", "--retention", "-1s"}, "--retention"},
		{"a bound that nobody keeps", dsn, []string{"serve", "--table", "public.good", "--retention", "0", "--retention-rows", "5"}, "--retention-rows needs"},
		{"a beat that is too long", dsn, []string{"serve", "--table", "public.good", "--beat", "2s"}, "--beat 2s"},
		{"too little memory", dsn, []string{"serve", "--table", "public.good", "--max-bytes", "1"}, "public.good"},
		{"no table", dsn, []string{"serve"}, "needs a --table"},
		{"no such command", dsn, []string{"serf"}, "unknown command"},
		{"no such flag", dsn, []string{"serve", "--tabel", "x"}, "unknown flag"},
		{"a strange bell", dsn, []string{"install", "--bell", "gong"}, "gong"},
		{"a demo on no server", dsn, []string{"demo", "--dsn", "postgres://u:geheim@127.0.0.1:1/x"}, "no Postgres answers at 127.0.0.1:1"},
		{"a demo with a wrong password", dsn, []string{"demo", "--dsn", strings.TrimPrefix(secret, "LOCKSTEP_DSN=")}, "refuses the login"},
		{"a demo on no database", dsn, []string{"demo", "--dsn", strings.Replace(db.DSN(), db.Name, "nowhere", 1)}, `database "nowhere" does not exist`},
		{"a demo on an unreadable connection string", dsn, []string{"demo", "--dsn", "postgres://u:geheim@["}, "cannot be read"},
		{"a demo of one who may not make a schema", dsn, []string{"demo", "--dsn", db.DSNAs(role)}, "permission denied"},
		{"a demo whose page's address is taken", dsn, []string{"demo", "--page", taken.Addr().String()}, "--page: cannot listen on " + taken.Addr().String()},
		{"a demo whose page has no address", dsn, []string{"demo", "--page", "nonsense"}, "want host:port, or off"},
		{"a demo whose page is for everybody", dsn, []string{"demo", "--page", "0.0.0.0:0"}, "is not loopback"},
		{"too short a demo", dsn, []string{"demo", "--duration", "1s"}, "a duration of 3s"},
	} {
		out, errs, status := runCommand(t, []string{c.env}, c.args...)
		if status != 1 || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "lockstep: ") || !strings.Contains(errs, c.want) {
			t.Errorf("%s: status %d, %q, want one line with %q", c.name, status, errs, c.want)
		}
		for _, word := range []string{"geheim", "-wrong", "goroutine", "Usage:"} {
			if strings.Contains(out+errs, word) {
				t.Errorf("%s prints %q:\n%s%s", c.name, word, out, errs)
			}
		}
	}
	db.Exec(t, "update lockstep.meta set version = 99, min_node = 99")
	for _, args := range [][]string{{"serve", "--table", "public.good"}, {"install", "--table", "public.good"}} {
		if _, errs, status := runCommand(t, []string{dsn}, args...); status != 1 || !strings.Contains(errs, "newer") {
			t.Errorf("%v on a schema of another version: %d, %q", args, status, errs)
		}
	}
}

func TestInstallInspectUninstall(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key); create table b (id int)")
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	sql, errs, status := runCommand(t, env, "install", "--table", "public.a", "--print-sql")
	if status != 0 || !strings.Contains(sql, "create or replace trigger") {
		t.Fatalf("print-sql: %d, %q", status, errs)
	}
	out, errs, status := runCommand(t, env, "install", "--table", "public.*")
	if status != 0 || !strings.Contains(out, "public.a") || !strings.Contains(errs, "left out public.b: it has no primary key") {
		t.Errorf("install: %d, %q, %q", status, out, errs)
	}
	if out, errs, status := runCommand(t, env, "inspect"); status != 0 || !strings.Contains(out, "nothing has drifted") {
		t.Errorf("inspect: %d, %q, %q", status, out, errs)
	}
	db.Exec(t, "alter table a disable trigger lockstep_update; drop trigger lockstep_delete on a")
	out, _, status = runCommand(t, env, "inspect")
	if status != 1 || !strings.Contains(out, "lockstep_update on public.a is disabled") || !strings.Contains(out, "lockstep_delete is missing") {
		t.Errorf("inspect after drift: %d, %q", status, out)
	}
	if out, errs, status := runCommand(t, env, "install", "--table", "public.a"); status != 0 {
		t.Errorf("mend: %q %q", out, errs)
	}
	if out, _, status := runCommand(t, env, "inspect"); status != 0 {
		t.Errorf("inspect after the mend: %q", out)
	}
	out, errs, status = runCommand(t, env, "uninstall", "--table", "public.a", "--table", "public.*")
	if status != 0 || out != "public.a is not captured any more\n" {
		t.Errorf("uninstall of a table: %d, %q, %q", status, out, errs)
	}
	if _, errs, status := runCommand(t, env, "uninstall", "--table", "public.*"); status != 1 || !strings.Contains(errs, "no table of schema public is captured") {
		t.Errorf("uninstall of no table: %d, %q", status, errs)
	}
	if _, errs, status := runCommand(t, env, "uninstall", "--table", "public.a"); status != 1 || !strings.Contains(errs, "table public.a: it is not captured (lockstep inspect lists") {
		t.Errorf("uninstall of a table again: %d, %q", status, errs)
	}
	if out, errs, status := runCommand(t, env, "inspect"); status != 0 || !strings.Contains(out, "0 tables are captured") {
		t.Errorf("inspect without a table: %d, %q, %q", status, out, errs)
	}
	if out, errs, status := runCommand(t, env, "uninstall"); status != 0 {
		t.Errorf("uninstall: %q %q", out, errs)
	}
}

func TestDemoEndsWithEveryNodeEqualAndNothingLeft(t *testing.T) {
	build(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tmp := temporary(t)
	cmd := exec.CommandContext(ctx, binary, "demo", "--once", "--duration", "6s")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "every node holds exactly what Postgres holds") {
		t.Errorf("%v\n%s", err, out)
	}
	left, err := filepath.Glob(filepath.Join(tmp, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
