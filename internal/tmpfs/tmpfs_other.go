//go:build !linux

package tmpfs

import "errors"

// Mount fails: how to mount one is known on Linux only.
func Mount(string) (dir string, unmount func() error, err error) {
	return "", nil, errors.New("a file system in memory is mounted on Linux only")
}
