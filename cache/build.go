package cache

import (
	"iter"
	"math/bits"
	"runtime"
	"sync"
	"unsafe"
)

// batchRows is how many rows Put collects before it makes a new batch.
const batchRows = 256

// Batch is rows on their way into a table. It may be filled on any goroutine, one at a time, before
// [Replacer.PutBatch] or [Table.PutBatch] takes it. A Replace may have several in work.
type Batch[K comparable, T any] struct {
	num     uint64 // of a Replace's versions
	hash    *keyHash[K]
	seed    uint64 // of the first hash
	size    *sizing[K, T]
	next    *node[K, T] // what New has given out
	nodes   []*node[K, T]
	hashes  []uint64
	origins []Origin // of what AddFrom has added
	bytes   int64    // of what Add has added
}

func newBatch[K comparable, T any](t *Table[K, T], num uint64, rows int) *Batch[K, T] {
	return &Batch[K, T]{
		num: num, hash: &t.rows.hash, size: &t.size,
		nodes: make([]*node[K, T], 0, rows), hashes: make([]uint64, 0, rows),
	}
}

// New returns a zero row to fill in, where the table will have it. Without an Add it is given again.
func (b *Batch[K, T]) New() *T {
	if b.next != nil {
		var zero T
		b.next.row = zero
	} else {
		b.next = &node[K, T]{ver: b.num}
	}
	return &b.next.row
}

// Add takes the row of the last New into the batch, under its key. From now on nobody may change it.
func (b *Batch[K, T]) Add(k K) {
	b.bytes += b.size.of(b.add(k))
}

// AddFrom is Add for a batch of [Table.Batch], with the event that brought the row.
func (b *Batch[K, T]) AddFrom(o Origin, k K) {
	b.add(k)
	b.origins = append(b.origins, o)
}

func (b *Batch[K, T]) add(k K) *node[K, T] {
	n := b.next
	n.key = k
	if len(b.hashes) == 0 {
		b.seed = b.hash.number.Load()
	}
	b.nodes, b.hashes, b.next = append(b.nodes, n), append(b.hashes, b.hash.of(k)), nil
	return n
}

// rehash hashes again where the table has taken over another seed since the first row was added.
func (b *Batch[K, T]) rehash() {
	if len(b.hashes) == 0 || b.seed == b.hash.number.Load() {
		return
	}
	for i, n := range b.nodes {
		b.hashes[i] = b.hash.of(n.key)
	}
}

// Drop forgets what was added.
func (b *Batch[K, T]) Drop() {
	clear(b.nodes)
	b.nodes, b.hashes, b.origins = b.nodes[:0], b.hashes[:0], b.origins[:0]
}

// Len is the number of rows in the batch.
func (b *Batch[K, T]) Len() int { return len(b.nodes) }

// build is the rows of an empty table's Replace until it is done.
type build[K comparable, T any] struct {
	batches []*Batch[K, T]
	encoded *Encoded[K, T] // instead of batches
	rows    int
	bytes   int64
}

// collect takes a batch into the build. Its rows count from now on.
func (r *Replacer[K, T]) collect(b *Batch[K, T]) {
	t := r.t
	if len(b.nodes) == 0 {
		return
	}
	t.build.batches = append(t.build.batches, b)
	t.build.rows += len(b.nodes)
	t.build.bytes += b.bytes
	t.held.Add(b.bytes)
	t.count(r.w, len(b.nodes), b.bytes)
	if t.sums != nil {
		for _, n := range b.nodes {
			t.fingerprint(n)
		}
	}
}

// dropBuild forgets what was collected and not built.
func (t *Table[K, T]) dropBuild() {
	if t.build == nil {
		return
	}
	t.held.Add(-t.build.bytes)
	if t.sums != nil {
		for _, b := range t.build.batches {
			for _, n := range b.nodes {
				t.checkFingerprint(n, true)
			}
		}
	}
	t.build = nil
}

// finishBuild makes the collected rows the table's. They are staged versions: until they are published readers
// pass them by.
func (t *Table[K, T]) finishBuild(w *Writer) error {
	t.assertf(t.rows.len == 0, "something was staged while an empty table was replaced")
	b := t.build
	if b.encoded != nil {
		t.assertf(len(b.batches) == 0, "encoded rows beside others")
		t.rows.adopt(b.encoded)
	} else if twice := t.rows.fill(b.batches, b.rows); twice != nil {
		return givenTwice(t, twice.key)
	}
	t.build = nil
	touched := t.stage.touchMany(b.rows, t.scanAfter)
	recorded := t.recordMany(w, b.rows)
	if !touched && !recorded && len(t.indexes) == 0 && t.sums == nil {
		return nil
	}
	for n := range b.each(t.rows) {
		for _, x := range t.indexes {
			x.add(n, nil)
		}
		if b.encoded != nil {
			t.fingerprint(n)
		}
		if touched {
			t.stage.touch(n, t.scanLimit())
		}
		if recorded {
			t.record(w, change[K, T]{key: n.key, new: n, resync: true})
		}
	}
	return nil
}

// each yields the rows as they came, or decodes them all.
func (b *build[K, T]) each(rows *rowMap[K, T]) iter.Seq[*node[K, T]] {
	return func(yield func(*node[K, T]) bool) {
		if b.encoded != nil {
			rows.each(yield)
			return
		}
		for _, batch := range b.batches {
			for _, n := range batch.nodes {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// filling is a table that is being filled, in parts. Nobody else can see it.
type filling[K comparable, T any] struct {
	table   *rowTable
	batches []*Batch[K, T]
}

// fillingPart is a range of buckets, filled by one goroutine.
type fillingPart[K comparable, T any] struct {
	from, to int
	over     []hashed[K, T] // found no place up to the end of the range
	twice    *node[K, T]    // its key was there
}

type hashed[K comparable, T any] struct {
	n    *node[K, T]
	hash uint64
}

// fill gives the rows of batches their places in a map without keys. It returns a row whose key another one
// has too, and has changed nothing then.
//
// Each goroutine takes the rows that lead into its range, in the order of the buckets: taken as they come, almost every one
// would wait for memory. The few that find the end of a range full are placed when all have ended.
func (m *rowMap[K, T]) fill(batches []*Batch[K, T], rows int) (twice *node[K, T]) {
	const rowsEach = 1 << 14 // fewer are not worth a goroutine
	f := filling[K, T]{newRowTable(rows + rows/4), batches}
	buckets := len(f.table.buckets)
	parts := make([]fillingPart[K, T], max(1, min(runtime.GOMAXPROCS(0), rows/rowsEach)))
	var wg sync.WaitGroup
	for i := range parts {
		p := &parts[i]
		p.from, p.to = i*buckets/len(parts), (i+1)*buckets/len(parts)
		wg.Go(func() { f.fill(p) })
	}
	wg.Wait()
	for i := range parts {
		p := &parts[i]
		for _, o := range p.over {
			at := p.to % buckets
			for ; p.twice == nil && !f.place(at, o.hash, o.n, &p.twice); at = f.table.after(at) {
			}
		}
		if p.twice != nil {
			return p.twice
		}
	}
	m.table.Store(f.table)
	m.len = rows
	return nil
}

// spanBuckets is how many buckets are filled at a time: they and their rows' entries stay in the processor's cache.
const spanBuckets = 1 << 12

// fill sorts the rows of its range by spans of buckets and then fills one span after the other.
func (f *filling[K, T]) fill(p *fillingPart[K, T]) {
	sorted := f.sort(p)
	for _, o := range sorted {
		for at := f.table.home(o.hash); !f.place(at, o.hash, o.n, &p.twice); {
			if p.twice != nil {
				return
			}
			if at++; at == p.to {
				p.over = append(p.over, o)
				break
			}
		}
	}
}

// sort finds the rows that lead into the range, those of a span together.
func (f *filling[K, T]) sort(p *fillingPart[K, T]) []hashed[K, T] {
	next := make([]int, (p.to-p.from)/spanBuckets+2) // next[i+1] counts span i, then next[i] is its next place
	for _, b := range f.batches {
		for _, hash := range b.hashes {
			if at := f.table.home(hash); at >= p.from && at < p.to {
				next[(at-p.from)/spanBuckets+1]++
			}
		}
	}
	for i := 1; i < len(next); i++ {
		next[i] += next[i-1]
	}
	sorted := make([]hashed[K, T], next[len(next)-1])
	for _, b := range f.batches {
		for i, hash := range b.hashes {
			if at := f.table.home(hash); at >= p.from && at < p.to {
				span := &next[(at-p.from)/spanBuckets]
				sorted[*span] = hashed[K, T]{b.nodes[i], hash}
				*span++
			}
		}
	}
	return sorted
}

// place puts a row into a bucket, or says that it is full; twice is set if the key is there.
func (f *filling[K, T]) place(at int, hash uint64, n *node[K, T], twice **node[K, T]) bool {
	b := &f.table.buckets[at]
	for hits := placesOf(b.bytes, tagOf(hash)); hits != 0; hits &= hits - 1 {
		if other := (*node[K, T])(b.heads[bits.TrailingZeros64(hits)/8]); other != nil && other.key == n.key {
			*twice = n
			return false
		}
	}
	return b.fill(hash, unsafe.Pointer(n))
}
