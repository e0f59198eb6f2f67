// Package cache keeps tables in memory in many versions: readers see one instant across all tables and
// never wait, while one writer prepares the next instant and publishes it in one step.
//
// A [Table] maps keys to rows, an [Index] finds rows by something else than their key, and a [Store] holds
// tables that change together. The writer calls [Store.Begin], stages changes with [Table.Put],
// [Table.PutBatch], [Table.Delete], [Table.Clear] or [Table.Replace], and ends with [Writer.Publish] or [Writer.Abort].
// Each published version has a number, called its revision. Readers ask for the newest state
// ([Table.Get], [Table.All], [Index.All]) or hold one version still with a [View]. Subscribers follow one
// table ([Table.Changes]) or whole transactions across tables ([Store.Changes]).
//
// # What is shared
//
// Rows are returned as they were put: the struct is a copy, what its slices, maps and pointers lead to is
// shared by every reader. Nobody may change that after Put. [Options.DetectMutation] finds who does.
//
// # What blocks
//
// Reads take no lock and wait for nobody. The writer never waits for a reader, a view or a subscriber.
// Only a second [Store.Begin] waits, for the first writer to end.
//
// # What it costs
//
// A row takes its own bytes and its key's, 16 bytes of version header and 13 to 26 of the map (16 after a load); a
// version that has been superseded is kept only as long as a view stands inside its lifetime. Bytes as
// [Table.Bytes] reports them are an estimate built from the row's type, explained there.
package cache

import "errors"

var (
	// ErrClosed ends every subscription once the store has been closed.
	ErrClosed = errors.New("cache: store is closed")
	// ErrDetached ends a subscription to a table that no store holds.
	ErrDetached = errors.New("cache: table is not part of a store")
)

// Options of a store. The zero value means the defaults.
type Options struct {
	// MaxLag is how many changes the change log keeps, per table and for the store as a whole. A subscriber
	// further behind gets a Reset. Default 100,000.
	MaxLag int
	// CoalesceAfter is how many changes a subscriber may have pending, over more than one cut, before it
	// gets one coalesced change per key instead. Default 1,000.
	CoalesceAfter int
	// DetectMutation makes every row's content be hashed when it is put and compared when its version ends,
	// at each Sweep and at Close. It is for tests: Sweep then walks every row. Default off.
	DetectMutation bool
	// OnMutation is told, on the goroutine of the writer, of Sweep or of Close, which row somebody changed
	// after it was put. Default: panic.
	OnMutation func(table string, key any)
}

const (
	defaultMaxLag        = 100_000
	defaultCoalesceAfter = 1_000
)

// withDefaults fills in what was left at zero.
func (o Options) withDefaults() Options {
	if o.MaxLag == 0 {
		o.MaxLag = defaultMaxLag
	}
	if o.CoalesceAfter == 0 {
		o.CoalesceAfter = defaultCoalesceAfter
	}
	if o.OnMutation == nil {
		o.OnMutation = panicOnMutation
	}
	return o
}

// mistakes lists what is wrong with the options.
func (o Options) mistakes() (errs []error) {
	if o.MaxLag < 0 {
		errs = append(errs, errors.New("cache: Options.MaxLag is negative"))
	}
	if o.CoalesceAfter < 0 {
		errs = append(errs, errors.New("cache: Options.CoalesceAfter is negative"))
	}
	return errs
}
