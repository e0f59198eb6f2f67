package pgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// orphanAge is how long a directory without a lock is taken for one in the making.
const orphanAge = time.Hour

var errInUse = errors.New("the owner lives")

// Sweep stops the servers and removes the temporary directories of processes that have
// died without doing so, and whose guards were killed too. It touches nothing of a living
// process, nor of another user. It blocks until the servers have ended. What it could not
// remove is in the error; the rest is removed all the same.
func Sweep() error {
	var errs []error
	for _, base := range tempBases() {
		dirs, err := filepath.Glob(filepath.Join(base, dirPattern))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if err := sweepDir(dir); err != nil {
				errs = append(errs, fmt.Errorf("sweep %s: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}

func sweepDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !slices.Contains(sweepable(), ownerOf(info)) {
		return nil // gone meanwhile, or not ours
	}
	lock, err := takeOver(dir)
	switch {
	case errors.Is(err, os.ErrNotExist) && time.Since(info.ModTime()) > orphanAge:
		return os.RemoveAll(dir) // its owner died before it had a server
	case errors.Is(err, os.ErrNotExist), errors.Is(err, errInUse):
		return nil // in the making or being removed; in use
	case err != nil:
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := endServer(dir, ownerOf(info)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// sweepable are the users whose directories a Start of ours can have made.
func sweepable() []int {
	users := []int{os.Geteuid()}
	if os.Geteuid() == 0 {
		for _, a := range unprivileged() {
			users = append(users, int(a.uid))
		}
	}
	return users
}

// endServer stops the server that runs in dir, if one does.
func endServer(dir string, uid int) error {
	data := newPaths(dir).data
	pid := writtenPID(data)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for ; serves(pid, data, uid); <-tick.C {
		sig := sigImmediate
		if waited := time.Since(began); waited > time.Minute {
			return fmt.Errorf("postgres %d does not end", pid)
		} else if waited > 30*time.Second {
			sig = sigKill
		}
		if err := killPID(pid, sig); err != nil && !errors.Is(err, os.ErrProcessDone) && serves(pid, data, uid) {
			return err
		}
	}
	return nil
}

// writtenPID is what postmaster.pid says, 0 where there is no server. The file is the
// server's user's, so only its beginning is read.
func writtenPID(data string) int {
	f, err := openForeign(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0
	}
	return pid // initdb's single-user server has a negative one
}

// serves reports whether pid is a server on data that runs as uid. The id may have passed
// to another process since it was written, or may have been written to harm one.
func serves(pid int, data string, uid int) bool {
	if pid <= 1 || processOwner(pid) != uid {
		return false
	}
	args := commandLine(pid)
	i := slices.Index(args, "-D")
	return i >= 0 && i+1 < len(args) && args[i+1] == data
}
