//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// lock takes a lock on the file that ends with the process, or with the file's Close.
func lock(f *os.File) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrHeld
		case err != nil:
			return fmt.Errorf("lock: %w", err)
		default:
			return nil
		}
	}
}

// syncDir brings a rename to disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err //nolint:wrapcheck // names the directory
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err //nolint:wrapcheck // names the directory
}

// trustworthy refuses what others may have written: rows are believed.
func trustworthy(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("it is no file")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() && st.Uid != 0 {
		return fmt.Errorf("it belongs to user %d", st.Uid)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("others may write it (%v)", mode)
	}
	return nil
}

// keepOwner gives a new file the owner of the one that it replaces: whoever may do so, root, may
// have written it for a node that runs as another user.
func keepOwner(file, replaced string) error {
	info, err := os.Stat(replaced)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() && os.Geteuid() == 0 {
		return os.Chown(file, int(st.Uid), int(st.Gid)) //nolint:wrapcheck // names the file
	}
	return nil
}
