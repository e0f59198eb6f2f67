package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Decoding reads the encoded rows of a table. Both functions are called on any number of goroutines at once.
type Decoding[T any] struct {
	// Decode reads a row into a zero T. It shares nothing with src.
	Decode func(src []byte, into *T) error
	// Peek lends a function, for one goroutine and until done is called, that reads rows which are only looked at, into a zero T or one that it
	// has read before: what it leads to may lie in src. It refuses whatever Decode refuses.
	Peek func() (peek func(src []byte, into *T) error, done func())
	// Spoiled is called where a row turns out to be another one than it was believed to be, before the panic that
	// follows: there is no row to show to whoever asked for it. It removes what the rows came from. It may be nil.
	Spoiled func(error)
}

// Encoded is the whole content of an empty table in an encoded form, as a checkpoint has it. Each row is looked at once
// before it is believed: that finds its key and its size, and that it can be decoded. It gets its place in the table,
// and memory of its own only when somebody asks for it or [Table.Decode] comes to it. That is most of what taking it in costs, and
// none of it is left for a start to wait for.
//
// Add it with [Replacer.PutEncoded]. It belongs to the table that it was made for.
//
//  1. A place of the table that has a byte and no version has a row here, in at: where it begins, plus 1. Whoever decodes it
//     holds the bucket's lock, stores the version and forgets where the row was. So each is decoded once, all
//     that are looked for are found, and a version that has been replaced or removed never comes back.
//  2. The writer changes the place of a key only after it has found its version. What it adds takes places without a byte, which
//     have no row here.
//  3. All rows are of one version, the one that brought them. No older one lies below them.
type Encoded[K comparable, T any] struct {
	t       *Table[K, T]
	plan    Plan
	key     func(T) K
	codec   Decoding[T]
	hash    *keyHash[K]
	num     uint64
	trusted bool
	left    atomic.Int64 // not decoded yet
	table   *rowTable
	at      [][places]uint32 // by bucket
	locks   [64]paddedLock   // of buckets, in turns

	mu     sync.Mutex // guards what follows, until PutEncoded
	parts  [][]byte
	begin  []uint32 // where each part begins, if they are put one behind the other
	end    uint64
	placed int
	bytes  atomic.Int64
	lists  sync.Pool // of *[]lookedAt
}

type paddedLock struct {
	sync.Mutex
	_ [56]byte
}

// Plan announces encoded rows.
type Plan struct {
	Rows int // how many
	// Order is the order in which they come, as [Table.Plan] has named it, and then each is behind what [Table.Placing] has appended for it. 0 for none.
	Order uint64
	// Bytes is what they take once they are decoded.
	Bytes int64
	// Size is what they take at the most as they are, with their lengths and placings. Who reads them knows it.
	Size int64 `json:"-"`
}

// Plan announces the rows that a view sees, in the order in which All yields them. A table with keys of the same type can adopt
// the order: rows that come in it find their places one behind the other.
func (t *Table[K, T]) Plan(v *View) Plan {
	p := Plan{Rows: t.At(v).Len()}
	if t.store.Load() != nil {
		p.Bytes = v.open().sizes[t.id]
	}
	if t.rows.hash.integer {
		p.Order = t.rows.hash.number.Load()
	}
	return p
}

// placingLen is what a row's bucket, in 4 bytes, and the byte of its key take.
const placingLen = 5

// Placing makes a function that appends where a table of the planned rows has that of a key.
func (t *Table[K, T]) Placing(p Plan) func(dst []byte, k K) []byte {
	if p.Order == 0 {
		return func(dst []byte, _ K) []byte { return dst }
	}
	places := tableOf(p)
	return func(dst []byte, k K) []byte {
		h := t.rows.hash.of(k)
		return append(binary.LittleEndian.AppendUint32(dst, uint32(places.home(h))), byte(tagOf(h)))
	}
}

// tableOf makes the table of planned rows, and leaves it some room to grow.
func tableOf(p Plan) *rowTable { return newRowTable(p.Rows + p.Rows/4) }

// ErrManyEncoded is returned by [Encoded.Add] for more rows than were announced, or more bytes than one Encoded can hold.
var ErrManyEncoded = errors.New("cache: there are more encoded rows than were announced, or can be")

// WorthEncoding says whether the planned rows would stay encoded, and can. They do not where somebody has to look at each of them: an index, subscribers,
// or whoever looks for mutations.
func (t *Table[K, T]) WorthEncoding(p Plan) bool {
	// It waits for nothing: whoever declares an index waits for the writer, which may wait for who asks this. An index that comes later decodes the rows.
	s := t.store.Load()
	return s != nil && !t.indexed.Load() && t.sums == nil && p.Rows > t.scanAfter && p.Rows > s.opts.MaxLag &&
		p.Rows <= math.MaxUint32 && uint64(p.Size) <= math.MaxUint32
}

// Encoded makes an empty Encoded for the planned rows, whose keys key finds. With trusted their placings and Plan.Bytes are believed: the rows, key, and codec must be
// what they were when these were made, in this very build of the program. Then hardly any row is looked at before it is decoded: some
// are, to find out whether key is another function all the same.
func (t *Table[K, T]) Encoded(p Plan, trusted bool, key func(T) K, codec Decoding[T]) *Encoded[K, T] {
	e := &Encoded[K, T]{t: t, plan: p, trusted: trusted && p.Order != 0, key: key, codec: codec, hash: &t.rows.hash, table: tableOf(p)}
	if t.rows.hash.integer && p.Order != 0 {
		e.hash = &keyHash[K]{integer: true}
		e.hash.number.Store(p.Order)
	}
	e.at = make([][places]uint32, len(e.table.buckets))
	e.lists.New = func() any { return new([]lookedAt) }
	return e
}

// Add looks at some rows, each of them behind its length as a uvarint, and gives them places. src is nobody else's from now on. Any number of
// goroutines may add at once. An error is of a row, of a key that is there already, or ErrManyEncoded; the whole is worth nothing then.
func (e *Encoded[K, T]) Add(src []byte) error {
	list, _ := e.lists.Get().(*[]lookedAt)
	defer e.lists.Put(list)
	peek, done := e.codec.Peek()
	defer done()
	if e.trusted {
		looked, err := e.believe((*list)[:0], src, peek)
		*list = looked
		if err == nil {
			err = e.add(src, looked, nil)
		}
		return err
	}
	looked, bytes, err := e.look((*list)[:0], src, peek)
	*list = looked
	if err == nil {
		err = e.add(src, looked, peek)
	}
	e.bytes.Add(bytes)
	return err
}

// add gives rows of src their places. Where peek is nil all keys are known to differ.
func (e *Encoded[K, T]) add(src []byte, looked []lookedAt, peek peeking[T]) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.end+uint64(len(src)) > math.MaxUint32 || e.placed+len(looked) > e.plan.Rows {
		return ErrManyEncoded
	}
	from := uint32(e.end)
	e.parts, e.begin = append(e.parts, src), append(e.begin, from)
	e.end += uint64(len(src))
	for _, l := range looked {
		if err := e.place(l, from+l.at+1, peek); err != nil {
			return err
		}
	}
	e.placed += len(looked)
	return nil
}

// lookedAt is an encoded row: where it lies in its part, its bucket, the byte of its key, and, if it was looked at, the key's hash.
type lookedAt struct {
	hash uint64
	home uint32
	at   uint32
	tag  uint8
}

// doubted is how many rows are believed for one that is looked at.
const doubted = 32

// believe takes the rows' placings for what they say, unless one that is looked at has another.
func (e *Encoded[K, T]) believe(looked []lookedAt, src []byte, peek peeking[T]) ([]lookedAt, error) {
	n := new(node[K, T])
	for rest := src; len(rest) > 0; {
		row, next, err := SplitEncoded(rest)
		if err == nil && len(row) < placingLen {
			err = errShortEncoded
		}
		if err != nil {
			return looked, err
		}
		l := lookedAt{home: binary.LittleEndian.Uint32(row), tag: row[4], at: uint32(len(src) - len(rest))}
		if uint64(l.home) >= uint64(len(e.table.buckets)) || l.tag < 0x80 {
			return looked, errMisplaced
		}
		if len(looked)%doubted == 0 {
			if err := peek(row[placingLen:], &n.row); err != nil {
				return looked, err
			}
			if h := e.hash.of(e.key(n.row)); e.table.home(h) != int(l.home) || uint8(tagOf(h)) != l.tag {
				return looked, errMisplaced
			}
		}
		looked, rest = append(looked, l), next
	}
	return looked, nil
}

// peeking reads a row that is only looked at.
type peeking[T any] = func(src []byte, into *T) error

// look looks at the rows of src and appends where they lie. It reads some, and then finds the keys of these: a key function gets a
// copy of a row, and to copy what has just been written the processor waits until it is.
func (e *Encoded[K, T]) look(looked []lookedAt, src []byte, peek peeking[T]) (_ []lookedAt, bytes int64, err error) {
	const atOnce = 16
	some := new([atOnce]node[K, T])
	var starts [atOnce]uint32
	for rest := src; len(rest) > 0; {
		n := 0
		for ; n < atOnce && len(rest) > 0; n++ {
			row, next, err := e.split(rest)
			if err == nil {
				err = peek(row, &some[n].row)
			}
			if err != nil {
				return looked, 0, err
			}
			starts[n] = uint32(len(src) - len(rest))
			rest = next
		}
		for i := range some[:n] {
			some[i].key = e.key(some[i].row)
			h := e.hash.of(some[i].key)
			looked = append(looked, lookedAt{h, uint32(e.table.home(h)), starts[i], uint8(tagOf(h))})
			bytes += e.t.size.of(&some[i])
		}
	}
	return looked, bytes, nil
}

// keyAt finds the key of the row that begins at a place less 1.
func (e *Encoded[K, T]) keyAt(at uint32, peek peeking[T]) (k K, err error) {
	var row T
	src, _ := e.source(at)
	if err := peek(src, &row); err != nil {
		return k, err
	}
	return e.key(row), nil
}

var errShortEncoded = errors.New("cache: an encoded row is longer than its part, or shorter than it can be")

var errMisplaced = errors.New("cache: a row's key has another place than the row was given: the key function is another one")

// SplitEncoded takes the first row of some encoded ones, at least one, which stands behind its length as a uvarint.
func SplitEncoded(src []byte) (row, rest []byte, err error) {
	n, head := uint64(src[0]), 1
	if n >= 0x80 {
		n, head = binary.Uvarint(src)
	}
	if head <= 0 || n > uint64(len(src)-head) {
		return nil, nil, errShortEncoded
	}
	src = src[head:]
	return src[:n:n], src[n:], nil
}

// split is SplitEncoded of a row without its placing.
func (e *Encoded[K, T]) split(src []byte) (row, rest []byte, err error) {
	row, rest, err = SplitEncoded(src)
	if err == nil {
		row, err = e.plan.Unplaced(row)
	}
	return row, rest, err
}

// Unplaced is an encoded row without its placing.
func (p Plan) Unplaced(row []byte) ([]byte, error) {
	switch {
	case p.Order == 0:
		return row, nil
	case len(row) < placingLen:
		return nil, errShortEncoded
	}
	return row[placingLen:], nil
}

// place gives a row the first free place from its home on. Caller holds mu.
func (e *Encoded[K, T]) place(l lookedAt, at uint32, peek peeking[T]) error {
	t := e.table
	for i := int(l.home); ; i = t.after(i) {
		b := &t.buckets[i]
		if peek != nil {
			for hits := placesOf(b.bytes, uint64(l.tag)); hits != 0; hits &= hits - 1 {
				if err := e.differ(e.at[i][bits.TrailingZeros64(hits)/8], l.hash, at, peek); err != nil {
					return err
				}
			}
		}
		if p, ok := freePlace(b.bytes); ok {
			b.bytes |= uint64(l.tag) << (8 * p)
			e.at[i][p] = at
			return nil
		}
		if b.bytes < passedMax {
			b.bytes += passedOne
		}
	}
}

// differ makes sure that a row has another key than the one at a place, if there is one.
func (e *Encoded[K, T]) differ(other uint32, hash uint64, at uint32, peek peeking[T]) error {
	if other == 0 {
		return nil
	}
	k, err := e.keyAt(other, peek)
	if err != nil || e.hash.of(k) != hash {
		return err
	}
	own, err := e.keyAt(at, peek)
	if err == nil && own == k {
		err = givenTwice(e.t, k)
	}
	return err
}

// touch is part of rowMap.touch, for a key whose row may still be encoded.
func (e *Encoded[K, T]) touch(hash uint64) uint64 {
	home := e.table.home(hash)
	hits := placesOf(atomic.LoadUint64(&e.table.buckets[home].bytes), tagOf(hash))
	if hits == 0 {
		return 0
	}
	at := atomic.LoadUint32(&e.at[home][bits.TrailingZeros64(hits)/8])
	if at == 0 {
		return 0
	}
	part := e.part(at - 1)
	return uint64(e.parts[part][at-1-e.begin[part]])
}

// part finds the part that a place lies in.
func (e *Encoded[K, T]) part(at uint32) int {
	return sort.Search(len(e.begin), func(i int) bool { return e.begin[i] > at }) - 1
}

// source is the row that begins at a place less 1, and its placing.
func (e *Encoded[K, T]) source(at uint32) (row, placing []byte) {
	at--
	part := e.part(at)
	all, _, err := SplitEncoded(e.parts[part][at-e.begin[part]:])
	if err == nil {
		row, err = e.plan.Unplaced(all)
	}
	if err != nil {
		panic(err) // it was read before
	}
	return row, all[:len(all)-len(row)]
}

// PutEncoded stages encoded rows, to which nobody adds any more, instead of any others. The table must have been empty when Replace was
// called. An error says that they are not as many as were announced.
func (r *Replacer[K, T]) PutEncoded(e *Encoded[K, T]) error {
	t := r.t
	t.mustBelong(r.w)
	t.assertf(e.t == t && t.build != nil && t.build.rows == 0, "encoded rows beside others")
	if e.placed != e.plan.Rows {
		return fmt.Errorf("cache: table %s: %d encoded rows, and %d were announced", t.name, e.placed, e.plan.Rows)
	}
	e.num = r.w.num
	e.left.Store(int64(e.placed))
	bytes := e.bytes.Load()
	if e.trusted {
		bytes = e.plan.Bytes
	}
	t.build.encoded, t.build.rows, t.build.bytes = e, e.placed, bytes
	t.held.Add(bytes)
	t.count(r.w, e.placed, bytes)
	return nil
}

// adopt makes encoded rows those of a map without keys.
func (m *rowMap[K, T]) adopt(e *Encoded[K, T]) {
	m.hash.number.Store(e.hash.number.Load())
	m.len = e.placed
	if e.placed > 0 {
		m.encoded.Store(e)
	}
	m.table.Store(e.table)
}

// decode makes a version of the row at a place of a bucket, if there is one.
func (e *Encoded[K, T]) decode(bucket, p int) {
	lock := &e.locks[bucket%len(e.locks)]
	lock.Lock()
	defer lock.Unlock()
	at := &e.at[bucket][p]
	if *at == 0 {
		return
	}
	n := &node[K, T]{ver: e.num}
	src, placing := e.source(*at)
	if err := e.codec.Decode(src, &n.row); err != nil {
		e.spoiled(fmt.Errorf("an encoded row cannot be read: %w", err))
	}
	n.key = e.key(n.row)
	if h := e.hash.of(n.key); e.trusted && (int(binary.LittleEndian.Uint32(placing)) != e.table.home(h) || placing[4] != uint8(tagOf(h))) {
		e.spoiled(errMisplaced)
	}
	atomic.StorePointer(&e.table.buckets[bucket].heads[p], unsafe.Pointer(n))
	atomic.StoreUint32(at, 0)
	if e.left.Add(-1) == 0 {
		e.t.rows.encoded.CompareAndSwap(e, nil)
	}
}

// spoiled panics: what was believed of a row is not true. Rows that were looked at are what they were; of those that are trusted
// this build of the program has written each.
func (e *Encoded[K, T]) spoiled(err error) {
	err = fmt.Errorf("cache: table %s: %w", e.t.name, err)
	if e.codec.Spoiled != nil {
		e.codec.Spoiled(err)
	}
	panic(err)
}

// Decode decodes what is still encoded, until ctx ends. Readers do not wait for it for longer than a row takes, nor does a writer; but one
// whose row makes the table grow, or shrink, decodes all that are left.
func (t *Table[K, T]) Decode(ctx context.Context) {
	const atOnce = 64
	e := t.rows.encoded.Load()
	if e == nil {
		return
	}
	for i := range e.table.buckets {
		if i%atOnce == 0 && ctx.Err() != nil {
			return
		}
		b := &e.table.buckets[i]
		for p := range b.heads {
			if atomic.LoadPointer(&b.heads[p]) == nil && atomic.LoadUint64(&b.bytes)>>(8*p)&0xff != 0 {
				e.decode(i, p)
			}
		}
	}
}

// EncodedRows is how many rows are still encoded.
func (t *Table[K, T]) EncodedRows() int {
	if e := t.rows.encoded.Load(); e != nil {
		return int(e.left.Load())
	}
	return 0
}

// Decode decodes the rows of all tables that are still encoded, until ctx ends. See [Encoded].
func (s *Store) Decode(ctx context.Context) {
	for _, t := range s.tables {
		t.Decode(ctx)
	}
}

// EncodedRows is how many rows of all tables are still encoded.
func (s *Store) EncodedRows() (n int) {
	for _, t := range s.tables {
		n += t.EncodedRows()
	}
	return n
}
