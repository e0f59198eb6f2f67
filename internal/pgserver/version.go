package pgserver

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var versionDigits = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// serverVersion asks the postgres program in dir for its version, in the form of
// server_version_num.
func serverVersion(ctx context.Context, dir string) (int, error) {
	program := filepath.Join(dir, "postgres")
	out, err := exec.CommandContext(ctx, program, "-V").Output()
	if err != nil {
		return 0, fmt.Errorf("%s -V: %w", program, err)
	}
	return parseVersion(string(out))
}

// parseVersion reads what `postgres -V` prints: "postgres (PostgreSQL) 15.18 (Debian ...)"
// is 150018. A pre-release ("18beta1") counts as its .0.
func parseVersion(out string) (int, error) {
	m := versionDigits.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("not a Postgres version: %q", strings.TrimSpace(out))
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, fmt.Errorf("not a Postgres version: %q: %w", strings.TrimSpace(out), err)
	}
	minor := 0
	if m[2] != "" {
		if minor, err = strconv.Atoi(m[2]); err != nil {
			return 0, fmt.Errorf("not a Postgres version: %q: %w", strings.TrimSpace(out), err)
		}
	}
	return major*10000 + minor, nil
}
