package serve

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A request that ends does not let the cut idle while another one still reads it, and the hour ends it all the same.
func TestACutIdlesFromWhenItsLastReaderHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 30 * time.Second
		var ended atomic.Bool
		h := &heldCut{until: time.Now().Add(cutLife)}
		h.idle = time.AfterFunc(idle, func() { ended.Store(true) })
		slow := h.read()
		h.read()(idle)
		after := func(d time.Duration, want bool) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if ended.Load() != want {
				t.Fatalf("%s before the hour: ended %t, want %t", time.Until(h.until), ended.Load(), want)
			}
		}
		after(2*idle, false)
		slow(idle)
		after(idle-time.Second, false)
		h.read()
		after(cutLife-3*idle, false)
		after(idle+time.Second, true)
	})
}
