package pgserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var jarPath = regexp.MustCompile(`^/maven2/io/zonky/test/postgres/embedded-postgres-binaries-([a-z0-9-]+)/18\.1\.0/embedded-postgres-binaries-([a-z0-9-]+)-18\.1\.0\.jar(\.sha256)?$`)

// repository serves one archive as a Maven repository does.
type repository struct {
	*httptest.Server
	jar  []byte
	sum  string
	gets atomic.Int32 // of the archive
}

func newRepository(t *testing.T, files map[string]string) *repository {
	t.Helper()
	r := &repository{jar: jar(t, files)}
	sum := sha256.Sum256(r.jar)
	r.sum = hex.EncodeToString(sum[:])
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		m := jarPath.FindStringSubmatch(req.URL.Path)
		switch {
		case m == nil || m[1] != m[2]:
			http.NotFound(w, req)
		case m[3] != "":
			_, _ = w.Write([]byte(r.sum))
		default:
			r.gets.Add(1)
			_, _ = w.Write(r.jar)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// serverFiles are the programs of a fetched server; each runs the installed one, where
// this machine has one, so that what was fetched can also be started.
func serverFiles(real string) map[string]string {
	files := map[string]string{"share/postgresql/postgres.bki": strings.Repeat("# filler\n", 20000)}
	for _, p := range programs {
		files["bin/"+p] = "#!/bin/sh\nexec " + filepath.Join(real, p) + " \"$@\"\n"
	}
	return files
}

// networkMachine has no server but may fetch one. It checks that no fetch leaves anything
// but the server itself.
func networkMachine(t *testing.T) Options {
	t.Helper()
	opts, _ := bareMachine(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	opts.NoFetch, opts.FetchVersion = false, "18.1.0"
	t.Cleanup(func() {
		left, err := filepath.Glob(filepath.Join(opts.CacheDir, "fetch-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("work of a fetch is left: %v, %v", left, err)
		}
		if logs, err := os.ReadDir(temp); err != nil || len(logs) > 0 {
			t.Errorf("files are left in the temp directory: %v, %v", logs, err)
		}
	})
	return opts
}

func TestFindFetchesAServerThatRuns(t *testing.T) {
	real, err := Find(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRepository(t, serverFiles(real.Dir))
	opts := networkMachine(t)
	opts.CacheDir = openDirFor(t)
	opts.Repository = r.URL + "/maven2"
	b, err := Find(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(opts.CacheDir, "postgres-18.1.0", "bin"); b.Dir != want || b.Source != "fetched" {
		t.Errorf("found %+v, want those fetched into %s", b, want)
	}
	s, err := Start(t.Context(), Config{Binaries: b})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(Fast); err != nil {
		t.Error(err)
	}
}

func TestFindFetchesOnce(t *testing.T) {
	r := newRepository(t, fakeFiles())
	opts := networkMachine(t)
	t.Setenv(EnvRepository, r.URL+"/maven2")
	for _, source := range []string{"fetched", "cache", "cache"} {
		b, err := Find(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if b.Source != source || b.Version != 180001 {
			t.Errorf("found %+v, want version 180001 from %s", b, source)
		}
	}
	if n := r.gets.Load(); n != 1 {
		t.Errorf("the archive was fetched %d times", n)
	}
}

func TestManyMayFetchAtOnce(t *testing.T) {
	r := newRepository(t, fakeFiles())
	opts := networkMachine(t)
	opts.Repository = r.URL + "/maven2"
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := Find(t.Context(), opts); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAFetchThatFailsSaysWhyAndWhatToInstall(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*repository, *Options)
		says  string
	}{
		"nobody there":    {func(r *repository, _ *Options) { r.Close() }, "unable to connect to http://127.0.0.1"},
		"no such version": {func(_ *repository, o *Options) { o.FetchVersion = "18.9.0" }, "no version found matching 18.9.0"},
		"wrong checksum":  {func(r *repository, _ *Options) { r.sum = strings.Repeat("0", 64) }, "checksums do not match"},
		"not an archive":  {func(r *repository, _ *Options) { r.setJar([]byte("<html>sign in</html>")) }, "not a valid zip file"},
		"lacks programs": {func(r *repository, _ *Options) {
			r.setJar(jar(t, map[string]string{"bin/postgres": "", "bin/pg_ctl": ""}))
		}, "lacks initdb"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t, fakeFiles())
			opts := networkMachine(t)
			opts.Repository = r.URL + "/maven2"
			c.spoil(r, &opts)
			_, err := Find(t.Context(), opts)
			if !errors.Is(err, ErrNoServer) {
				t.Fatalf("error %v, want ErrNoServer", err)
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, c.says)
			}
		})
	}
}

func TestAFetchEndsWithItsContext(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-answer
	}))
	opts, _ := bareMachine(t)
	opts.NoFetch, opts.Repository = false, slow.URL
	ctx, cancel := context.WithCancel(t.Context())
	found := make(chan error, 1)
	go func() {
		_, err := Find(ctx, opts)
		found <- err
	}()
	<-asked
	cancel()
	if err := <-found; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	close(answer)
	slow.Close()
	awaitTrue(t, "the fetch removes its work", func() bool {
		left, err := filepath.Glob(filepath.Join(opts.CacheDir, "fetch-*"))
		return err == nil && len(left) == 0
	})
}

func (r *repository) setJar(body []byte) {
	sum := sha256.Sum256(body)
	r.jar, r.sum = body, hex.EncodeToString(sum[:])
}

// fakeFiles are programs that only tell their version.
func fakeFiles() map[string]string {
	fails := "#!/bin/sh\necho 'cannot be run as root' >&2\nexit 1\n"
	return map[string]string{
		"bin/postgres": "#!/bin/sh\necho 'postgres (PostgreSQL) 18.1'\n", "bin/initdb": fails, "bin/pg_ctl": fails,
	}
}
