// Package pause lets time pass, for as long as a context lives.
package pause

import (
	"context"
	"time"
)

// For blocks for d. It reports false if ctx ended before.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
