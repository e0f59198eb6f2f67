/* Preloaded into a server whose clock a test shifts: see fault_clock_unix_test.go.
   Only the time of day is; the monotonic clock goes on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The offset in nanoseconds, and, unless it is 0, the time at which the clock
   stands still, in a file that is shared with the test. */
static volatile int64_t *shift;

__attribute__((constructor)) static void open_shift(void)
{
	const char *path = getenv("CLOCK_SHIFT");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);

	if (page != MAP_FAILED)
		shift = page;
	if (fd >= 0)
		close(fd);
}

static void add(struct timespec *ts)
{
	int64_t ns = shift ? shift[0] : 0, still = shift ? shift[1] : 0;

	if (still) {
		ts->tv_sec = still / 1000000000;
		ts->tv_nsec = still % 1000000000;
	}
	ts->tv_sec += ns / 1000000000;
	ts->tv_nsec += ns % 1000000000;
	if (ts->tv_nsec < 0) {
		ts->tv_nsec += 1000000000;
		ts->tv_sec--;
	} else if (ts->tv_nsec >= 1000000000) {
		ts->tv_nsec -= 1000000000;
		ts->tv_sec++;
	}
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = syscall(SYS_clock_gettime, clock, ts);

	if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		add(ts);
	return r;
}

int gettimeofday(struct timeval *tv, void *tz)
{
	struct timespec ts;

	(void) tz;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}
