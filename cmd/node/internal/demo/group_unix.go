//go:build unix

package demo

import (
	"errors"
	"os/exec"
	"syscall"
)

// newGroup keeps a terminal's Ctrl-C from the node processes: the demo ends
// them itself, when it has asked them its last question.
func newGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// interrupted reports whether a child has ended by Ctrl-C: one that comes between its fork and its own group, or session, reaches
// it as well as us, and we may see its end first.
func interrupted(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGINT
}
