// Package outbox is the log as Go sees it: positions, events, the fetch of a
// cut, doorbells and trimming.
package outbox
