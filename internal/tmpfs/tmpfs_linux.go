package tmpfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mount mounts a file system of a size, such as "8m", and returns where, and what unmounts it with all that is
// on it. It needs CAP_SYS_ADMIN. Any user may enter it. What processes mounted that have died since is
// unmounted first.
func Mount(size string) (dir string, unmount func() error, err error) {
	sweep()
	// Not in $TMPDIR: a server's user must reach it.
	if dir, err = os.MkdirTemp("/tmp", fmt.Sprintf("lockstep-disk-%d-", os.Getpid())); err != nil {
		return "", nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size="+size); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, func() error {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		return os.Remove(dir)
	}, nil
}

// Fill leaves so many bytes of room in a file system of Mount's, by making it smaller, which takes no memory; free
// gives it its size again. What is written meanwhile makes it try again.
func Fill(dir string, room int64) (free func() error, err error) {
	var st unix.Statfs_t
	for err = unix.EINVAL; errors.Is(err, unix.EINVAL); { // it holds more by now than it was to be left
		if err := unix.Statfs(dir, &st); err != nil {
			return nil, fmt.Errorf("statfs %s: %w", dir, err)
		}
		err = resize(dir, int64(st.Blocks-st.Bfree)*st.Bsize+room)
	}
	size := int64(st.Blocks) * st.Bsize
	return func() error { return resize(dir, size) }, err
}

func resize(dir string, size int64) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		return fmt.Errorf("remount %s: %w", dir, err)
	}
	return nil
}

func sweep() {
	found, _ := filepath.Glob("/tmp/lockstep-disk-*") // the pattern is good
	for _, dir := range found {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), "lockstep-disk-%d-", &pid); err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = unix.Unmount(dir, unix.MNT_DETACH) // it may be unmounted already
			_ = os.Remove(dir)
		}
	}
}
