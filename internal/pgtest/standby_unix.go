//go:build unix

package pgtest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// BecomeStandby restarts the cluster as a hot standby, of nobody.
func (c *Cluster) BecomeStandby(tb testing.TB) {
	tb.Helper()
	c.Give(tb, "standby.signal", nil)
	if err := c.Restart(tb.Context()); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
}

// Give writes a file of the data directory that belongs to the server's user.
func (c *Cluster) Give(tb testing.TB, name string, data []byte) {
	tb.Helper()
	path := filepath.Join(c.DataDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	info, err := os.Stat(c.DataDir())
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	if err := chownLike(path, info); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
}

// chownLike gives a file to the owner of another one.
func chownLike(path string, like os.FileInfo) error {
	if owner, ok := like.Sys().(*syscall.Stat_t); ok {
		return os.Chown(path, int(owner.Uid), int(owner.Gid))
	}
	return nil
}
