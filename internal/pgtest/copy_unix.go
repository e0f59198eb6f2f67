//go:build unix

package pgtest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgserver"
)

// Trust lets everybody on this machine in without a password. A cluster that
// becomes a copy of another one needs it, as does the other: a copy has the
// passwords of the original.
func Trust(c *pgserver.Config) { c.Trust = true }

// Small is an option for clusters that are copied: their log comes in pieces
// of a megabyte.
func Small(c *pgserver.Config) { c.InitArgs = append(c.InitArgs, "--wal-segsize=1") }

// notCopied are what of a data directory a base backup leaves out: of a
// directory, what is in it.
var notCopied = []string{
	"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans",
	"postmaster.pid", "postmaster.opts", "postgresql.conf", "postgresql.auto.conf",
}

// BecomeCopy halts the cluster and makes it a base backup of a running one, by
// the server's own functions, so that it needs no program of a matching
// version. It keeps its own postgresql.conf, to which the lines of conf are
// added. The copy needs the log that was written meanwhile: by streaming from
// the other, or by a restore_command.
func (c *Cluster) BecomeCopy(tb testing.TB, from *Cluster, conf string) {
	tb.Helper()
	if err := c.Halt(pgserver.Immediate); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	own, err := os.ReadFile(filepath.Join(c.DataDir(), "postgresql.conf"))
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	start, stop := "select pg_backup_start('copy', true)", "select labelfile from pg_backup_stop(false)"
	if from.Version() < 150000 {
		start, stop = "select pg_start_backup('copy', true, false)", "select labelfile from pg_stop_backup(false, false)"
	}
	conn := connect(tb, from.DSN("postgres")) // one session for both
	if _, err := conn.Exec(tb.Context(), start); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	if err := c.replaceFiles(from.DataDir()); err != nil {
		tb.Fatalf("pgtest: copy %s: %v", from.DataDir(), err)
	}
	var label string
	if err := conn.QueryRow(tb.Context(), stop).Scan(&label); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	c.Give(tb, "backup_label", []byte(label))
	c.Give(tb, "postgresql.conf", append(own, conf...))
}

// Has is the database of another cluster in one that has become its copy.
func (c *Cluster) Has(db *DB) *DB { return &DB{Name: db.Name, server: c.Server} }

// replaceFiles copies a data directory over the cluster's own. Files may grow,
// shrink and go meanwhile; the log makes up for it.
func (c *Cluster) replaceFiles(from string) error {
	to := c.DataDir()
	info, err := os.Stat(to)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(to)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || path == from {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		top, rest, _ := strings.Cut(name, string(filepath.Separator))
		if slices.Contains(notCopied, top) && (rest != "" || !d.IsDir()) {
			return nil
		}
		target := filepath.Join(to, name)
		if d.IsDir() {
			err = os.Mkdir(target, 0o700)
		} else {
			err = copyFile(path, target)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it has gone
		case err != nil:
			return err
		}
		return chownLike(target, info)
	})
}

// copyFile copies what is there of a file.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was read only
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
