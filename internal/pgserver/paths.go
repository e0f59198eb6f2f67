package pgserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	lockName = "owner.lock"
	// dirPattern makes the names by which Sweep knows our temporary directories.
	dirPattern = "lockstep-pg-*"
	// socketLimit is what the shortest sockaddr_un (macOS: 104 bytes) leaves for a
	// directory, after "/.s.PGSQL.65535" and the ending zero.
	socketLimit = 104 - len("/.s.PGSQL.65535") - 1
)

// paths are the places of one cluster.
type paths struct {
	dir    string // what the guard and Sweep remove
	data   string
	socket string // "" where the path would be too long for a socket
	log    string
}

func newPaths(dir string) paths {
	p := paths{dir: dir, data: filepath.Join(dir, "data"), socket: filepath.Join(dir, "s"), log: filepath.Join(dir, "log")}
	if len(p.socket) > socketLimit {
		p.socket = ""
	}
	return p
}

// owner is what the lock file says, for people: the lock itself is what counts.
type owner struct {
	PID     int       `json:"pid"`
	Program string    `json:"program"`
	Started time.Time `json:"started"`
}

// makeDir creates the cluster's directory and locks it for this process.
func makeDir(given string, acct account) (paths, *os.File, error) {
	dir, err := openDir(given, acct)
	if err != nil {
		return paths{}, nil, err
	}
	p := newPaths(dir)
	lock, err := fillDir(p, acct)
	if err != nil {
		if given == "" {
			_ = os.RemoveAll(dir)
		}
		return paths{}, nil, err
	}
	return p, lock, nil
}

func fillDir(p paths, acct account) (*os.File, error) {
	program, _ := os.Executable() // for people only
	mark, err := json.Marshal(owner{PID: os.Getpid(), Program: program, Started: time.Now()})
	if err != nil {
		return nil, err
	}
	lock, err := claim(p.dir, append(mark, '\n'))
	if err != nil {
		return nil, err
	}
	made := []string{p.dir, p.data}
	err = os.Mkdir(p.data, 0o700)
	if p.socket != "" {
		made = append(made, p.socket)
		err = errors.Join(err, os.Mkdir(p.socket, 0o700))
	}
	err = errors.Join(err, os.Chmod(p.dir, 0o700), acct.give(made...))
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// openDir returns an empty directory that the server's user can reach, its name free of
// links, because it is compared with what processes say.
func openDir(given string, acct account) (string, error) {
	if given != "" {
		return openGiven(given, acct)
	}
	var errs []error
	for _, base := range tempBases() {
		if err := acct.canCleanUpIn(base); err != nil {
			errs = append(errs, err)
			continue
		}
		dir, err := os.MkdirTemp(base, dirPattern)
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("no temporary directory for a server: %w", errors.Join(errs...))
}

func openGiven(given string, acct account) (string, error) {
	if err := os.MkdirAll(given, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(given)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("directory for a server is not empty: %s", dir)
	}
	return dir, acct.canReach(filepath.Dir(dir))
}

// tempBases are the directories to put a server in, best first: the usual one may have a
// name too long for sockets, or be closed to the server's user.
func tempBases() []string {
	var short, long, seen []string
	for _, base := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		real, err := filepath.EvalSymlinks(base)
		if err != nil || slices.Contains(seen, real) {
			continue
		}
		seen = append(seen, real)
		if newPaths(filepath.Join(real, "lockstep-pg-1234567890")).socket == "" {
			long = append(long, real)
		} else {
			short = append(short, real)
		}
	}
	return append(short, long...)
}
