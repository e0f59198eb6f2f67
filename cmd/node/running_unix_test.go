//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// endLimit is how long a demo may take to end once it has been told to.
const endLimit = 20 * time.Second

// running is a demo in a process group of its own, as a shell starts it.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   *bufio.Reader
	pipe  *os.File // what out reads
	limit *time.Timer
	said  strings.Builder
}

func startDemo(t *testing.T, tmp string, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(binary, append([]string{"demo"}, args...)...)}
	r.cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Not StdoutPipe, which Wait would close under the reader.
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr, r.out, r.pipe = out, out, bufio.NewReader(in), in
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close() // the demo has it
	r.limit = time.AfterFunc(time.Minute, func() { _ = r.cmd.Process.Kill() })
	t.Cleanup(func() {
		r.limit.Stop()
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
	r.limit.Reset(endLimit)
}

// leave closes what the demo writes to, as head does.
func (r *running) leave() {
	r.t.Helper()
	if err := r.pipe.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.limit.Reset(endLimit)
}

// kill is kill -9 of the demo's own process.
func (r *running) kill() {
	r.t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	_ = r.cmd.Wait() // it was killed
}

// end waits for the demo's end and returns its exit status and all it said.
// The status is -1 if it was killed, which it is when it takes too long.
func (r *running) end() (int, string) {
	r.t.Helper()
	rest, err := io.ReadAll(r.out)
	r.said.Write(rest)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		r.t.Fatal(err)
	}
	_ = r.cmd.Wait() // the status says it
	return r.cmd.ProcessState.ExitCode(), r.said.String()
}

// process is one that a demo has started, or the demo itself.
type process struct {
	pid  int
	line string
}

// processes are those that belong to the demos with this directory for their
// files; none where there is no /proc. Most show it in their environment; a
// session of Postgres, which overwrites that, works in it.
func processes(t *testing.T, tmp string) (found []process) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range all {
		env, _ := os.ReadFile(filepath.Join(proc, "environ")) // it has ended, or is not ours
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		if !bytes.Contains(append([]byte{0}, env...), []byte("\x00TMPDIR="+tmp+"\x00")) && !strings.HasPrefix(cwd, tmp+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil {
			t.Fatal(err)
		}
		line, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		found = append(found, process{pid, strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))})
	}
	return found
}

// files are what demos have in their directory.
func files(t *testing.T, tmp string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(tmp, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// mustWork is what makes wantNothing show something: the demo's files are where
// that looks, and it sees every kind of process that a demo has.
func mustWork(t *testing.T, tmp string, kinds ...string) (found []process) {
	t.Helper()
	found = processes(t, tmp)
	if len(files(t, tmp)) == 0 {
		t.Fatalf("a demo that runs has no files in %s", tmp)
	}
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		return found
	}
	for _, kind := range kinds {
		if pidOf(found, kind) == 0 {
			t.Fatalf("a demo that runs has no process %q in %+v", kind, found)
		}
	}
	return found
}

// pidOf is the first process of a kind, 0 for none.
func pidOf(all []process, kind string) int {
	for _, p := range all {
		if strings.Contains(p.line, kind) {
			return p.pid
		}
	}
	return 0
}

// wantNothing checks that a demo that has ended has left neither a process nor
// a file: it waits for all of them before it ends.
func wantNothing(t *testing.T, tmp string) {
	t.Helper()
	if f, p := files(t, tmp), processes(t, tmp); len(f)+len(p) > 0 {
		t.Errorf("left behind: files %q, processes %+v", f, p)
	}
}

// awaitNothing is for a demo that was killed: what it had started ends by
// itself, and nobody tells when.
func awaitNothing(t *testing.T, tmp string) {
	t.Helper()
	poll(t, func() bool { return len(files(t, tmp))+len(processes(t, tmp)) == 0 })
	wantNothing(t, tmp)
}

// poll waits until something is so, or for long enough.
func poll(t *testing.T, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), endLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
