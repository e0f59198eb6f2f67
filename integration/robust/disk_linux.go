package robust

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pglockstep/lockstep/internal/tmpfs"
)

// disk is a file system in memory, which can be filled up.
type disk struct {
	mount string
	dir   string // for the server
	close func() error
}

// newDisk mounts one, where that is allowed. Memory is only used for what is written.
func newDisk() (*disk, error) {
	mount, unmount, err := tmpfs.Mount("3g")
	if err != nil {
		return nil, err
	}
	return &disk{mount: mount, dir: filepath.Join(mount, "pg"), close: unmount}, nil
}

// fill leaves no room; free makes room again.
func (d *disk) fill() error {
	f, err := os.Create(filepath.Join(d.mount, "filler"))
	if err != nil {
		return err
	}
	err = unix.ENOSPC
	for errors.Is(err, unix.ENOSPC) { // the server took some meanwhile
		var st unix.Statfs_t
		if err = unix.Statfs(d.mount, &st); err == nil && st.Bavail > 0 {
			err = unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize)
		}
	}
	return errors.Join(err, f.Close())
}

func (d *disk) free() error { return os.Remove(filepath.Join(d.mount, "filler")) }
