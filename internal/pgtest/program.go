package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Program runs one of Postgres' client programs, such as psql or pg_dump, and
// returns all that it prints. The test fails if the program does, and is
// skipped, with the reason, where there is none of the server's version or later.
func (db *DB) Program(tb testing.TB, stdin, name string, args ...string) string {
	tb.Helper()
	path := filepath.Join(db.Server().Binaries().Dir, name)
	if _, err := os.Stat(path); err != nil {
		// Server programs that come without it: one of another version will do, unless it is older.
		if path, err = exec.LookPath(name); err != nil {
			tb.Skipf("not run: %s is neither beside the server's programs nor on PATH (Debian: apt-get install postgresql-client)", name)
		}
	}
	cmd := exec.CommandContext(tb.Context(), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "server version mismatch") {
		tb.Skipf("not run: %s is older than the server", path)
	}
	if err != nil {
		tb.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}
