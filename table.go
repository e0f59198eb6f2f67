package lockstep

import (
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

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
	cached() cache.AnyTable
	spec() outbox.TableSpec
	bind(eq *comparer) replay.Table
	attach(n *Node, index int) bool
	keyOf(row any) any
}

// Table is one Postgres table in memory: rows of type T by keys of type K.
//
// Declare it with NewTable, give it to Start, read it from anywhere: reads
// never block, never fail and use no network. Before Start they find nothing.
//
// A row is a copy, but what its slices, maps and pointers lead to is shared by
// all readers and must not be changed: see Config.DetectMutation.
type Table[K comparable, T any] struct {
	name    string
	key     func(T) K
	cache   *cache.Table[K, T]
	mapping *rowmap.Mapping[T]                  // nil: row and columns are the user's
	columns []string                            // the user's list, else nil
	row     func(pgx.CollectableRow) (T, error) // the user's row function, else nil
	encode  func(T) []any                       // the user's inverse, else nil
	keyArgs func(K) []any                       // the user's, else nil
	doc     bool                                // rows are documents
	err     error                               // mistakes of the declaration
	layout  atomic.Pointer[layout]              // of the last load
	owner   atomic.Pointer[owner]               // set by Start
}

// owner is the node that keeps a table, and the table's index there.
type owner struct {
	node  *Node
	index int
}

// TableOption changes a declaration.
type TableOption[K comparable, T any] func(*Table[K, T])

// WithRow reads rows with a function of the user's instead of by db tags. It
// sees these columns, in this order, and calls Scan; columns that the table has besides
// are ignored. The key's columns must be among them. For a deleted row only
// the key's columns are read: Scan leaves the other destinations untouched.
func WithRow[K comparable, T any](fn func(pgx.CollectableRow) (T, error), columns ...string) TableOption[K, T] {
	return func(t *Table[K, T]) { t.row, t.columns = fn, columns }
}

// WithEncode is the inverse of WithRow: the row's values in the order of its
// columns. Without it Put and Update are refused, and every row that is loaded
// again counts as changed.
func WithEncode[K comparable, T any](fn func(T) []any) TableOption[K, T] {
	return func(t *Table[K, T]) { t.encode = fn }
}

// WithKeyArgs gives the values of the key's columns, in the order of the
// primary key, for Update and Delete by a key of several columns. For one
// column the key itself is the value.
func WithKeyArgs[K comparable, T any](fn func(K) []any) TableOption[K, T] {
	return func(t *Table[K, T]) { t.keyArgs = fn }
}

// NewTable declares a table, named as SQL writes it with its schema:
// public.employees, "Odd Name"."T". key gives a row's key; it may use nothing
// but the primary key's columns, and different rows must have different keys.
//
// Rows are read by db tags, as pgx.RowToStructByName reads them, unless
// WithRow says otherwise. Only the columns that T names are read, so that a
// migration that adds one disturbs nobody.
//
// Mistakes are returned by Start.
func NewTable[K comparable, T any](name string, key func(T) K, opts ...TableOption[K, T]) *Table[K, T] {
	t := &Table[K, T]{name: name, key: key, cache: cache.NewTable[K, T](name)}
	for _, o := range opts {
		o(t)
	}
	var bad []error
	if name == "" {
		bad = append(bad, errors.New("the table has no name"))
	}
	if key == nil {
		bad = append(bad, errors.New("the key function is nil"))
	}
	switch {
	case t.doc:
	case t.row != nil && len(t.columns) == 0:
		bad = append(bad, errors.New("WithRow names no columns"))
	case t.row == nil:
		m, err := rowmap.Of[T]()
		if err != nil {
			bad = append(bad, err)
		}
		t.mapping = m
	}
	if err := errors.Join(bad...); err != nil {
		t.err = fmt.Errorf("lockstep: table %s: %w", name, err)
	}
	return t
}

// Name is the table's name as it was declared.
func (t *Table[K, T]) Name() string { return t.name }

// Get returns the newest row of a key. It costs one map look-up.
func (t *Table[K, T]) Get(k K) (T, bool) { return t.cache.Get(k) }

// GetRevision is Get with the number of this node's cut that last changed the row.
func (t *Table[K, T]) GetRevision(k K) (T, uint64, bool) { return t.cache.GetRevision(k) }

// All yields all rows of one instant, in no order.
func (t *Table[K, T]) All() iter.Seq2[K, T] { return t.cache.All() }

// Len is the number of rows.
func (t *Table[K, T]) Len() int { return t.cache.Len() }

// Bytes is the memory that the rows take, as estimated from their types.
func (t *Table[K, T]) Bytes() int64 { return t.cache.Bytes() }

// At is the table at the instant of a view.
func (t *Table[K, T]) At(v *View) TableView[K, T] { return t.cache.At(v) }

// Index finds a table's rows by something else than their key: one index key,
// many rows.
type Index[IK, K comparable, T any] struct {
	*cache.Index[IK, K, T]
}

// NewIndex declares an index on a table, before Start. fn must depend on the row only.
func NewIndex[IK, K comparable, T any](t *Table[K, T], fn func(T) IK) *Index[IK, K, T] {
	return &Index[IK, K, T]{cache.NewIndex(t.cache, fn)}
}

func (t *Table[K, T]) declared() error        { return t.err }
func (t *Table[K, T]) cached() cache.AnyTable { return t.cache }
func (t *Table[K, T]) keyOf(row any) any {
	r, _ := row.(T)
	return t.key(r)
}

func (t *Table[K, T]) attach(n *Node, index int) bool {
	return t.owner.CompareAndSwap(nil, &owner{n, index})
}

// started returns the node that keeps the table.
func (t *Table[K, T]) started() (*owner, error) {
	o := t.owner.Load()
	if o == nil {
		return nil, fmt.Errorf("table %s: %w", t.name, ErrNotStarted)
	}
	return o, nil
}
