package cache

// Origin says which transaction an event came from, and the event's place in the log.
type Origin struct {
	Xid uint64
	Seq int64
}

// Writer stages the next version. It belongs to one goroutine. Nothing staged is visible until Publish.
type Writer struct {
	s     *Store
	num   uint64 // of the version being staged
	order uint32 // of changes across tables
	ended bool
}

// Begin starts the next version. It waits while another writer is at work.
func (s *Store) Begin() *Writer {
	s.writing.Lock()
	return &Writer{s: s, num: s.cur.Load().num + 1}
}

// Bytes is what the rows and indexes of all tables would take if the writer published now, without
// superseded versions; see [Table.Bytes] for what counts.
func (w *Writer) Bytes() int64 {
	n := w.s.bytes
	for _, t := range w.s.tables {
		n += t.indexBytes()
	}
	return n
}

// Publish makes everything staged visible in one step across all tables, wakes the subscribers and returns
// the new revision. The meta given is what [View.Meta] and [Tx].Meta return for this version. Publishing
// an ended writer panics, and so does publishing before a Replace of an empty table is Done.
func (w *Writer) Publish(meta any) uint64 {
	w.mustBeOpen()
	s := w.s
	for _, t := range s.tables {
		if t.replacing() {
			panic("cache: Publish before a Replace of table " + t.Name() + " is Done")
		}
	}
	prev := s.cur.Load()
	s.cur.Store(s.newState(w.num, meta))
	s.old = append(s.old, prev)

	// After the version is visible, not before: a subscriber joins a feed first and pins second, so that
	// what it did not find in the rows is in the feed.
	c := &cut{rev: w.num, meta: meta}
	for _, t := range s.tables {
		if p := t.takeChanges(w.num); p != nil {
			c.parts = append(c.parts, p)
		}
	}
	if len(c.parts) > 0 {
		s.txs.add(c, c.weight(s.opts.MaxLag))
	}
	s.collect()
	w.end()
	return w.num
}

// Abort undoes everything staged. Aborting an ended writer does nothing, so that it can be deferred.
func (w *Writer) Abort() {
	if w.ended {
		return
	}
	prev := w.s.cur.Load()
	w.s.bytes = 0
	for i, t := range w.s.tables {
		t.unstage(prev)
		w.s.bytes += prev.sizes[i]
	}
	w.s.collect()
	w.end()
}

func (w *Writer) end() {
	w.ended = true
	w.s.writing.Unlock()
}

func (w *Writer) mustBeOpen() {
	if w.ended {
		panic("cache: Writer used after Publish or Abort")
	}
}

// Put stages the row of key k. The row's slices, maps and pointees are shared from now on and must not be
// changed by anybody.
func (t *Table[K, T]) Put(w *Writer, o Origin, k K, row T) {
	t.mustBelong(w)
	t.put(w, change[K, T]{key: k, origin: o}, &node[K, T]{ver: w.num, key: k, row: row})
}

// Batch makes an empty batch for PutBatch.
func (t *Table[K, T]) Batch() *Batch[K, T] { return newBatch(t, 0, 0) }

// PutBatch is a Put of each row that was added to the batch, in their order, and leaves it empty. In a large table it takes a
// fraction of the time: a row's place lies in memory that has not been touched for long, twice, and here the processor waits
// for many of them at once.
func (t *Table[K, T]) PutBatch(w *Writer, b *Batch[K, T]) {
	t.mustBelong(w)
	b.rehash()
	for i, n := range b.nodes {
		if i%touchedAtOnce == 0 {
			t.stage.seen = t.rows.touch(b.hashes[i:min(i+touchedAtOnce, len(b.hashes))])
		}
		n.ver = w.num
		t.putHashed(w, change[K, T]{key: n.key, origin: b.origins[i]}, n, b.hashes[i])
	}
	b.Drop()
}

// Delete stages the absence of key k. A key that the writer does not see is left alone.
func (t *Table[K, T]) Delete(w *Writer, o Origin, k K) {
	t.mustBelong(w)
	t.remove(w, change[K, T]{key: k, origin: o})
}

// Clear stages the absence of every row, one Delete each.
func (t *Table[K, T]) Clear(w *Writer, o Origin) {
	t.mustBelong(w)
	for head := range t.rows.each {
		t.remove(w, change[K, T]{key: head.key, origin: o})
	}
}

// Lookup returns the row of key k as the writer sees it, with what it has staged.
func (t *Table[K, T]) Lookup(w *Writer, k K) (T, bool) {
	t.mustBelong(w)
	if head := t.rows.load(k); head.live() {
		return head.row, true
	}
	var none T
	return none, false
}

func (t *Table[K, T]) mustBelong(w *Writer) {
	w.mustBeOpen()
	if t.store.Load() != w.s {
		panic("cache: table " + t.name + " is not in the Writer's store")
	}
}

// put stages a version that is a row and records the change c, of which key, origin and resync are given.
func (t *Table[K, T]) put(w *Writer, c change[K, T], n *node[K, T]) {
	t.putHashed(w, c, n, t.rows.hash.of(n.key))
}

// putHashed is put of a version whose key has the hash h.
func (t *Table[K, T]) putHashed(w *Writer, c change[K, T], n *node[K, T], h uint64) {
	t.fingerprint(n)
	at, head := t.rows.find(h, n.key)
	c.old, c.new = t.link(w, n, head, h, at), n
	t.account(w, c.old, n)
	t.record(w, c)
}

// remove stages a tombstone and records the change c, if the writer sees a row.
func (t *Table[K, T]) remove(w *Writer, c change[K, T]) {
	h := t.rows.hash.of(c.key)
	at, head := t.rows.find(h, c.key)
	if !head.live() {
		return
	}
	n := &node[K, T]{ver: w.num | tombstone, key: c.key}
	c.old = t.link(w, n, head, h, at)
	t.account(w, c.old, nil)
	t.record(w, c)
}

// link makes n the newest version of its key, above head, which was found at a place, and returns the row it takes the
// place of, nil if there was none. A version staged before by this writer is replaced: nobody can have seen it.
func (t *Table[K, T]) link(w *Writer, n, head *node[K, T], hash uint64, at place[K, T]) (old *node[K, T]) {
	below, again := head, head != nil && head.version() == w.num
	if again {
		below = head.next.Load()
	}
	n.next.Store(below)
	t.held.Add(t.size.of(n))
	for _, x := range t.indexes {
		x.add(n, head)
	}
	if head != nil {
		at.set(n)
	} else {
		t.rows.insert(hash, n)
	}
	// Before anything that may panic: Abort takes out what is listed.
	t.stage.touch(n, t.scanLimit())
	t.stage.dirty = t.stage.dirty || below != nil || !n.live()
	if again {
		t.drop(head, n)
		t.stage.replaced(t.dead)
	}
	if head.live() {
		return head
	}
	return nil
}

// drop forgets a version that has just been unlinked from the chain that begins at head.
func (t *Table[K, T]) drop(gone, head *node[K, T]) {
	gone.next.Store(t.dead)
	t.held.Add(-t.size.of(gone))
	t.checkFingerprint(gone, true)
	for _, x := range t.indexes {
		x.drop(gone, head)
	}
}

// account moves the writer's counters from one row to another; nil is no row.
func (t *Table[K, T]) account(w *Writer, from, to *node[K, T]) {
	if from != nil {
		t.count(w, -1, -t.size.of(from))
	}
	if to != nil {
		t.count(w, 1, t.size.of(to))
	}
}

func (t *Table[K, T]) count(w *Writer, rows int, bytes int64) {
	t.len += rows
	t.bytes += bytes
	w.s.bytes += bytes
}
