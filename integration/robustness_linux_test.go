package integration

import (
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// shiftableNode is the program of a node whose clock can be shifted.
func shiftableNode(t *testing.T) string {
	t.Helper()
	return pgtest.Built(t, "./robust/robustnode", shiftable(t)...)
}
