package replay

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config tunes an Engine. The zero value of every field means its default,
// which ends the field's comment.
type Config struct {
	// Beat is the longest time between the beginnings of two looks for changes (a fetch, or
	// a beat that finds nothing to fetch) while a session is healthy; it bounds what a lost ring costs. Where there is a bell,
	// and eight looks in a row have found nothing, it is twice as long, but no more than half of MaxStale, and never less than Beat. 250 ms.
	Beat time.Duration
	// MaxStale is how long ago the last completed fetch, or beat that found nothing to fetch, may have begun for the
	// engine to call itself live. It must be longer than Beat. 1 s.
	MaxStale time.Duration
	// CatalogueEvery is the time between two comparisons of the tables'
	// fingerprints. 3 s.
	CatalogueEvery time.Duration
	// FetchTimeout is how long a call of the source may go without progress (a
	// row, an event) before it is given up. Each time that a catch-up or a load
	// was given up it is doubled for the next, up to 16 times, until one
	// completes: the first event of a long catch-up may take its time. 10 s.
	FetchTimeout time.Duration
	// BackoffMin is the first pause after a failure; it doubles with each
	// further one, and half of it is random. 100 ms.
	BackoffMin time.Duration
	// BackoffMax bounds that pause. 5 s.
	BackoffMax time.Duration
	// RetryMin is the first pause before a table that could not be loaded is
	// tried again although its catalogue entries have not changed; it doubles. 5 s.
	RetryMin time.Duration
	// RetryMax bounds that pause. 5 min.
	RetryMax time.Duration
	// QuickEvery is the time between fetches once a beat has found events for
	// which nobody rang. 10 ms.
	QuickEvery time.Duration
	// QuickFor is how long that goes on after the last such find. 2 s.
	QuickFor time.Duration
	// MaxFetchRate bounds the fetches in a second that rings and unaccounted
	// numbers may cause; what is asked for (Barrier, WaitFor, a write of this
	// node's own) comes on top. A quarter of it may come at once. Where each would bring
	// eight transactions or more, a third of the rate must do, and a WAL bell rests. 250.
	MaxFetchRate int
	// MaxBytes is the memory, as the cache counts it, that the rows may take.
	// No limit.
	MaxBytes int64
	// MaxLoads is how many engines may load all tables at a time, in the whole
	// database. The others wait for their turn, and say for whom. Any number.
	MaxLoads int
	// MaxAnchors bounds the transactions that the anchor holds, 40 bytes each.
	// An anchor that had to leave one out proves nothing: a new session before
	// the next release then begins with a resync. 131,072.
	MaxAnchors int
	// MaxGaps bounds the intervals in which open gaps are kept, 24 bytes each.
	// Beyond it neighbours are joined, and the number of open gaps is an upper
	// bound. 65,536.
	MaxGaps int
	// KeepLoads is how many loads Status remembers. 16.
	KeepLoads int
	// Checkpoints is where the tables and their position are kept while the engine
	// is closed. The engine starts from what it finds there where that is still
	// good, and closes it when it ends. None.
	Checkpoints Checkpoints
	// CheckpointEvery is the time between two checkpoints while the engine runs;
	// one more is written by Close. Negative: only by Close. 5 min.
	CheckpointEvery time.Duration
	// WarmOnly makes Start fail with a *CheckpointError where the engine cannot start
	// from its checkpoint, instead of loading all tables. Load them.
	WarmOnly bool
	// Logger hears of loads, failures and recoveries. Silence.
	Logger *slog.Logger
	// OnCut is called on the engine's own goroutine after a cut was published
	// and before anybody who waits for it is told: nothing moves until it
	// returns. It must not wait for the engine. Nothing.
	OnCut func(CutInfo)
}

// withDefaults fills what is zero and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	var bad []error
	duration := func(name string, d *time.Duration, def time.Duration) {
		if *d < 0 {
			bad = append(bad, fmt.Errorf("replay: Config.%s is %v, which is negative", name, *d))
		}
		if *d == 0 {
			*d = def
		}
	}
	number := func(name string, n *int, def int) {
		if *n < 0 {
			bad = append(bad, fmt.Errorf("replay: Config.%s is %d, which is negative", name, *n))
		}
		if *n == 0 {
			*n = def
		}
	}
	duration("Beat", &c.Beat, 250*time.Millisecond)
	duration("MaxStale", &c.MaxStale, time.Second)
	duration("CatalogueEvery", &c.CatalogueEvery, 3*time.Second)
	duration("FetchTimeout", &c.FetchTimeout, 10*time.Second)
	duration("BackoffMin", &c.BackoffMin, 100*time.Millisecond)
	duration("BackoffMax", &c.BackoffMax, max(5*time.Second, c.BackoffMin))
	duration("RetryMin", &c.RetryMin, 5*time.Second)
	duration("RetryMax", &c.RetryMax, max(5*time.Minute, c.RetryMin))
	duration("QuickEvery", &c.QuickEvery, 10*time.Millisecond)
	duration("QuickFor", &c.QuickFor, 2*time.Second)
	number("MaxLoads", &c.MaxLoads, 0)
	number("MaxFetchRate", &c.MaxFetchRate, 250)
	number("MaxAnchors", &c.MaxAnchors, 1<<17)
	number("MaxGaps", &c.MaxGaps, 1<<16)
	number("KeepLoads", &c.KeepLoads, 16)
	if c.CheckpointEvery == 0 {
		c.CheckpointEvery = 5 * time.Minute
	}
	if c.MaxBytes < 0 {
		bad = append(bad, fmt.Errorf("replay: Config.MaxBytes is %d, which is negative", c.MaxBytes))
	}
	if c.MaxStale <= c.Beat {
		bad = append(bad, fmt.Errorf("replay: Config.MaxStale (%v) is not longer than Config.Beat (%v): the engine could not be live between two beats", c.MaxStale, c.Beat))
	}
	if c.BackoffMax < c.BackoffMin {
		bad = append(bad, fmt.Errorf("replay: Config.BackoffMax (%v) is shorter than Config.BackoffMin (%v)", c.BackoffMax, c.BackoffMin))
	}
	if c.RetryMax < c.RetryMin {
		bad = append(bad, fmt.Errorf("replay: Config.RetryMax (%v) is shorter than Config.RetryMin (%v)", c.RetryMax, c.RetryMin))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(bad...)
}
