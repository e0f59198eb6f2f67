package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Sweep stops the servers and removes the temporary directories of processes that have
// died without doing so, and whose guards were killed too. It touches nothing of a living
// process, nor of another user. It blocks until the servers have ended.
func Sweep() error {
	var errs []error
	for _, base := range tempBases() {
		dirs, err := filepath.Glob(filepath.Join(base, dirPattern))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			errs = append(errs, sweepDir(dir))
		}
	}
	return errors.Join(errs...)
}

func sweepDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !ownedByUs(info) {
		return nil // gone meanwhile, or not ours
	}
	lock, err := abandoned(dir)
	if errors.Is(err, os.ErrNotExist) && time.Since(info.ModTime()) > orphanAge {
		return os.RemoveAll(dir) // its owner died before it had a server
	}
	if err != nil || lock == nil {
		return nil //nolint:nilerr // in the making, being removed, or in use
	}
	defer func() { _ = lock.Close() }()
	if err := endServer(dir, info); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// endServer stops the server that runs in dir, if one does.
func endServer(dir string, info os.FileInfo) error {
	data := newPaths(dir).data
	raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil //nolint:nilerr // no server
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return nil //nolint:nilerr // a single-user server of initdb, or nonsense
	}
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for sig := sigImmediate; serves(pid, data, info); <-tick.C {
		if time.Now().After(deadline) {
			sig = sigKill
		}
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// serves reports whether pid is a server on data: the id may have passed to another
// process since it was written down.
func serves(pid int, data string, _ os.FileInfo) bool {
	return slices.Contains(commandLine(pid), data)
}
