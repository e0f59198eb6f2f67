package cache

import "sync"

// feed is the shared change log of one table, or of the store: cuts in the order of publication, kept as
// long as some cursor has yet to take them and at most limit changes of them. A subscriber is a cursor
// into it and nothing more. The mutex is held for moments only, never while a caller's code runs.
type feed[C any] struct {
	limit int

	mu      sync.Mutex
	cursors map[*cursor]struct{}
	first   uint64 // place of kept[0]; places count cuts since ever
	kept    []keptCut[C]
	atEnd   int    // cursors that have taken everything
	total   uint64 // changes since ever
}

// keptCut is a cut in the log.
type keptCut[C any] struct {
	cut     C
	before  uint64 // changes before this cut since ever
	waiting int    // cursors that take this cut next
}

// cursor is a subscriber's place.
type cursor struct {
	next uint64        // place of the cut to take next; guarded by feed.mu
	wake chan struct{} // holds a token when there may be something to take
}

func (f *feed[C]) end() uint64 { return f.first + uint64(len(f.kept)) }

// join returns a cursor that takes what is added from now on. Pin a state after joining: then nothing lies
// between what the state holds and what the cursor takes.
func (f *feed[C]) join() *cursor {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cursors == nil {
		f.cursors = make(map[*cursor]struct{})
	}
	c := &cursor{next: f.end(), wake: make(chan struct{}, 1)}
	f.cursors[c] = struct{}{}
	f.atEnd++
	return c
}

// leave ends a cursor.
func (f *feed[C]) leave(c *cursor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.move(c, f.end())
	delete(f.cursors, c)
	f.atEnd--
}

// rejoin moves a cursor to the end, giving up what it has not taken.
func (f *feed[C]) rejoin(c *cursor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.move(c, f.end())
}

// add appends a cut of n changes and wakes everybody. A cut above the limit is not kept, nor is anything
// before it: every cursor is then lost.
func (f *feed[C]) add(c C, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = append(f.kept, keptCut[C]{cut: c, before: f.total, waiting: f.atEnd})
	f.atEnd = 0
	f.total += uint64(n)
	for len(f.kept) > 0 && f.total-f.kept[0].before > uint64(f.limit) {
		f.dropFirst()
	}
	f.trim()
	for c := range f.cursors {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// take moves the cursor over the next cut, or over all of them if more than coalesceAfter changes are
// pending in more than one. It reports lost if the log no longer holds what comes next.
func (f *feed[C]) take(c *cursor, coalesceAfter int) (cuts []C, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.next < f.first:
		return nil, true
	case c.next == f.end():
		return nil, false
	}
	list := f.kept[c.next-f.first:]
	if f.total-list[0].before <= uint64(coalesceAfter) {
		list = list[:1]
	}
	cuts = make([]C, len(list))
	for i := range list {
		cuts[i] = list[i].cut
	}
	f.move(c, c.next+uint64(len(list)))
	return cuts, false
}

// move sets a cursor's place and drops what nobody waits for any more.
func (f *feed[C]) move(c *cursor, to uint64) {
	switch {
	case c.next == f.end():
		f.atEnd--
	case c.next >= f.first:
		f.kept[c.next-f.first].waiting--
	}
	c.next = to
	if to == f.end() {
		f.atEnd++
	} else {
		f.kept[to-f.first].waiting++
	}
	f.trim()
}

// trim drops the cuts at the front that every cursor has taken.
func (f *feed[C]) trim() {
	for len(f.kept) > 0 && f.kept[0].waiting == 0 {
		f.dropFirst()
	}
}

func (f *feed[C]) dropFirst() {
	f.kept[0] = keptCut[C]{}
	f.kept = f.kept[1:]
	f.first++
	if len(f.kept) == 0 {
		f.kept = nil
	}
}
