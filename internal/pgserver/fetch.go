package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const mavenCentral = "https://repo1.maven.org/maven2"

// fetched returns the programs in the cache, and fills it if it must.
func fetched(ctx context.Context, opts Options) (Binaries, error) {
	cache, err := cacheDir(opts)
	if err != nil {
		return Binaries{}, err
	}
	version := cmp.Or(opts.FetchVersion, string(embeddedpostgres.V18))
	home := filepath.Join(cache, "postgres-"+version)
	if b, err := examine(ctx, filepath.Join(home, "bin"), "cache"); err == nil {
		return b, nil
	}
	if opts.NoFetch {
		return Binaries{}, errors.New("fetch: not allowed")
	}
	repository := cmp.Or(opts.Repository, os.Getenv(EnvRepository), mavenCentral)
	if err := fetch(ctx, repository, version, cache, home); err != nil {
		return Binaries{}, fmt.Errorf("fetch from %s: %w", repository, err)
	}
	return examine(ctx, filepath.Join(home, "bin"), "fetched")
}

func cacheDir(opts Options) (string, error) {
	if opts.CacheDir != "" {
		return filepath.Abs(opts.CacheDir)
	}
	if os.Geteuid() == 0 {
		return "/var/cache/lockstep", nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("fetch: no cache directory: %w", err)
	}
	return filepath.Join(base, "lockstep"), nil
}

// fetch downloads and unpacks beside home and moves the result there in one step, so that
// an interrupted fetch, or two at once, never leave half a server. The library cannot be
// interrupted: when ctx ends, it finishes behind our back and its work is removed then.
func fetch(ctx context.Context, repository, version, cache, home string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	removeOldWork(cache)
	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return err
	}
	finished := make(chan error, 1)
	go func() {
		err := unpack(repository, version, work)
		if err == nil && ctx.Err() == nil {
			err = install(filepath.Join(work, "server"), home)
		}
		_ = os.RemoveAll(work)
		finished <- err
	}()
	select {
	case err := <-finished:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// removeOldWork removes what fetches left that were killed.
func removeOldWork(cache string) {
	dirs, err := filepath.Glob(filepath.Join(cache, "fetch-*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(dir)
		}
	}
}

// unpack makes the library fetch the programs into work/server. The library knows only
// how to start a server, not how to stop before that; so it is given a data directory
// that holds nothing to start. It fails at that, and what counts is what it has unpacked.
func unpack(repository, version, work string) error {
	major, _, _ := strings.Cut(version, ".")
	data := filepath.Join(work, "nothing")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	server := filepath.Join(work, "server")
	fetching.Lock()
	defer fetching.Unlock()
	before := libraryLogs()
	library := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(embeddedpostgres.PostgresVersion(version)).
		BinaryRepositoryURL(repository).
		CachePath(filepath.Join(work, "archive")).
		RuntimePath(filepath.Join(work, "run")).
		BinariesPath(server).
		DataPath(data).
		Port(uint32(port)).
		StartTimeout(time.Second).
		Logger(io.Discard))
	err = library.Start()
	removeOpenLogs(before)
	runtime.KeepAlive(library) // it must not close its log before that
	bin := filepath.Join(server, "bin")
	if _, none := os.Stat(bin); none != nil && err != nil {
		return errors.New(oneLine(err)) // it got that far and no further
	}
	return complete(bin)
}

// install opens the files to the server's user, whatever our umask, and moves them home.
func install(server, home string) error {
	err := filepath.WalkDir(server, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		return err
	}
	if complete(filepath.Join(home, "bin")) == nil {
		return nil // somebody else was faster
	}
	// It is moved here whole or not at all: what is incomplete, somebody has spoilt.
	if err := os.RemoveAll(home); err != nil {
		return err
	}
	err = os.Rename(server, home)
	if err != nil && complete(filepath.Join(home, "bin")) == nil {
		return nil
	}
	return err
}

// fetching is held while the library runs: it does one thing at a time anyhow, and its
// logs can be told from each other only so.
var fetching sync.Mutex

// libraryLogs lists the log files that the library makes in the temp directory and never
// removes.
func libraryLogs() []string {
	logs, err := filepath.Glob(filepath.Join(os.TempDir(), "embedded_postgres_log*"))
	if err != nil {
		return nil
	}
	return logs
}

// removeOpenLogs removes those that are new and that this process holds open: other
// programs use the library too.
func removeOpenLogs(before []string) {
	for _, path := range libraryLogs() {
		if info, err := os.Stat(path); err == nil && !slices.Contains(before, path) && holdsOpen(info) {
			_ = os.Remove(path)
		}
	}
}

// freePort returns a TCP port of 127.0.0.1 that nobody listened on a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
