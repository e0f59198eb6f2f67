package robust

import "syscall"

// endsWithParent makes the kernel end a node whose test process has died.
func endsWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
