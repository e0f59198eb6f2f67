package replay

import (
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/cache"
)

// Table is one cache table as the engine sees it, without its types. Binding
// implements it. The engine calls it from one goroutine.
type Table interface {
	// Name is the registered name, as outbox.Event.Table has it.
	Name() string
	// Put reads the row and stores it, at the latest with the next Flush. An error means that the row could not
	// be read, and nothing of it is stored.
	Put(w *cache.Writer, o cache.Origin, row pgx.CollectableRow) error
	// Flush stores what Put has read. It comes before whatever else stores or removes rows, of this table or another, and before
	// the writer is published; Drop forgets what was read for one that is aborted.
	Flush(w *cache.Writer)
	Drop()
	// Delete reads the row, which may hold its key columns only, and removes
	// the row of that key, if it is there.
	Delete(w *cache.Writer, o cache.Origin, row pgx.CollectableRow) error
	// Clear removes all rows.
	Clear(w *cache.Writer, o cache.Origin)
	// BeginReplace begins a load: the rows that follow are all there are. A
	// load that was begun and not ended is forgotten with its writer.
	BeginReplace(w *cache.Writer)
	// ReplaceRow reads and stores one row of the load.
	ReplaceRow(row pgx.CollectableRow) error
	// EndReplace ends it: whatever it did not bring is removed. An error means
	// that the rows cannot be a table: two have one key. The writer is aborted then.
	EndReplace() error
	// Freeze prepares to write the table into a checkpoint, and to read it back
	// from one, as it is laid out now. An error says why it cannot be in one.
	Freeze() (Frozen, error)
	// FreezeAs prepares to read it back before its layout is known, as if it were the one that the shape in a checkpoint was made of. An
	// error says that it cannot be known beforehand.
	FreezeAs(shape string) (Frozen, error)
}

// Frozen is a table as checkpoints see it.
type Frozen interface {
	// Shape names what the encoded rows are made of: the row's type and the
	// columns. Rows of another shape are never read.
	Shape() string
	// Save encodes the rows that the view sees and calls put with each; the bytes
	// are put's until it returns. ErrUnfit is wrapped where a row cannot be encoded;
	// other errors are put's. It may run beside the engine.
	Save(v *cache.View, put func(row []byte) error) error
	// Plan announces what Save will put.
	Plan(v *cache.View) Plan
	// Thaw reads some encoded rows that a plan has announced, on any number of goroutines at once. stage stages them,
	// on the engine's. Both come between BeginReplace and EndReplace of the table.
	Thaw(p Plan, rows EncodedRows) (stage func() error, err error)
	// Keep prepares to take all rows in without decoding them. nil: they are to be thawed.
	Keep(p Plan, spoiled func(error)) Kept
}

// Kept is a table's rows that stay encoded until they are read, see [cache.Encoded].
type Kept interface {
	// Add looks at some encoded rows and finds what is wrong with them, on any number of goroutines at once.
	Add(rows EncodedRows) error
	// Stage stages all of them, between BeginReplace and EndReplace of the table.
	Stage() error
}

// Plan announces the encoded rows of a table.
type Plan struct {
	cache.Plan
	// Program is the build of the program that has made them, "" where it cannot be told from others, or other builds need not fear it.
	Program string
}

// EncodedRows is some encoded rows, each behind its length as a uvarint.
type EncodedRows []byte

// Each calls fn for each row until it returns an error. Where a length leads behind the end of the rows it says so.
func (e EncodedRows) Each(fn func(row []byte) error) error {
	for len(e) > 0 {
		row, rest, err := cache.SplitEncoded(e)
		if err == nil {
			err = fn(row)
		}
		if err != nil {
			return err
		}
		e = rest
	}
	return nil
}

// ErrUnfit is wrapped by the errors of Frozen.Save that say why a row cannot be in a checkpoint.
var ErrUnfit = errors.New("replay: it cannot be written to a checkpoint")

// Binding ties a cache table to the rows of the log.
//
// A row that has a method Value() any which returns a T is used as that T, and
// Row is not called: tests and fakes hand over Go values that way.
type Binding[K comparable, T any] struct {
	Table *cache.Table[K, T]
	// Key is the row's key. It is also called for a row of which only the key
	// columns were read.
	Key func(T) K
	// Row reads a row into a zero T. Columns that the row does not have stay untouched.
	Row func(row pgx.CollectableRow, into *T) error
	// Equal tells a load which rows have not changed. Where it is nil, every
	// row that is loaded again counts as changed.
	Equal func(a, b T) bool
	// Codec encodes rows for checkpoints, as the table is laid out when it is
	// called. An error says why there is none; nil: they are never in one.
	Codec func() (Codec[T], error)
	// CodecOf is Codec for the layout that a shape was made of; nil: the layout has to be known.
	CodecOf func(shape string) (Codec[T], error)

	read  *cache.Batch[K, T] // by Put, and not stored yet
	load  *cache.Replacer[K, T]
	batch *cache.Batch[K, T] // rows of the load
}

// putAtOnce is how many rows of events are stored at once.
const putAtOnce = 32

// loadBatch is how many rows of a load are staged at once.
const loadBatch = 64

// Codec encodes rows and reads them again. Encode is used by one goroutine at a time.
type Codec[T any] struct {
	// Shape names the type of the rows and all that their encoded form depends on.
	Shape string
	// Encode appends an encoded row.
	Encode func(dst []byte, row T) ([]byte, error)
	// Decoder makes a function that makes the row that was encoded of a zero T, as a
	// load would make it. The function is used by one goroutine at a time; several, and
	// Encode, may be in use at once. src is nobody else's and is never changed.
	Decoder func() func(src []byte, into *T) error
	// Peeker makes a function that does the same, also into a T that it has read before, for a row which is only looked at: what that leads to may lie in
	// src. It refuses what Decoder's refuses. nil: each row has to be decoded at once.
	Peeker func() func(src []byte, into *T) error
	// Program is this build of the program, where that is all that the meaning of encoded rows depends on: what one process of it finds out about them
	// another one may believe. "" where it is not, or not known.
	Program string
}

// Name is the name of the cache table.
func (b *Binding[K, T]) Name() string { return b.Table.Name() }

// Put implements Table.
func (b *Binding[K, T]) Put(w *cache.Writer, o cache.Origin, row pgx.CollectableRow) error {
	if b.read == nil {
		b.read = b.Table.Batch()
	}
	into := b.read.New()
	if err := b.scan(row, into); err != nil {
		return err
	}
	b.read.AddFrom(o, b.Key(*into))
	if b.read.Len() == putAtOnce || b.Table.DetectsMutation() { // which looks at a row from here on
		b.Flush(w)
	}
	return nil
}

// Flush implements Table.
func (b *Binding[K, T]) Flush(w *cache.Writer) {
	if b.read != nil {
		b.Table.PutBatch(w, b.read)
	}
}

// Drop implements Table.
func (b *Binding[K, T]) Drop() {
	if b.read != nil {
		b.read.Drop()
	}
}

// Delete implements Table.
func (b *Binding[K, T]) Delete(w *cache.Writer, o cache.Origin, row pgx.CollectableRow) error {
	var v T
	if err := b.scan(row, &v); err != nil {
		return err
	}
	b.Table.Delete(w, o, b.Key(v))
	return nil
}

// Clear implements Table.
func (b *Binding[K, T]) Clear(w *cache.Writer, o cache.Origin) { b.Table.Clear(w, o) }

// BeginReplace implements Table.
func (b *Binding[K, T]) BeginReplace(w *cache.Writer) {
	b.load = b.Table.Replace(w, b.Equal)
	b.batch = b.load.Batch(loadBatch)
}

// ReplaceRow implements Table.
func (b *Binding[K, T]) ReplaceRow(row pgx.CollectableRow) error {
	into := b.batch.New()
	if err := b.scan(row, into); err != nil {
		return err
	}
	b.batch.Add(b.Key(*into))
	if b.batch.Len() < loadBatch {
		return nil
	}
	return b.stageBatch()
}

func (b *Binding[K, T]) stageBatch() error {
	full := b.batch
	b.batch = b.load.Batch(loadBatch)
	return b.load.PutBatch(full)
}

// EndReplace implements Table.
func (b *Binding[K, T]) EndReplace() error {
	err := b.stageBatch()
	if err == nil {
		err = b.load.Done()
	}
	b.load, b.batch = nil, nil
	return err
}

func (b *Binding[K, T]) scan(row pgx.CollectableRow, into *T) error {
	if given, ok := row.(interface{ Value() any }); ok {
		v, ok := given.Value().(T)
		if !ok {
			return fmt.Errorf("replay: the row is a %T, not a %T", given.Value(), v)
		}
		*into = v
		return nil
	}
	return b.Row(row, into)
}

// Freeze implements Table.
func (b *Binding[K, T]) Freeze() (Frozen, error) {
	if b.Codec == nil {
		return nil, errors.New("its rows cannot be encoded")
	}
	return b.frozen(b.Codec())
}

// FreezeAs implements Table.
func (b *Binding[K, T]) FreezeAs(shape string) (Frozen, error) {
	if b.CodecOf == nil {
		return nil, errors.New("its layout has to be known")
	}
	return b.frozen(b.CodecOf(shape))
}

func (b *Binding[K, T]) frozen(codec Codec[T], err error) (Frozen, error) {
	if err != nil {
		return nil, err
	}
	f := &frozen[K, T]{b: b, codec: codec}
	f.decoders.New = func() any { return codec.Decoder() }
	f.peekers.New = func() any { return codec.Peeker() }
	return f, nil
}

type frozen[K comparable, T any] struct {
	b        *Binding[K, T]
	codec    Codec[T]
	decoders sync.Pool // of what codec.Decoder makes
	peekers  sync.Pool // of what codec.Peeker makes
}

// lend takes a function out of its pool until done is called.
func lend[T any](pool *sync.Pool) (read func(src []byte, into *T) error, done func()) {
	read, _ = pool.Get().(func(src []byte, into *T) error)
	return read, func() { pool.Put(read) }
}

func (f *frozen[K, T]) Shape() string { return f.codec.Shape }

func (f *frozen[K, T]) Save(v *cache.View, put func(row []byte) error) error {
	var buf []byte
	placing := f.b.Table.Placing(f.b.Table.Plan(v))
	for k, row := range f.b.Table.At(v).All() {
		var err error
		if buf, err = f.codec.Encode(placing(buf[:0], k), row); err != nil {
			return fmt.Errorf("%w: the row of key %v: %w", ErrUnfit, k, err)
		}
		if err := put(buf); err != nil {
			return err
		}
	}
	return nil
}

func (f *frozen[K, T]) Plan(v *cache.View) Plan {
	return Plan{f.b.Table.Plan(v), f.codec.Program}
}

func (f *frozen[K, T]) Thaw(p Plan, rows EncodedRows) (stage func() error, err error) {
	load := f.b.load
	const usual = 32 // bytes of a row
	batch := load.Batch(len(rows) / usual)
	decode, done := lend[T](&f.decoders)
	defer done()
	err = rows.Each(func(src []byte) error {
		src, err := p.Unplaced(src)
		if err != nil {
			return err
		}
		into := batch.New()
		if err := decode(src, into); err != nil {
			return err
		}
		batch.Add(f.b.Key(*into))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func() error { return load.PutBatch(batch) }, nil
}

func (f *frozen[K, T]) Keep(p Plan, spoiled func(error)) Kept {
	if f.codec.Peeker == nil || !f.b.Table.WorthEncoding(p.Plan) {
		return nil
	}
	trusted := p.Program != "" && p.Program == f.codec.Program
	decoding := cache.Decoding[T]{
		Decode: func(src []byte, into *T) error {
			decode, done := lend[T](&f.decoders)
			defer done()
			return decode(src, into)
		},
		Peek:    func() (func(src []byte, into *T) error, func()) { return lend[T](&f.peekers) },
		Spoiled: spoiled,
	}
	return &keptRows[K, T]{f.b, f.b.Table.Encoded(p.Plan, trusted, f.b.Key, decoding)}
}

type keptRows[K comparable, T any] struct {
	b *Binding[K, T]
	e *cache.Encoded[K, T]
}

func (k *keptRows[K, T]) Add(rows EncodedRows) error { return k.e.Add(rows) }
func (k *keptRows[K, T]) Stage() error               { return k.b.load.PutEncoded(k.e) }
