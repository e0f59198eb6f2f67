package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// openDirFor is a temporary directory like /tmp, which the server's user can write in and
// whose name is short enough for sockets; t.TempDir is neither.
func openDirFor(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ownTemp gives the test a temp directory in which nobody else sweeps.
func ownTemp(t *testing.T) string {
	t.Helper()
	dir := openDirFor(t)
	t.Setenv("TMPDIR", dir)
	return dir
}

func mustStart(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(Immediate); err != nil {
			t.Error(err)
		}
	})
	return s
}

// query returns the one value that a query gives, as text.
func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var value string
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func execute(t *testing.T, s *Server, sql string) {
	t.Helper()
	if err := runQuery(s, sql); err != nil {
		t.Fatal(err)
	}
}

func runQuery(s *Server, sql string) error {
	conn, err := pgx.Connect(context.Background(), s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(context.Background(), sql)
	return err
}

// awaitTrue waits for what another process does; its limit only ends a test that has failed.
func awaitTrue(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never happened: %s", what)
		}
	}
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind in %s: %v, %v", dir, left, err)
	}
}

func TestServerRunsOnTCPAndOnASocketAsAnUnprivilegedUser(t *testing.T) {
	s := mustStart(t, Config{})
	if got, want := query(t, s.DSN("postgres"), "SHOW server_version_num"), fmt.Sprint(s.Version()); got != want {
		t.Errorf("server says version %s, Find said %s", got, want)
	}
	byS := fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=postgres", s.SocketDir(), s.Port(), Superuser, s.password)
	if got := query(t, byS, "SELECT (inet_server_addr() IS NULL)::text"); got != "true" {
		t.Error("the connection over the socket has an address")
	}
	if got := query(t, s.DSN("postgres"), "SHOW listen_addresses"); got != "127.0.0.1" {
		t.Errorf("the server listens on %s", got)
	}
	if uid := processOwner(s.PID()); uid <= 0 {
		t.Errorf("the server runs as user %d", uid)
	}
}

func TestSettingsGoOverTheDefaults(t *testing.T) {
	s := mustStart(t, Config{Settings: map[string]string{
		"fsync": "on", "max_prepared_transactions": "7", "wal_level": "logical", "my.odd": `it's a \ # "value"`,
	}})
	for name, want := range map[string]string{
		"fsync": "on", "max_prepared_transactions": "7", "wal_level": "logical", "my.odd": `it's a \ # "value"`,
		"max_connections": "200", "full_page_writes": "off", "TimeZone": "UTC", "server_encoding": "UTF8",
	} {
		if got := query(t, s.DSN("postgres"), "SELECT current_setting('"+name+"')"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestAStartThatFailsSaysWhyAndLeavesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	b, err := Find(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ctx    context.Context
		config Config
		says   string
	}{
		"no such setting":  {t.Context(), Config{Settings: map[string]string{"fsink": "on"}}, `unrecognized configuration parameter "fsink"`},
		"not a name":       {t.Context(), Config{Settings: map[string]string{"fsync = on #": "on"}}, "not a setting's name"},
		"two lines":        {t.Context(), Config{Settings: map[string]string{"fsync": "on\nport = 1"}}, "a value is one line"},
		"initdb's refusal": {t.Context(), Config{InitArgs: []string{"--no-such-thing"}}, "initdb: "},
		"port taken":       {t.Context(), Config{Port: taken.Addr().(*net.TCPAddr).Port}, ErrPortTaken.Error()},
		"context ended":    {ended, Config{}, context.Canceled.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			temp := ownTemp(t)
			c.config.Binaries = b
			s, err := Start(c.ctx, c.config)
			if err == nil {
				t.Fatal(errors.Join(errors.New("it started"), s.Stop(Immediate)))
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, c.says)
			}
			mustBeEmpty(t, temp)
		})
	}
}

func TestStartDrawsAnotherPortWhenSomebodyTookTheFirst(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	draws := 0
	s := mustStart(t, Config{drawPort: func() (int, error) {
		if draws++; draws < 3 {
			return taken.Addr().(*net.TCPAddr).Port, nil
		}
		return freePort()
	}})
	if draws != 3 {
		t.Errorf("%d ports were drawn, want 3", draws)
	}
	if got := query(t, s.DSN("postgres"), "SHOW data_directory"); got != s.DataDir() {
		t.Errorf("the address leads to %s, not to %s", got, s.DataDir())
	}
}

func TestOnlyThePasswordOpensTheServerUnlessItTrusts(t *testing.T) {
	s := mustStart(t, Config{})
	_, err := pgx.Connect(t.Context(), s.DSNAs("postgres", Superuser, "wrong"))
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "28P01" {
		t.Errorf("with a wrong password: %v, want error 28P01", err)
	}
	trusting := mustStart(t, Config{Trust: true})
	if strings.Contains(trusting.DSN("postgres"), ":@") || strings.Contains(trusting.DSN("postgres"), trusting.password) {
		t.Error("the address of a trusting server has a password")
	}
	if got := query(t, trusting.DSN("postgres"), "SELECT current_user::text"); got != Superuser {
		t.Errorf("current user is %s", got)
	}
}

func TestThePasswordIsNowhereToBeSeen(t *testing.T) {
	s := mustStart(t, Config{Settings: map[string]string{"log_connections": "on", "log_statement": "all"}})
	execute(t, s, "SELECT 1")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if strings.Contains(fmt.Sprintf(verb, s), s.password) {
			t.Errorf("%s prints the password", verb)
		}
	}
	if !strings.Contains(s.Logs(), "connection authorized") {
		t.Errorf("the log has no connections: %s", s.LogTail(5))
	}
	files := 0
	err := filepath.WalkDir(s.paths.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		files++
		if strings.Contains(string(text), s.password) {
			t.Errorf("the password is in %s", path)
		}
		return err
	})
	if err != nil || files < 100 {
		t.Errorf("read %d files: %v", files, err)
	}
	for _, pid := range append(childrenOf(s.PID()), s.PID(), s.guard.cmd.Process.Pid, os.Getpid()) {
		if strings.Contains(strings.Join(commandLine(pid), " "), s.password) {
			t.Errorf("the password is in the command line of process %d", pid)
		}
	}
}

func TestAGivenDirectoryStaysAndMustBeEmpty(t *testing.T) {
	dir := filepath.Join(openDirFor(t), "mine")
	s, err := Start(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	pid := s.PID()
	if err := s.Stop(Fast); err != nil {
		t.Fatal(err)
	}
	if serves(pid, s.DataDir(), processOwner(pid)) {
		t.Error("the server still runs")
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "PG_VERSION")); err != nil {
		t.Errorf("the data is gone: %v", err)
	}
	if _, err := Start(t.Context(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("second start: %v, want that the directory is not empty", err)
	}
}

func TestADirectoryTooDeepForASocketGivesAServerWithoutOne(t *testing.T) {
	dir := filepath.Join(openDirFor(t), strings.Repeat("long/", 20))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	s := mustStart(t, Config{Dir: dir})
	if s.SocketDir() != "" {
		t.Errorf("socket directory %s", s.SocketDir())
	}
	if got := query(t, s.DSN("postgres"), "SELECT 'here'"); got != "here" {
		t.Error(got)
	}
}
