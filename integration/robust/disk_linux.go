package robust

import (
	"errors"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pglockstep/lockstep/internal/tmpfs"
)

// disk is a file system in memory, which can be filled up.
type disk struct {
	mount string
	dir   string // for the server
	close func() error
}

// room is how much it holds: a run that may be told to write a million rows at once, and the server's log.
const room = "3g"

// newDisk mounts one, where that is allowed. Memory is only used for what is written.
func newDisk() (*disk, error) {
	mount, unmount, err := tmpfs.Mount(room)
	if err != nil {
		return nil, err
	}
	return &disk{mount: mount, dir: filepath.Join(mount, "pg"), close: unmount}, nil
}

// fill leaves no room; free makes room again. The file system is made as small as what is on it, which takes no memory.
func (d *disk) fill() error {
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(d.mount, &st); err != nil || st.Bavail == 0 {
			return err //nolint:wrapcheck // of a fault of ours
		}
		// One that holds more by now is not made smaller.
		err := d.resize(strconv.FormatInt(int64(st.Blocks-st.Bfree)*st.Bsize, 10))
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
}

func (d *disk) free() error { return d.resize(room) }

func (d *disk) resize(size string) error {
	return unix.Mount("tmpfs", d.mount, "tmpfs", unix.MS_REMOUNT, "size="+size) //nolint:wrapcheck // as above
}
