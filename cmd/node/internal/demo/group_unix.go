//go:build unix

package demo

import (
	"os/exec"
	"syscall"
)

// newGroup keeps a terminal's Ctrl-C from the node processes: the demo ends
// them itself, when it has asked them its last question.
func newGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
