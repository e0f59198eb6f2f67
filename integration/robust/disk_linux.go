package robust

import (
	"path/filepath"

	"github.com/pglockstep/lockstep/internal/tmpfs"
)

// disk is a file system in memory, which can be filled up.
type disk struct {
	mount string
	dir   string // for the server
	close func() error
}

// newDisk mounts one, where that is allowed, with room for a run that writes a million rows at once and for the
// server's log. Memory is only used for what is written.
func newDisk() (*disk, error) {
	mount, unmount, err := tmpfs.Mount("3g")
	if err != nil {
		return nil, err
	}
	return &disk{mount: mount, dir: filepath.Join(mount, "pg"), close: unmount}, nil
}

// fill leaves no room, until free.
func (d *disk) fill() (free func() error, err error) { return tmpfs.Fill(d.mount, 0) }
