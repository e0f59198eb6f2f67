package checkpoint_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pglockstep/lockstep/internal/checkpoint"
)

// put commits a file with one row, which is the text.
func put(t *testing.T, s *checkpoint.Store, text string) error {
	t.Helper()
	w, err := s.Create([]byte("head"))
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := w.Row(0, []byte(text)); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

// wantText checks what the store has.
func wantText(t *testing.T, s *checkpoint.Store, text string) {
	t.Helper()
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if c, err := read(r); err != nil || len(c.rows[0]) != 1 || c.rows[0][0] != text {
		t.Errorf("the store has %v (%v), want %q", c, err, text)
	}
}

// names are the files in a directory.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestTheFileIsForThisUserOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by us")
	s := checkpoint.New(dir, "n")
	defer s.Close()
	if _, err := s.Open(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there is no file the error is %v", err)
	}
	if err := put(t, s, "x"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, s.Path(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	if err := os.Chmod(s.Path(), 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(); err == nil || !strings.Contains(err.Error(), "others may write it") {
		t.Errorf("a file that others may write is believed: %v", err)
	}
}

func TestAnyNameHasAFileOfItsOwnInTheDirectory(t *testing.T) {
	dir := t.TempDir()
	all := []string{"web-1", "WEB-1", "web_1", "web/1", "../../etc/passwd", "..", ".", "a\x00b", "ü", "名前", strings.Repeat("long", 200), strings.Repeat("long", 201), "sp ace", "*", "a\nb", ""}
	seen := map[string]string{}
	for _, name := range all {
		s := checkpoint.New(dir, name)
		if other, ok := seen[strings.ToLower(s.Path())]; ok {
			t.Errorf("%q and %q are one file", name, other)
		}
		seen[strings.ToLower(s.Path())] = name
		if filepath.Dir(s.Path()) != dir {
			t.Errorf("%q is outside: %s", name, s.Path())
		}
		if err := put(t, s, name); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		wantText(t, s, name)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheSecondOfOneNameIsToldAndTheFirstKeepsItsFile(t *testing.T) {
	dir := t.TempDir()
	first, second, other := checkpoint.New(dir, "n"), checkpoint.New(dir, "n"), checkpoint.New(dir, "m")
	defer first.Close()
	defer second.Close()
	defer other.Close()
	if err := put(t, first, "of the first"); err != nil {
		t.Fatal(err)
	}
	if err := put(t, second, "of the second"); !errors.Is(err, checkpoint.ErrHeld) {
		t.Errorf("the second writes: %v", err)
	}
	if _, err := second.Open(); !errors.Is(err, checkpoint.ErrHeld) {
		t.Errorf("the second reads: %v", err)
	}
	if err := put(t, other, "of another name"); err != nil {
		t.Error(err)
	}
	wantText(t, first, "of the first")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	wantText(t, second, "of the first") // it takes over
}

func TestWhatWasNotFinishedIsRemovedByTheNext(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd [name] *")
	s := checkpoint.New(dir, "n")
	defer s.Close()
	if err := put(t, s, "old"); err != nil {
		t.Fatal(err)
	}
	w, err := s.Create([]byte("head"))
	if err != nil {
		t.Fatal(err)
	}
	_ = w // the process was killed here
	wantText(t, s, "old")
	if n := len(names(t, dir)); n != 3 {
		t.Fatalf("%q, want the file, the lock and one that was begun", names(t, dir))
	}
	if err := put(t, s, "new"); err != nil {
		t.Fatal(err)
	}
	wantText(t, s, "new")
	if n := len(names(t, dir)); n != 2 {
		t.Errorf("left behind: %q", names(t, dir))
	}
}

// full is a file on a disk that takes n bytes.
type full struct {
	*os.File
	left   *int
	onSync error
}

func (f full) Write(b []byte) (int, error) {
	if len(b) > *f.left {
		n, _ := f.File.Write(b[:*f.left])
		*f.left = 0
		return n, &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	*f.left -= len(b)
	return f.File.Write(b)
}

func (f full) Sync() error {
	if f.onSync != nil {
		return f.onSync
	}
	return f.File.Sync()
}

func TestAFullDiskLeavesTheOldFileAndNoOther(t *testing.T) {
	dir := t.TempDir()
	s := checkpoint.New(dir, "n")
	defer s.Close()
	if err := put(t, s, "old"); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 1<<20)
	broken := errors.New("the disk is broken")
	for _, disk := range []struct {
		left   int
		onSync error
	}{{left: 0}, {left: 10}, {left: 1 << 19}, {left: 1<<20 + 50}, {left: 1 << 30, onSync: broken}} {
		s.SetCreate(func(dir, pattern string) (checkpoint.Sink, error) {
			f, err := os.CreateTemp(dir, pattern)
			left := disk.left
			return full{f, &left, disk.onSync}, err
		})
		err := put(t, s, text)
		if want := syscall.ENOSPC; disk.onSync == nil && !errors.Is(err, want) || disk.onSync != nil && !errors.Is(err, broken) {
			t.Errorf("%d bytes left: %v", disk.left, err)
		}
		wantText(t, s, "old")
		if n := len(names(t, dir)); n != 2 {
			t.Errorf("%d bytes left: left behind: %q", disk.left, names(t, dir))
		}
	}
}

func TestADirectoryThatCannotBeUsedIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := checkpoint.New(file, "n")
	defer s.Close()
	if err := put(t, s, "x"); err == nil {
		t.Error("a checkpoint in a file")
	}
}
