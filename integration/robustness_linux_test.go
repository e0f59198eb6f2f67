package integration

import "testing"

// shiftableNode is the program of a node whose clock can be shifted.
func shiftableNode(t *testing.T) string {
	t.Helper()
	return builtFrom(t, "./robust/robustnode", shiftable(t)...)
}
