package demo

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// stamps is how many of the last stamped writes the book remembers: the demo
// may run for days.
const stamps = 1 << 16

// entry is when something happened to a stamped write; the book has one place
// for all stamps that are equal modulo stamps.
type entry struct{ stamp, at int64 } // at: nanoseconds

// span is an outage of one node.
type span struct{ from, healed, live time.Time } // zero: not yet

// book holds when writes were committed, and when each node showed them. Both
// times are this machine's clock.
type book struct {
	mu      sync.Mutex
	commits []entry
	seen    map[string][]entry
	outages map[string][]span
}

func newBook() *book {
	return &book{commits: make([]entry, stamps), seen: map[string][]entry{}, outages: map[string][]span{}}
}

func (b *book) committed(stamp int64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.commits[stamp%stamps] = entry{stamp, at.UnixNano()}
}

func (b *book) visible(node string, stamp int64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[node] == nil {
		b.seen[node] = make([]entry, stamps)
	}
	if e := &b.seen[node][stamp%stamps]; e.stamp < stamp { // the first time counts
		*e = entry{stamp, at.UnixNano()}
	}
}

// cut, healed and live bound an outage: the node may come back only once it can.
func (b *book) cut(node string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	had := b.outages[node]
	b.outages[node] = append(had[max(0, len(had)-100):], span{from: at})
}

func (b *book) healed(node string, at time.Time) {
	b.last(node, func(s *span) { s.healed = at })
}

func (b *book) live(node string, at time.Time) {
	b.last(node, func(s *span) {
		if s.live.IsZero() && !s.healed.IsZero() && at.After(s.healed) {
			s.live = at
		}
	})
}

func (b *book) last(node string, change func(*span)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if all := b.outages[node]; len(all) > 0 {
		change(&all[len(all)-1])
	}
}

// latencies are from a commit's return in the writer to the row's being
// visible in the node, in ascending order. A row that was visible before the
// writer heard of its own commit counts as 0. A write whose wait overlaps an
// outage of the node is late because of that, and is left out.
func (b *book) latencies(node string) []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []time.Duration
	for i, seen := range b.seen[node] {
		commit := b.commits[i]
		if seen.stamp == 0 || commit.stamp != seen.stamp || b.away(node, commit.at, seen.at) {
			continue
		}
		out = append(out, time.Duration(max(0, seen.at-commit.at)))
	}
	slices.Sort(out)
	return out
}

func (b *book) away(node string, from, to int64) bool {
	for _, s := range b.outages[node] {
		if to >= s.from.UnixNano() && (s.live.IsZero() || from <= s.live.UnixNano()) {
			return true
		}
	}
	return false
}

func quantile(sorted []time.Duration, q float64) string {
	if len(sorted) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Microseconds())/1000)
}
