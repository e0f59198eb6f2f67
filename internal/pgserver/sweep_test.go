package pgserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ownedServer is what a child process reports about the server that it owns.
type ownedServer struct {
	Dir        string
	PID, Guard int

	child *exec.Cmd
	stdin io.Closer
}

const envOwner = "PGSERVER_TEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(envOwner) != "" {
		ownUntilTheEnd()
	}
	os.Exit(m.Run())
}

// ownUntilTheEnd is the child: it starts a server, reports it, and exits without stopping
// it when its standard input ends.
func ownUntilTheEnd() {
	s, err := Start(context.Background(), Config{})
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(ownedServer{Dir: s.paths.dir, PID: s.PID(), Guard: s.guard.cmd.Process.Pid})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// startChild runs a child that owns a server.
func startChild(t *testing.T) *ownedServer {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envOwner+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	o := &ownedServer{child: cmd, stdin: stdin}
	if err := json.NewDecoder(stdout).Decode(o); err != nil {
		t.Fatal(err)
	}
	if !o.runs() || o.Guard == 0 {
		t.Fatalf("the child's server does not run: %+v", o)
	}
	return o
}

func (o *ownedServer) runs() bool { return commandLine(o.PID) != nil }

func (o *ownedServer) gone() bool {
	_, err := os.Stat(o.Dir)
	return errors.Is(err, os.ErrNotExist) && !o.runs()
}

// killOwner kills the child as kill -9 does, after its guard if that is asked for.
func (o *ownedServer) killOwner(t *testing.T, guardToo bool) {
	t.Helper()
	if guardToo {
		if err := killPID(o.Guard, sigKill); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = o.child.Wait() // "signal: killed"
}

func TestAServerDoesNotOutliveItsOwner(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *ownedServer){
		"kill -9": func(t *testing.T, o *ownedServer) { o.killOwner(t, false) },
		"exit without Stop": func(t *testing.T, o *ownedServer) {
			if err := errors.Join(o.stdin.Close(), o.child.Wait()); err != nil {
				t.Fatal(err)
			}
		},
		"interrupt": func(t *testing.T, o *ownedServer) {
			if err := o.child.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			_ = o.child.Wait() // "signal: interrupt"
		},
	} {
		t.Run(name, func(t *testing.T) {
			temp := ownTemp(t)
			o := startChild(t)
			end(t, o)
			awaitTrue(t, "the guard cleans up", o.gone)
			mustBeEmpty(t, temp)
		})
	}
}

func TestTheCleanUpWorksFromTheMomentThatTheDirectoryExists(t *testing.T) {
	temp := ownTemp(t)
	acct, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	p, lock, err := makeDir("", acct)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	g, err := startGuard(acct, p, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.pipe.Close(); err != nil { // as the owner's death does
		t.Fatal(err)
	}
	if err := g.cmd.Wait(); err != nil {
		t.Errorf("guard: %v", err)
	}
	mustBeEmpty(t, temp)
}

func TestATempDirectoryThatTheServersUserCannotCleanUpIsNotUsed(t *testing.T) {
	if os.Geteuid() != 0 {
		mustStart(t, Config{}) // our own user is the server's: there is no such directory
		return
	}
	closed := t.TempDir()
	t.Setenv("TMPDIR", closed)
	s := mustStart(t, Config{})
	if strings.HasPrefix(s.DataDir(), closed) {
		t.Errorf("the server is in %s", s.DataDir())
	}
}

func TestTheNextStartCleansUpAfterAnOwnerKilledTogetherWithItsGuard(t *testing.T) {
	ownTemp(t)
	o := startChild(t)
	o.killOwner(t, true)
	if !o.runs() {
		t.Fatal("the server ended by itself: this test shows nothing")
	}
	mustStart(t, Config{})
	if !o.gone() {
		t.Error("the next Start left the dead process's server")
	}
}

func TestSweepLeavesTheLivingAlone(t *testing.T) {
	ownTemp(t)
	other := startChild(t)
	mine := mustStart(t, Config{})
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if !other.runs() {
		t.Error("another living process's server was stopped")
	}
	if got := query(t, mine.DSN("postgres"), "SELECT 'here'"); got != "here" {
		t.Error(got)
	}
}

func TestSweepRemovesADirectoryWithoutALockOnlyWhenItIsOld(t *testing.T) {
	temp := ownTemp(t)
	young, old := filepath.Join(temp, "lockstep-pg-1"), filepath.Join(temp, "lockstep-pg-2")
	other := filepath.Join(temp, "somebody-elses")
	for _, dir := range []string{young, old, other} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{old, other} {
		past := time.Now().Add(-2 * orphanAge)
		if err := os.Chtimes(dir, past, past); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	for dir, stays := range map[string]bool{young: true, old: false, other: true} {
		if _, err := os.Stat(dir); (err == nil) != stays {
			t.Errorf("%s: %v, want that it stays: %t", dir, err, stays)
		}
	}
}

func TestSweepKillsNoProcessThatIsNotTheServer(t *testing.T) {
	temp := ownTemp(t)
	dir := filepath.Join(temp, "lockstep-pg-1")
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	// An innocent process that even names the directory, but not as its own data.
	innocent := exec.Command("/bin/sh", "-c", "read -r line", "sh", data)
	stdin, err := innocent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(innocent.Process.Pid)
	if err := os.WriteFile(filepath.Join(data, "postmaster.pid"), []byte(pid+"\n"+data+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, lockName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	mustBeEmpty(t, temp)
	if _, err := io.WriteString(stdin, "end\n"); err != nil {
		t.Errorf("the innocent process is gone: %v", err)
	}
	if err := innocent.Wait(); err != nil {
		t.Errorf("the innocent process: %v", err)
	}
}
