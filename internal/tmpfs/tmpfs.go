// Package tmpfs mounts small file systems in memory, for tests that fill them up.
package tmpfs
