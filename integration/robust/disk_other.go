//go:build unix && !linux

package robust

import "errors"

// disk is a file system of the server's own, which this system has no simple way to make.
type disk struct {
	dir   string
	close func() error
}

func newDisk() (*disk, error) {
	return nil, errors.New("not made on this system")
}

func (d *disk) fill() (free func() error, err error) { return nil, errNotRun }
