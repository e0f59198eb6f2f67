package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postmaster is one run of a server.
type postmaster struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when the postmaster and all its children have ended
	exit error         // read after gone
}

// startPostmaster runs the server and returns at once. Every process that descends from
// it inherits the writing end of a pipe that nobody writes to: the reading end ends when
// the last of them does, also when the postmaster was killed and left them orphans.
func startPostmaster(b Binaries, acct account, p paths, port int) (*postmaster, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	alive, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(b.Dir, "postgres"), "-D", p.data, "-p", strconv.Itoa(port))
	cmd.Dir, cmd.Env = p.data, serverEnv(p)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{held}
	cmd.SysProcAttr = detached(acct)
	err = cmd.Start()
	_ = held.Close()
	if err != nil {
		_ = alive.Close()
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	pm := &postmaster{cmd: cmd, gone: make(chan struct{})}
	go pm.watch(alive)
	return pm, nil
}

func (pm *postmaster) watch(alive *os.File) {
	pm.exit = pm.cmd.Wait()
	_, _ = io.Copy(io.Discard, alive)
	_ = alive.Close()
	close(pm.gone)
}

func (pm *postmaster) pid() int { return pm.cmd.Process.Pid }

func (pm *postmaster) signal(sig syscall.Signal) error {
	err := pm.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// stop ends the run, by stronger means when the mode asked for does not do.
func (pm *postmaster) stop(mode Mode) error {
	steps := []syscall.Signal{sigFast, sigImmediate}
	if mode == Immediate {
		steps = steps[1:]
	}
	for _, sig := range steps {
		if err := pm.signal(sig); err != nil {
			return err
		}
		if pm.ended(30 * time.Second) {
			return nil
		}
	}
	return pm.kill()
}

// kill ends all processes as a power failure would. The postmaster is frozen first: it
// bears no child between the count and the kill, and does not answer their deaths.
func (pm *postmaster) kill() error {
	pid := pm.pid()
	_ = pm.signal(sigFreeze)
	for _, child := range childrenOf(pid) {
		_ = killPID(child, sigKill) // gone already: the frozen parent keeps its id taken
	}
	err := pm.signal(sigKill)
	if !pm.ended(30 * time.Second) {
		return errors.Join(err, fmt.Errorf("postgres %d does not end after SIGKILL", pid))
	}
	return err
}

func (pm *postmaster) ended(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-pm.gone:
		return true
	case <-timer.C:
		return false
	}
}

// serverEnv is our environment without what would change a server's or initdb's mind.
func serverEnv(p paths) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || name == "LANG" || name == "HOME" || name == "TZ" {
			continue
		}
		env = append(env, kv)
	}
	return append(env, "HOME="+p.dir, "LC_ALL=C", "PWD="+p.data)
}

// runInitdb creates the cluster's files. The password goes by a file that only the
// server's user can read and that is gone before the server starts.
func runInitdb(ctx context.Context, b Binaries, acct account, p paths, c Config, password string) error {
	auth := "scram-sha-256"
	if c.Trust {
		auth = "trust"
	}
	pwfile := filepath.Join(p.dir, "pw")
	if err := os.WriteFile(pwfile, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(pwfile) }()
	if err := acct.give(pwfile); err != nil {
		return err
	}
	args := append([]string{"-D", p.data, "-U", Superuser, "--auth=" + auth, "--pwfile=" + pwfile,
		"--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"}, c.InitArgs...)
	cmd := exec.CommandContext(ctx, filepath.Join(b.Dir, "initdb"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(sigSmart) } // it ends its children
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir, cmd.Env = p.dir, serverEnv(p)
	cmd.SysProcAttr = detached(acct)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, tail(out.String(), 3))
	}
	return nil
}

// tail joins the last lines of a text into one.
func tail(text string, n int) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "; ")
}
