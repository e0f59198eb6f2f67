//go:build unix && !linux

package robust

import "syscall"

// endsWithParent: here a node notices that its input has ended.
func endsWithParent() *syscall.SysProcAttr { return nil }
