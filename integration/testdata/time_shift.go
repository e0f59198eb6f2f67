// Laid over package time of the standard library when a test builds a program
// whose clock can be shifted: see fault_clock_unix_test.go. Only the wall clock
// is; the monotonic one goes on as it does when somebody sets a machine's clock.

package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// shift is the offset in nanoseconds, in a file that is shared with the test.
var shift = func() *atomic.Int64 {
	path, ok := syscall.Getenv("CLOCK_SHIFT")
	if !ok {
		return new(atomic.Int64)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("time: CLOCK_SHIFT: " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("time: CLOCK_SHIFT: " + err.Error())
	}
	return (*atomic.Int64)(unsafe.Pointer(&page[0]))
}()

func shiftedNow() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = runtimeNow()
	var d int64
	if shift != nil { // what is initialized before us asks for the time as well
		d = shift.Load()
	}
	sec, d = sec+d/1e9, int64(nsec)+d%1e9
	if d < 0 {
		sec, d = sec-1, d+1e9
	}
	return sec + d/1e9, int32(d % 1e9), mono
}
