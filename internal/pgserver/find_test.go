package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script writes an executable shell script.
func script(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// fakeServer makes a directory of programs that claim to be of a version.
func fakeServer(t *testing.T, dir, version string) string {
	t.Helper()
	for _, p := range programs {
		script(t, filepath.Join(dir, p), "echo 'postgres (PostgreSQL) "+version+"'")
	}
	return dir
}

// bareMachine is one without any server: an empty PATH, no usual places, no network.
func bareMachine(t *testing.T) (Options, string) {
	t.Helper()
	path := t.TempDir()
	t.Setenv("PATH", path)
	t.Setenv(EnvBin, "")
	t.Setenv(EnvRepository, "")
	return Options{places: []string{}, CacheDir: t.TempDir(), NoFetch: true}, path
}

func mustFind(t *testing.T, opts Options, dir, source string, version int) {
	t.Helper()
	b, err := Find(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Binaries{Dir: dir, Version: version, Source: source}); b != want {
		t.Errorf("found %+v, want %+v", b, want)
	}
}

func TestFindTakesTheDirectoryThatTheEnvironmentNames(t *testing.T) {
	opts, path := bareMachine(t)
	fakeServer(t, path, "18.1")
	named := fakeServer(t, filepath.Join(t.TempDir(), "bin"), "16.2")
	t.Setenv(EnvBin, named)
	mustFind(t, opts, named, EnvBin, 160002)
}

func TestFindSaysInOneLineWhatIsWrongWithTheNamedDirectory(t *testing.T) {
	opts, path := bareMachine(t)
	fakeServer(t, path, "18.1") // must not be fallen back to
	lacking := fakeServer(t, t.TempDir(), "16.2")
	if err := os.Remove(filepath.Join(lacking, "initdb")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(lacking, "pg_ctl"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dir, says string }{
		"missing":       {"/no/such/place", "/no/such/place is not a directory"},
		"a file":        {filepath.Join(lacking, "postgres"), "is not a directory"},
		"lacks some":    {lacking, lacking + " lacks initdb, pg_ctl"},
		"too old":       {fakeServer(t, t.TempDir(), "13.9"), "has Postgres 13.9; 14 or later is needed"},
		"not a version": {fakeServer(t, t.TempDir(), "of sorts"), "not a Postgres version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(EnvBin, c.dir)
			_, err := Find(t.Context(), opts)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), EnvBin+": ") || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line from %s with %q", err, EnvBin, c.says)
			}
		})
	}
}

func TestFindFollowsALinkOnPathToTheDirectoryOfTheRest(t *testing.T) {
	opts, path := bareMachine(t)
	real := fakeServer(t, filepath.Join(realDir(t), "bin"), "15.18")
	if err := os.Symlink(filepath.Join(real, "postgres"), filepath.Join(path, "postgres")); err != nil {
		t.Fatal(err)
	}
	mustFind(t, opts, real, "PATH", 150018)
}

func TestFindTakesAWrapperOnPathWithTheRestBesideIt(t *testing.T) {
	opts, path := bareMachine(t)
	elsewhere := filepath.Join(realDir(t), "wrapper")
	script(t, elsewhere, "echo 'postgres (PostgreSQL) 17.3'")
	fakeServer(t, path, "17.3")
	if err := os.Remove(filepath.Join(path, "postgres")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(path, "postgres")); err != nil {
		t.Fatal(err)
	}
	mustFind(t, opts, path, "PATH", 170003)
}

func TestFindAsksPgConfig(t *testing.T) {
	opts, path := bareMachine(t)
	real := fakeServer(t, filepath.Join(t.TempDir(), "bin"), "14.7")
	script(t, filepath.Join(path, "pg_config"), fmt.Sprintf("[ \"$1\" = --bindir ] && echo '%s'", real))
	mustFind(t, opts, real, "pg_config", 140007)
}

func TestFindTakesTheNewestOfTheUsualPlaces(t *testing.T) {
	opts, _ := bareMachine(t)
	root := t.TempDir()
	for _, major := range []string{"9", "14", "18", "16"} {
		fakeServer(t, filepath.Join(root, major, "bin"), major+".1")
	}
	opts.places = []string{filepath.Join(root, "*", "bin")}
	mustFind(t, opts, filepath.Join(root, "18", "bin"), "usual place", 180001)
}

func TestFindPassesOverServersThatAreTooOldOrIncomplete(t *testing.T) {
	opts, path := bareMachine(t)
	fakeServer(t, path, "13.20")
	root := t.TempDir()
	lacking := fakeServer(t, filepath.Join(root, "18", "bin"), "18.1")
	if err := os.Remove(filepath.Join(lacking, "initdb")); err != nil {
		t.Fatal(err)
	}
	good := fakeServer(t, filepath.Join(root, "15", "bin"), "15.1")
	opts.places = []string{filepath.Join(root, "*", "bin")}
	mustFind(t, opts, good, "usual place", 150001)
}

func TestFindSaysWhatToInstallWhereThereIsNothing(t *testing.T) {
	opts, _ := bareMachine(t)
	_, err := Find(t.Context(), opts)
	if !errors.Is(err, ErrNoServer) {
		t.Fatalf("error %v, want ErrNoServer", err)
	}
	for _, want := range []string{"apt install postgresql", "dnf install postgresql-server", "brew install postgresql", EnvBin} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %v", err)
	}
}

// realDir is a temporary directory by its real name: macOS puts them behind a link.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
