package checkpoint

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ErrHeld means that another process, or another node of this one, has taken
// the name in this directory.
var ErrHeld = errors.New("another process keeps checkpoints under this name here")

// Store is the place of one node's file: a name in a directory.
type Store struct {
	dir, name, base string
	create          func(dir, pattern string) (sink, error)

	mu   sync.Mutex
	lock *os.File // held for as long as the store is in use; nil before
}

// New names the place; it touches nothing. Any name will do: the file's is
// made of its harmless characters and a digest of all of it.
func New(dir, name string) *Store {
	harmless := strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
	sum := sha256.Sum256([]byte(name))
	base := harmless[:min(len(harmless), 40)] + "-" + hex.EncodeToString(sum[:8])
	return &Store{dir: dir, name: name, base: base, create: func(dir, pattern string) (sink, error) {
		return os.CreateTemp(dir, pattern) // for this user only
	}}
}

// Names are those of the nodes that have left a file in a directory, in the order of the files' names. A file
// whose name cannot be read is an error.
func Names(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(escape(dir), "*.checkpoint"))
	if err != nil {
		return nil, err //nolint:wrapcheck // the pattern is right
	}
	var names []string
	for _, file := range files {
		name, err := nameIn(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		names = append(names, name)
	}
	return names, nil
}

func nameIn(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err //nolint:wrapcheck // the caller names the file
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return "", err //nolint:wrapcheck // the caller names the file
	}
	_, name, err := readHead(f, info.Size())
	return name, err
}

// Path is the file's.
func (s *Store) Path() string { return filepath.Join(s.dir, s.base+".checkpoint") }

// take makes the directory, for this user only, and locks the name in it.
func (s *Store) take() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err //nolint:wrapcheck // names the directory
	}
	f, err := os.OpenFile(filepath.Join(s.dir, s.base+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	if err := lock(f); err != nil {
		_ = f.Close() // nothing was written
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	s.lock = f
	return nil
}

// Open opens the file that was committed last and reads its head. The error is
// fs.ErrNotExist where there is none.
func (s *Store) Open() (*Reader, error) {
	if err := s.take(); err != nil {
		return nil, err
	}
	f, err := os.Open(s.Path())
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file
	}
	r, err := s.read(f)
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("%s: %w", s.Path(), err)
	}
	return r, nil
}

func (s *Store) read(f *os.File) (*Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file
	}
	if err := trustworthy(info); err != nil {
		return nil, err
	}
	return newReader(f, info.Size(), s.name)
}

// Create begins a new file beside the one that is there, after removing what an
// earlier process may have left unfinished.
func (s *Store) Create(head []byte) (*Writer, error) {
	if err := s.take(); err != nil {
		return nil, err
	}
	left, _ := filepath.Glob(filepath.Join(escape(s.dir), s.base+".*.tmp")) // the pattern is right
	for _, f := range left {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err //nolint:wrapcheck // names the file
		}
	}
	f, err := s.create(s.dir, s.base+".*.tmp")
	if err != nil {
		return nil, err
	}
	w := &Writer{s: s, f: f, bw: bufio.NewWriterSize(f, 1<<18), chain: newChain()}
	if err := w.begin(s.name, head); err != nil {
		w.Abort()
		return nil, err
	}
	return w, nil
}

// Remove removes the file that was committed last, if there is one.
func (s *Store) Remove() error {
	if err := s.take(); err != nil {
		return err
	}
	if err := os.Remove(s.Path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // names the file
	}
	return syncDir(s.dir)
}

// escape makes a directory's name a pattern that only it matches.
func escape(dir string) string {
	var b strings.Builder
	for _, r := range dir {
		if strings.ContainsRune(`*?[\`, r) && (r != '\\' || os.PathSeparator != '\\') {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// replace puts a file that is on disk in the place of the one before.
func (s *Store) replace(f sink) error {
	err := f.Close()
	if err == nil {
		err = keepOwner(f.Name(), s.Path())
	}
	if err == nil {
		err = os.Rename(f.Name(), s.Path())
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error says what went wrong
		return fmt.Errorf("write: %w", err)
	}
	return syncDir(s.dir)
}

// discard removes a file that was not completed.
func (s *Store) discard(f sink) {
	_ = f.Close() // what it holds is not wanted
	_ = os.Remove(f.Name())
}

// Close gives the name free. The store may be used again.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.lock = nil
	return err //nolint:wrapcheck // names the file
}
