package appsql

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// testProgram is one of Postgres' own test programs, which stand beside the files for building extensions.
func testProgram(t *testing.T, name string) string {
	t.Helper()
	s := pgtest.Server(t)
	major := s.Version() / 10000
	places := []string{fmt.Sprintf("/usr/lib/postgresql/%d/lib/pgxs/src/test", major), fmt.Sprintf("/usr/pgsql-%d/lib/pgxs/src/test", major)}
	config := filepath.Join(s.Binaries().Dir, "pg_config")
	if out, err := exec.CommandContext(t.Context(), config, "--pgxs").Output(); err == nil {
		// .../pgxs/src/makefiles/pgxs.mk
		places = append([]string{filepath.Join(filepath.Dir(filepath.Dir(strings.TrimSpace(string(out)))), "test")}, places...)
	}
	for _, place := range places {
		if path := filepath.Join(place, name); exists(path) {
			return path
		}
	}
	t.Skipf("not run: no %s for server %d in %s: install the server's development files (Debian: apt install postgresql-server-dev-%d or postgresql-%d)",
		name, major, strings.Join(places, ", "), major, major)
	return ""
}

// conninfo is a database's address as libpq's programs take it in one word.
func conninfo(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	u, err := url.Parse(db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s", u.Hostname(), u.Port(), u.User.Username(), password, db.Name)
}

// Postgres' own isolation tester, with specifications of ours: sessions that race for rows see and wait for the
// same, whichever the order of their steps.
func TestIsolationtesterSeesNoDifference(t *testing.T) {
	tester := testProgram(t, "isolation/isolationtester")
	specs, err := filepath.Glob("isolation/*.spec")
	if err != nil || len(specs) == 0 {
		t.Fatal("no specifications", err)
	}
	tables, err := os.ReadFile("isolation/tables.sql")
	if err != nil {
		t.Fatal(err)
	}
	plain, captured := pgtest.New(t), pgtest.New(t)
	for _, db := range []*pgtest.DB{plain, captured} {
		db.Exec(t, string(tables))
	}
	captureAll(t, captured)
	for _, name := range specs {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".spec"), func(t *testing.T) {
			spec, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			run := func(db *pgtest.DB) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), tester, conninfo(t, db))
				cmd.Stdin = bytes.NewReader(spec)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				return string(out)
			}
			was, is := run(plain), run(captured)
			if d := difference(was, is); len(d) > 0 {
				t.Errorf("captured tables give (+) where plain ones give (-)\n%s", strings.Join(d, "\n"))
			}
			t.Logf("%d permutations, %d waits, %d errors compared", strings.Count(was, "starting permutation"), strings.Count(was, "<waiting ...>"), strings.Count(was, "\nERROR"))
		})
	}
	var n int
	if err := captured.Pool(t).QueryRow(t.Context(), "select count(*) from lockstep.outbox").Scan(&n); err != nil || n == 0 {
		t.Errorf("%d events were captured, %v", n, err)
	}
}

// captureAll puts capture with the bell on every table of schema public.
func captureAll(t *testing.T, db *pgtest.DB) {
	t.Helper()
	all, err := triggers.Candidates(t.Context(), db.Pool(t), triggers.Options{}, "public")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range all {
		if len(c.Refused) == 0 {
			names = append(names, c.Name)
		}
	}
	install(t, db, true, names...)
}

// regressed are scripts that pg_regress runs as well, of those of one session and without roles.
var regressed = []string{"writes", "triggers", "plpgsql", "partitions"}

// Postgres' own pg_regress drives psql: what it prints for captured tables is what it printed for plain ones.
func TestPgRegressSeesNoDifference(t *testing.T) {
	regress, psql := testProgram(t, "regress/pg_regress"), program(t, "psql")
	for _, name := range regressed {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before, after := split(t, name)
			for sub, text := range map[string]string{"sql/" + name + ".sql": after, "expected/" + name + ".out": ""} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, sub)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, sub), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			run := func(captured bool) (string, error) {
				t.Helper()
				db := pgtest.New(t)
				prepare(t, db, before)
				if captured {
					captureAll(t, db)
				}
				u, err := url.Parse(db.DSN())
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), regress, "--use-existing", "--inputdir", dir, "--outputdir", dir, "--bindir", filepath.Dir(psql),
					"--host", u.Hostname(), "--port", u.Port(), "--user", u.User.Username(), "--dbname", db.Name, name)
				password, _ := u.User.Password()
				cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "LC_ALL=C")
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			// Without anything expected the plain run fails, and leaves what is to be expected.
			out, _ := run(false)
			expected, err := os.ReadFile(filepath.Join(dir, "results", name+".out"))
			if err != nil || len(expected) < 1000 {
				t.Fatalf("the plain run: %v\n%s\n%s", err, out, expected)
			}
			if err := os.WriteFile(filepath.Join(dir, "expected", name+".out"), expected, 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := run(true); err != nil {
				got, _ := os.ReadFile(filepath.Join(dir, "results", name+".out"))
				t.Errorf("%v\n%s\n%s", err, out, strings.Join(difference(string(expected), string(got)), "\n"))
			}
			t.Logf("%d lines compared", bytes.Count(expected, []byte("\n")))
		})
	}
}

// split is a script before and after its "-- capture".
func split(t *testing.T, name string) (before, after string) {
	t.Helper()
	text, err := scripts.ReadFile("sql/" + name + ".sql")
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(text), "\n-- capture\n")
	if !found {
		t.Fatalf("%s has no line -- capture", name)
	}
	return before, after
}

// prepare runs the part before the capture, whose errors would be the script's own.
func prepare(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}
