package pgserver

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed guard.sh
var guardScript string

const guardName = "guard.sh"

// guard is the process that cleans up behind an owner that did not.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// startGuard runs the guard as the server's user, who may end the server and remove its
// files and nothing else.
func startGuard(acct account, p paths, remove bool) (*guard, error) {
	end := "keep"
	if remove {
		end = "remove"
	}
	script := filepath.Join(p.dir, guardName) // as an argument it would fill the process list
	err := os.WriteFile(script, []byte(guardScript), 0o644)
	if err == nil {
		err = acct.give(script)
	}
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	cmd := exec.Command("/bin/sh", script, p.dir, p.data, end)
	cmd.Dir = "/"
	cmd.SysProcAttr = detached(acct)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	return &guard{cmd: cmd, pipe: pipe}, nil
}

// tell passes on the postmaster's process id, 0 when there is none. A guard that was
// killed cannot be told; Sweep is there for that.
func (g *guard) tell(pid int) {
	if pid == 0 {
		_, _ = io.WriteString(g.pipe, "pid\n")
		return
	}
	_, _ = fmt.Fprintf(g.pipe, "pid %d\n", pid)
}

// release lets the guard go without doing anything.
func (g *guard) release() {
	_, _ = io.WriteString(g.pipe, "done\n")
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}
