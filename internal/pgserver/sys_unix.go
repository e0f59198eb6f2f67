//go:build unix

package pgserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	sigSmart     = syscall.SIGTERM
	sigFast      = syscall.SIGINT
	sigImmediate = syscall.SIGQUIT
	sigKill      = syscall.SIGKILL
	sigFreeze    = syscall.SIGSTOP
)

// detached runs a program as the server's user in a session of its own, so that Ctrl-C on
// the owner's terminal reaches only the owner.
func detached(a account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a.switched {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// ownerOf returns the user id that owns a file, -1 where that is not known.
func ownerOf(info os.FileInfo) int {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int(st.Uid)
}

// claim creates the lock file of a new server directory. It gets its final name only once
// it is locked: whoever finds it unlocked knows that its owner is dead.
func claim(dir string, content []byte) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName+".new"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if _, err := f.Write(content); err != nil {
		_ = f.Close()
		return nil, err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, lockName)); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// takeOver locks the directory of an owner who is dead; the error is errInUse while he
// lives.
func takeOver(dir string) (*os.File, error) {
	f, err := openForeign(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, errInUse
	}
	return f, nil
}

// openForeign reads a file in a directory whose user we do not trust: no link is followed
// and no FIFO waited for.
func openForeign(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

func killPID(pid int, sig syscall.Signal) error { return syscall.Kill(pid, sig) }

// holdsOpen reports whether this process has a file open.
func holdsOpen(info os.FileInfo) bool {
	want, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	fds, err := os.ReadDir("/dev/fd")
	if err != nil {
		return false
	}
	for _, entry := range fds {
		var st syscall.Stat_t
		fd, err := strconv.Atoi(entry.Name())
		if err == nil && syscall.Fstat(fd, &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino {
			return true
		}
	}
	return false
}
