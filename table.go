package lockstep

import (
	"errors"
	"iter"
	"reflect"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// AnyTable is a *Table of any types.
type AnyTable interface {
	// Name is the table's name as it was declared.
	Name() string
	// Len is the number of rows.
	Len() int
	// Bytes is the memory that the rows take, as estimated from their types.
	Bytes() int64

	declared() error
	claim() bool
	release()
	cached() cache.AnyTable
	spec() outbox.TableSpec
	bind(eq *comparer, checkpoints bool) replay.Table
	attach(n *Node, index int)
	compare(types *pgtype.Map) (comparison, error)
	pick(have []outbox.ColumnInfo) ([]string, error)
	keyOf(row any) any
}

// Table is one Postgres table in memory: rows of type T by keys of type K.
//
// Declare it with NewTable, give it to Start, read it from anywhere: reads
// never block, never fail and use no network. Before Start they find nothing.
// A table belongs to one node; where Start fails it may be given to Start again.
//
// A row is a copy, but what its slices, maps and pointers lead to is shared by
// all readers and must not be changed: see Config.DetectMutation.
type Table[K comparable, T any] struct {
	definition

	key     func(T) K
	mapping *rowmap.Mapping[T]                  // nil: row and columns are the user's
	row     func(pgx.CollectableRow) (T, error) // the user's row function, else nil
	encode  func(T) []any                       // the user's inverse, else nil
	keyArgs func(K) []any                       // the user's, else nil
	same    func(x, y T) bool                   // equality of documents, else nil

	// A cache table belongs to one store for good, so a Start that failed leaves a new one behind.
	cache   atomic.Pointer[cache.Table[K, T]]
	indexes []func(*cache.Table[K, T]) // each makes its index on a cache table
}

// TableOption changes a declaration.
type TableOption[K comparable, T any] func(*Table[K, T])

// WithRow reads rows with a function of the user's instead of by db tags. It
// sees these columns, in this order, and calls Scan; columns that the table has besides
// are ignored. The key's columns must be among them. For a deleted row only
// the key's columns are read: Scan leaves the other destinations untouched.
// A start from a checkpoint calls it from several goroutines at once.
func WithRow[K comparable, T any](fn func(pgx.CollectableRow) (T, error), columns ...string) TableOption[K, T] {
	return func(t *Table[K, T]) { t.row, t.columns = fn, append([]string{}, columns...) }
}

// WithEncode is the inverse of WithRow: the row's values in the order of its
// columns. Without it Put and Update are refused, and every row that is loaded
// again counts as changed. Where rows are read by db tags it replaces the
// inverse that they give; the order is then that of T's fields.
func WithEncode[K comparable, T any](fn func(T) []any) TableOption[K, T] {
	return func(t *Table[K, T]) { t.encode = fn }
}

// WithKeyArgs gives the values of the key's columns, in the order of the
// primary key, for Update and Delete. Without it the key of one column is the
// value; of several, a struct's fields are found by their names or db tags,
// and an array's elements stand in the order of the primary key.
func WithKeyArgs[K comparable, T any](fn func(K) []any) TableOption[K, T] {
	return func(t *Table[K, T]) { t.keyArgs = fn }
}

// NewTable declares a table, named as SQL writes it with its schema:
// public.employees, "Odd Name"."T". key gives a row's key; it may use nothing
// but the primary key's columns, and different rows must have different keys.
// It may be called from several goroutines at once, and must be the same
// function in all processes of one build of the program: of a checkpoint that
// another one has written, Start looks at the keys of some rows only.
//
// Rows are read by db tags, as pgx.RowToStructByName reads them, unless
// WithRow says otherwise. Only the columns that T names are read, so that a
// migration that adds one disturbs nobody.
//
// Mistakes are returned by Start.
func NewTable[K comparable, T any](name string, key func(T) K, opts ...TableOption[K, T]) *Table[K, T] {
	t := &Table[K, T]{key: key}
	t.name = name
	t.cache.Store(cache.NewTable[K, T](name))
	for _, o := range opts {
		if o != nil {
			o(t)
		}
	}
	var err error
	if t.row == nil {
		if t.mapping, err = rowmap.Of[T](); err == nil {
			t.fields = &t.mapping.Fields
		}
	}
	if keys, err := rowmap.Of[K](); err == nil { // what cannot be mapped needs WithKeyArgs, which the write says
		t.keys = &keys.Fields
	}
	t.own = !t.doc && (t.row != nil || t.encode != nil || rowmap.OwnCode(reflect.TypeFor[T]()))
	t.err = t.mistakes(t.key != nil, t.row != nil, err)
	return t
}

// Name is the table's name as it was declared.
func (t *Table[K, T]) Name() string { return t.name }

// Get returns the newest row of a key. It costs one map look-up; soon after a
// start from a checkpoint, decoding the row as well.
func (t *Table[K, T]) Get(k K) (T, bool) { return t.cache.Load().Get(k) }

// GetRevision is Get with the number of this node's cut that last changed the row.
func (t *Table[K, T]) GetRevision(k K) (T, uint64, bool) { return t.cache.Load().GetRevision(k) }

// All yields all rows of one instant, in no order.
func (t *Table[K, T]) All() iter.Seq2[K, T] { return t.cache.Load().All() }

// Len is the number of rows.
func (t *Table[K, T]) Len() int { return t.cache.Load().Len() }

// Bytes is the memory that the rows take, as estimated from their types.
func (t *Table[K, T]) Bytes() int64 { return t.cache.Load().Bytes() }

// At is the table at the instant of a view.
func (t *Table[K, T]) At(v *View) TableView[K, T] { return t.cache.Load().At(v) }

func (t *Table[K, T]) declared() error {
	if t == nil {
		return errors.New("lockstep: a table is nil")
	}
	return t.definition.declared()
}

// release undoes claim and whatever came after it.
func (t *Table[K, T]) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := cache.NewTable[K, T](t.name)
	for _, index := range t.indexes {
		index(fresh)
	}
	t.cache.Store(fresh)
	t.layout.Store(nil)
	t.claimed.Store(false)
}

func (t *Table[K, T]) cached() cache.AnyTable { return t.cache.Load() }

func (t *Table[K, T]) keyOf(row any) any {
	if t.key == nil {
		return nil // Start says so
	}
	r, _ := row.(T)
	return t.key(r)
}
