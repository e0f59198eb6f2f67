//go:build unix && !linux

package integration

import "testing"

// shiftableNode: how to build one is known on Linux only.
func shiftableNode(*testing.T) string { return "" }
