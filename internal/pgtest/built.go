package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// programs are those that Built has built, by the arguments of go build.
var programs struct {
	mu    sync.Mutex
	dir   string
	paths map[string]string
}

// Built builds a command and returns the program's path. It is built once for a package run, whatever number of
// tests ask for it: the build cache does not spare the linking, which takes longer than most tests. args
// are further arguments of go build. The program is everybody's, and goes with Main.
func Built(tb testing.TB, folder string, args ...string) string {
	tb.Helper()
	programs.mu.Lock()
	defer programs.mu.Unlock()
	key := strings.Join(append(slices.Clone(args), folder), "\x00")
	if path, ok := programs.paths[key]; ok {
		return path
	}
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "lockstep-built-")
		if err != nil {
			tb.Fatalf("pgtest: %v", err)
		}
		programs.dir, programs.paths = dir, map[string]string{}
	}
	abs, err := filepath.Abs(folder)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	into, err := os.MkdirTemp(programs.dir, "")
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	path := filepath.Join(into, filepath.Base(abs))
	build := exec.CommandContext(tb.Context(), "go", slices.Concat([]string{"build", "-ldflags=-w", "-o", path}, args, []string{folder})...)
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("pgtest: go build %s: %v\n%s", folder, err, out)
	}
	programs.paths[key] = path
	return path
}

// dropPrograms is for the end of a run.
func dropPrograms() error {
	if programs.dir == "" {
		return nil
	}
	return os.RemoveAll(programs.dir)
}
