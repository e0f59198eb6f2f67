package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoServer is returned by Find when this machine has no usable Postgres server and
// none could be fetched. The error that wraps it says what to install.
var ErrNoServer = errors.New("no Postgres server programs found")

const (
	// EnvBin names a directory with initdb, pg_ctl and postgres; it overrides the search.
	EnvBin = "LOCKSTEP_PG_BIN"
	// EnvRepository overrides the address that server programs are fetched from.
	EnvRepository = "LOCKSTEP_PG_REPOSITORY"

	// oldest is the oldest server that lockstep supports, as server_version_num.
	oldest = 140000
)

var programs = []string{"initdb", "pg_ctl", "postgres"}

// Options tells Find where to look. The zero value is right for almost everyone.
type Options struct {
	// CacheDir holds fetched programs, and must be readable by the user that the server
	// runs as. Default: lockstep under os.UserCacheDir; as root, /var/cache/lockstep,
	// because root's own cache is closed to the user that the server runs as.
	CacheDir string
	// Repository is the address of a Maven repository that holds
	// io.zonky.test.postgres binaries. Default: $LOCKSTEP_PG_REPOSITORY, else Maven Central.
	Repository string
	// FetchVersion is the version to fetch, such as "18.3.0". Default: the newest that
	// the fetching library knows.
	FetchVersion string
	// NoFetch keeps Find off the network.
	NoFetch bool

	// places are glob patterns for directories of programs; nil means the usual ones.
	places []string
}

// Binaries are the programs of one Postgres server.
type Binaries struct {
	// Dir holds initdb, pg_ctl and postgres.
	Dir string
	// Version is the server's version as server_version_num has it: 150018 for 15.18.
	Version int
	// Source says how Dir was found, for messages: "PATH", "pg_config", ...
	Source string
}

// Find looks for the programs of a Postgres server, version 14 or later: in the directory
// that $LOCKSTEP_PG_BIN names and then nowhere else, on PATH, where pg_config says, where
// Debian, Fedora and Homebrew put them, and last in the cache of fetched programs, which
// it fills from the network if it must. It runs `postgres -V` on what it finds. The error
// wraps ErrNoServer, or says what is wrong with $LOCKSTEP_PG_BIN.
func Find(ctx context.Context, opts Options) (Binaries, error) {
	if dir := os.Getenv(EnvBin); dir != "" {
		b, err := examine(ctx, dir, EnvBin)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s: %w", EnvBin, err)
		}
		return b, nil
	}
	var rejected []error
	for _, c := range installed(ctx, opts.places) {
		b, err := examine(ctx, c.dir, c.source)
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return Binaries{}, ctx.Err()
		}
		rejected = append(rejected, fmt.Errorf("%s: %w", c.source, err))
	}
	b, err := fetched(ctx, opts)
	if err == nil {
		return b, nil
	}
	if ctx.Err() != nil {
		return Binaries{}, ctx.Err()
	}
	return Binaries{}, notFound(append(rejected, err))
}

// examine accepts dir if it has all programs and a version that lockstep supports.
func examine(ctx context.Context, dir, source string) (Binaries, error) {
	if err := complete(dir); err != nil {
		return Binaries{}, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	version, err := serverVersion(ctx, abs)
	if err != nil {
		return Binaries{}, err
	}
	if version < oldest {
		return Binaries{}, fmt.Errorf("%s has Postgres %d.%d; 14 or later is needed", dir, version/10000, version%10000)
	}
	return Binaries{Dir: abs, Version: version, Source: source}, nil
}

// complete names what dir lacks.
func complete(dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a directory; it must be the one that holds %s", dir, strings.Join(programs, ", "))
	}
	var missing []string
	for _, p := range programs {
		info, err := os.Stat(filepath.Join(dir, p))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s lacks %s", dir, strings.Join(missing, ", "))
	}
	return nil
}

func notFound(causes []error) error {
	texts := make([]string, len(causes))
	for i, err := range causes {
		texts[i] = oneLine(err)
	}
	slices.Sort(texts)
	return fmt.Errorf("%w: install one (Debian, Ubuntu: apt install postgresql; Fedora: dnf install postgresql-server;"+
		" macOS: brew install postgresql) or set %s to the directory of its programs (tried: %s)",
		ErrNoServer, EnvBin, strings.Join(slices.Compact(texts), "; "))
}

// oneLine keeps the first line of an error: some libraries append a whole log.
func oneLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return line
}

// candidate is a directory that may hold the programs.
type candidate struct{ dir, source string }

// installed lists the directories of installed servers, best first.
func installed(ctx context.Context, places []string) []candidate {
	var found []candidate
	if path, err := exec.LookPath("postgres"); err == nil {
		// A link leads to the directory that has the rest; a wrapper stands beside them.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			found = append(found, candidate{filepath.Dir(real), "PATH"})
		}
		found = append(found, candidate{filepath.Dir(path), "PATH"})
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		found = append(found, candidate{strings.TrimSpace(string(out)), "pg_config"})
	}
	if places == nil {
		places = usualPlaces
	}
	for _, pattern := range places {
		for _, dir := range newestFirst(pattern) {
			if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
				found = append(found, candidate{dir, "usual place"})
			}
		}
	}
	return found
}
