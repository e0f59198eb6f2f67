package cache

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// rowMap leads from a key to the newest version of its row: a hash table for one writer and any number of
// readers, who take no lock. A version holds its key, so that a look-up touches two places in memory that no
// other one has touched just before: a bucket and the version.
//
// A bucket is one cache line: 7 versions and a word of 8 bytes, one byte for each version and one that
// counts the keys which were found no place in it. A key whose bucket is full lies in the next that has a place, so a
// look-up ends at the first bucket that no key has passed by, or where it began: keys come and go, and of a few buckets all may
// have been passed by.
//
//  1. A key never moves within a table, and takes its place before any reader can be told of it. So a reader
//     finds every key that is there all the time, and a walk over the table meets it exactly once.
//  2. A place is written before its byte and its byte is cleared before it: whoever sees the byte of a key that is
//     there all the time finds it. A place given to another key shows itself by the key in the version.
//  3. A table that is full is replaced by a larger copy. Who still reads the old one sees what was there when it
//     was replaced, and that is all that had been published when the reader began.
//  4. A key whose byte is there and whose place is empty has a row that is still encoded, or is about to go: whoever
//     meets it has the row decoded and looks again.
type rowMap[K comparable, T any] struct {
	hash    keyHash[K]
	table   atomic.Pointer[rowTable]
	encoded atomic.Pointer[Encoded[K, T]] // rows of the table that are still encoded; nil: none is
	len     int                           // keys; the writer's own
}

// rowTable is the buckets of a rowMap. Versions are kept as unsafe.Pointers, so that a table which nobody
// else can see yet is filled by plain writes; every one of them is a *node[K, T] of the map.
type rowTable struct{ buckets []bucket }

type bucket struct {
	bytes uint64 // one for each place, 0 if it is free; the highest counts the keys that were passed on
	_     [places * unsafe.Sizeof(uintptr(0)) % 8]byte
	heads [places]unsafe.Pointer
}

const (
	places    = 7
	perBucket = 5 // keys for each bucket at which a table is full; see bucketShare
	passedOne = 1 << 56
	passedMax = 0xff << 56 // counted no further, nor back: a look-up only goes on in vain
	lowBits   = 0x01010101010101
	highBits  = 0x80808080808080
)

func newRowMap[K comparable, T any]() *rowMap[K, T] {
	m := new(rowMap[K, T])
	m.hash.init()
	m.table.Store(newRowTable(0))
	return m
}

// newRowTable makes a table that is full with this many keys.
func newRowTable(keys int) *rowTable {
	return &rowTable{buckets: make([]bucket, max(1, (keys+perBucket-1)/perBucket))}
}

// full is the number of keys from which a table is replaced by a larger one.
func (t *rowTable) full() int { return len(t.buckets) * perBucket }

// home is the bucket that a hash leads to. Like the table it grows with the hash: copying a table walks over
// both from beginning to end.
func (t *rowTable) home(hash uint64) int {
	i, _ := bits.Mul64(hash, uint64(len(t.buckets)))
	return int(i)
}

func (t *rowTable) after(i int) int {
	if i++; i < len(t.buckets) {
		return i
	}
	return 0
}

// tagOf is the byte of a key, made of bits that home hardly looks at; never 0.
func tagOf(hash uint64) uint64 { return hash&0x7f | 0x80 }

// placesOf finds the places whose byte is the tag: the high bit of the byte of each. It may find others too.
func placesOf(bytes, tag uint64) uint64 {
	diff := bytes ^ tag*lowBits
	return (diff - lowBits) & ^diff & highBits
}

// freePlace is a place whose byte is 0, false if there is none.
func freePlace(bytes uint64) (int, bool) {
	free := ^bytes & highBits // every byte in use has its high bit set
	return bits.TrailingZeros64(free) / 8, free != 0
}

// load returns the newest version of k, nil if there is none.
func (m *rowMap[K, T]) load(k K) *node[K, T] { return m.loadHashed(m.hash.of(k), k) }

// loadHashed is load of a key of hash h.
func (m *rowMap[K, T]) loadHashed(h uint64, k K) *node[K, T] {
	t := m.table.Load()
	tag := tagOf(h)
	home := t.home(h)
	for i := home; ; {
		b := &t.buckets[i]
		bytes := atomic.LoadUint64(&b.bytes)
		for hits := placesOf(bytes, tag); hits != 0; hits &= hits - 1 {
			p := bits.TrailingZeros64(hits) / 8
			n := (*node[K, T])(atomic.LoadPointer(&b.heads[p]))
			if n == nil {
				n = m.decoded(t, i, p)
			}
			if n != nil && n.key == k {
				return n
			}
		}
		if bytes < passedOne {
			return nil
		}
		if i = t.after(i); i == home {
			return nil
		}
	}
}

// decoded returns the version at an empty place of bucket i that has a key's byte, after its row has been decoded; nil if
// the key has gone.
func (m *rowMap[K, T]) decoded(t *rowTable, i, p int) *node[K, T] {
	if e := m.encoded.Load(); e != nil && e.table == t {
		e.decode(i, p)
	}
	return (*node[K, T])(atomic.LoadPointer(&t.buckets[i].heads[p]))
}

// glance returns the newest version of k, of hash h, where it lies at the first place that may be its own, as most do.
// nil says nothing.
func (m *rowMap[K, T]) glance(h uint64, k K) *node[K, T] {
	t := m.table.Load()
	b := &t.buckets[t.home(h)]
	if hits := placesOf(atomic.LoadUint64(&b.bytes), tagOf(h)); hits != 0 {
		n := (*node[K, T])(atomic.LoadPointer(&b.heads[bits.TrailingZeros64(hits)/8]))
		if n != nil && n.key == k {
			return n
		}
	}
	return nil
}

// each calls fn for the newest version of every key until it returns false. It walks over the table of the
// moment when it is called.
func (m *rowMap[K, T]) each(fn func(head *node[K, T]) bool) {
	t := m.table.Load()
	for i := range t.buckets {
		b := &t.buckets[i]
		bytes := atomic.LoadUint64(&b.bytes)
		for p := range b.heads {
			n := (*node[K, T])(atomic.LoadPointer(&b.heads[p]))
			if n == nil && bytes>>(8*p)&0xff != 0 {
				n = m.decoded(t, i, p)
			}
			if n != nil && !fn(n) {
				return
			}
		}
	}
}

// eachDecoded is each without the rows that are still encoded.
func (m *rowMap[K, T]) eachDecoded(fn func(head *node[K, T]) bool) {
	t := m.table.Load()
	for i := range t.buckets {
		b := &t.buckets[i]
		for p := range b.heads {
			if n := (*node[K, T])(atomic.LoadPointer(&b.heads[p])); n != nil && !fn(n) {
				return
			}
		}
	}
}

// place is where a key lies in a table, as the writer found it; only good until the map is changed.
type place[K comparable, T any] struct {
	b *bucket
	i int
}

// find returns the place of k and its newest version; nil if there is none.
func (m *rowMap[K, T]) find(h uint64, k K) (place[K, T], *node[K, T]) {
	t := m.table.Load()
	home := t.home(h)
	for i := home; ; {
		b := &t.buckets[i]
		for hits := placesOf(b.bytes, tagOf(h)); hits != 0; hits &= hits - 1 {
			p := bits.TrailingZeros64(hits) / 8
			n := (*node[K, T])(atomic.LoadPointer(&b.heads[p])) // which a reader may just have decoded
			if n == nil {
				n = m.decoded(t, i, p)
			}
			if n != nil && n.key == k {
				return place[K, T]{b, p}, n
			}
		}
		if b.bytes < passedOne {
			return place[K, T]{}, nil
		}
		if i = t.after(i); i == home {
			return place[K, T]{}, nil
		}
	}
}

// touchedAtOnce is how many hashes touch takes: the processor has so many questions to memory under way.
const touchedAtOnce = 16

// touch brings most of what finding keys of these hashes looks at into the processor's cache. No look-up waits for
// another: first all buckets are asked for, then the versions in them. What it returns means nothing, and must be
// kept, lest the compiler leave it all out.
func (m *rowMap[K, T]) touch(hashes []uint64) uint64 {
	t := m.table.Load()
	var heads [touchedAtOnce]*node[K, T]
	for i, h := range hashes {
		b := &t.buckets[t.home(h)]
		if hits := placesOf(b.bytes, tagOf(h)); hits != 0 {
			heads[i] = (*node[K, T])(atomic.LoadPointer(&b.heads[bits.TrailingZeros64(hits)/8]))
		}
	}
	e := m.encoded.Load()
	if e != nil && e.table != t {
		e = nil
	}
	var all uint64
	for i, n := range heads[:len(hashes)] {
		switch {
		case n != nil:
			all |= n.ver
		case e != nil:
			all |= e.touch(hashes[i])
		}
	}
	return all
}

// touchBelow does the same for the versions below these.
func touchBelow[K comparable, T any](nodes []*node[K, T]) uint64 {
	var all uint64
	for _, n := range nodes {
		if below := n.next.Load(); below != nil {
			all |= below.ver
		}
	}
	return all
}

// set makes n the newest version at a place that its key has.
func (p place[K, T]) set(n *node[K, T]) { atomic.StorePointer(&p.b.heads[p.i], unsafe.Pointer(n)) }

// insert gives a key that is not there a place.
func (m *rowMap[K, T]) insert(h uint64, n *node[K, T]) {
	t := m.table.Load()
	if m.len >= t.full() {
		t = m.copied(2 * m.len)
		m.table.Store(t)
	}
	m.len++
	for i := t.home(h); ; i = t.after(i) {
		b := &t.buckets[i]
		if p, ok := freePlace(b.bytes); ok {
			atomic.StorePointer(&b.heads[p], unsafe.Pointer(n))
			atomic.StoreUint64(&b.bytes, b.bytes|tagOf(h)<<(8*p))
			return
		}
		if b.bytes < passedMax {
			atomic.StoreUint64(&b.bytes, b.bytes+passedOne)
		}
	}
}

// remove takes a key that is there out of the map.
func (m *rowMap[K, T]) remove(k K) {
	h := m.hash.of(k)
	at, _ := m.find(h, k)
	atomic.StoreUint64(&at.b.bytes, at.b.bytes&^(0xff<<(8*at.i)))
	at.set(nil)
	m.len--
	t := m.table.Load()
	for i := t.home(h); &t.buckets[i] != at.b; i = t.after(i) {
		if b := &t.buckets[i]; b.bytes < passedMax {
			atomic.StoreUint64(&b.bytes, b.bytes-passedOne)
		}
	}
}

// clear takes all keys out.
func (m *rowMap[K, T]) clear() {
	m.encoded.Store(nil)
	m.table.Store(newRowTable(0))
	m.len = 0
}

// shrink gives back the memory of a table that has become almost empty.
func (m *rowMap[K, T]) shrink() {
	const fewest = 64
	if full := m.table.Load().full(); full > fewest && m.len < full/8 {
		m.table.Store(m.copied(2 * m.len))
	}
}

// copied makes a table for this many keys, with those that are there.
func (m *rowMap[K, T]) copied(keys int) *rowTable {
	t := newRowTable(keys)
	m.each(func(n *node[K, T]) bool {
		h := m.hash.of(n.key)
		for i := t.home(h); !t.buckets[i].fill(h, unsafe.Pointer(n)); i = t.after(i) {
		}
		return true
	})
	return t
}

// fill is insert into a bucket that nobody else can see; false if the key has to go on to the next.
func (b *bucket) fill(h uint64, n unsafe.Pointer) bool {
	if p, ok := freePlace(b.bytes); ok {
		b.heads[p] = n
		b.bytes |= tagOf(h) << (8 * p)
		return true
	}
	if b.bytes < passedMax {
		b.bytes += passedOne
	}
	return false
}
