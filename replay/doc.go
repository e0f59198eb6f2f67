// Package replay moves a cache along the log: cold load, follow, catch up, resync.
package replay
