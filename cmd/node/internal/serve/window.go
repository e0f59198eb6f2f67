package serve

import (
	"slices"
	"sync"
)

// told is one change as clients are told of it: the lines of an event, without
// its id and its end.
type told struct {
	table int // its place in Tables
	lines []byte
}

// toldCut is what one cut changed.
type toldCut struct {
	rev   uint64
	list  []told
	bytes int
}

// Each cut and each change takes this much besides its lines, about.
const cutOverhead, changeOverhead = 96, 40

func (c *toldCut) add(t told) {
	c.list = append(c.list, t)
	c.bytes += len(t.lines) + changeOverhead
}

// window holds the newest cuts that were told, bounded in bytes, for all
// streams together: a stream is a revision and nothing more.
type window struct {
	limit int

	mu     sync.Mutex
	kept   []toldCut
	bytes  int
	floor  uint64 // every cut above it is in kept, or yet to come
	ended  bool
	change chan struct{} // closed at the next change

	begun chan struct{} // closed once floor is known, or never will be
	once  sync.Once
}

func newWindow(limit int) *window {
	return &window{limit: limit, change: make(chan struct{}), begun: make(chan struct{})}
}

// add takes a cut in, and lets go of the oldest ones for it. One that is
// larger than the window leaves nothing in it.
func (w *window) add(c toldCut) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.bytes += cutOverhead
	w.kept = append(w.kept, c)
	w.bytes += c.bytes
	drop := 0
	for ; w.bytes > w.limit; drop++ {
		w.bytes -= w.kept[drop].bytes
		w.floor = w.kept[drop].rev
	}
	clear(w.kept[:drop])
	w.kept = w.kept[drop:]
	w.tell()
}

// restart empties the window: what led to this revision is not known.
func (w *window) restart(rev uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept, w.bytes, w.floor = nil, 0, rev
	w.once.Do(func() { close(w.begun) })
	w.tell()
}

// end tells the streams that nothing comes any more.
func (w *window) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.once.Do(func() { close(w.begun) })
	w.tell()
}

// tell wakes whoever waits. Caller holds mu.
func (w *window) tell() {
	close(w.change)
	w.change = make(chan struct{})
}

// found is what the window has for a stream.
type found int

const (
	nothing found = iota // yet
	someCut
	gone // what comes next is not in the window any more
	over // nothing comes any more
)

// after returns the cut that follows a revision, or a channel that is closed
// when there is news.
func (w *window) after(rev uint64) (c toldCut, f found, news <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch i, _ := slices.BinarySearchFunc(w.kept, rev+1, func(c toldCut, rev uint64) int {
		if c.rev < rev {
			return -1
		}
		return 1
	}); {
	case w.ended:
		return c, over, nil
	case rev < w.floor:
		return c, gone, nil
	case i < len(w.kept):
		return w.kept[i], someCut, nil
	}
	return c, nothing, w.change
}

// size is the memory of the window, about.
func (w *window) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}
