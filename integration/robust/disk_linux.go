package robust

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// disk is a file system in memory, which can be filled up.
type disk struct {
	mount string
	dir   string // for the server
}

// diskBytes bounds it; memory is only used for what is written.
const diskBytes = "size=3g,mode=0755"

// newDisk mounts one, where that is allowed. It first takes away what dead processes left.
func newDisk(context.Context) (*disk, error) {
	sweepDisks()
	mount, err := os.MkdirTemp("", fmt.Sprintf("lockstep-disk-%d-", os.Getpid()))
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, diskBytes); err != nil {
		return nil, errors.Join(err, os.Remove(mount))
	}
	return &disk{mount: mount, dir: filepath.Join(mount, "pg")}, nil
}

func sweepDisks() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), "lockstep-disk-*")) // the pattern is good
	for _, mount := range found {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(mount), "lockstep-disk-%d-", &pid); err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = unix.Unmount(mount, unix.MNT_DETACH) // it may be unmounted already
			_ = os.Remove(mount)
		}
	}
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

// close unmounts it, with all that is on it.
func (d *disk) close() error {
	if err := unix.Unmount(d.mount, unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Remove(d.mount)
}
