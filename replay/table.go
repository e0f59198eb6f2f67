package replay

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/cache"
)

// Table is one cache table as the engine sees it, without its types. Binding
// implements it. The engine calls it from one goroutine.
type Table interface {
	// Name is the registered name, as outbox.Event.Table has it.
	Name() string
	// Put reads the row and stores it. An error means that the row could not
	// be read, and nothing was stored.
	Put(w *cache.Writer, o cache.Origin, row pgx.CollectableRow) error
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
	// EndReplace ends it: whatever it did not bring is removed.
	EndReplace()
}

// Binding ties a cache table to the rows of the log.
//
// A row that has a method Value() any which returns a T is used as that T, and
// Row is not called: tests and fakes hand over Go values that way.
type Binding[K comparable, T any] struct {
	Table *cache.Table[K, T]
	// Key is the row's key. It is also called for a row of which only the key
	// columns were read.
	Key func(T) K
	// Row reads a row. Columns that the row does not have stay untouched.
	Row func(pgx.CollectableRow) (T, error)
	// Equal tells a load which rows have not changed. Where it is nil, every
	// row that is loaded again counts as changed.
	Equal func(a, b T) bool

	load *cache.Replacer[K, T]
}

// Name is the name of the cache table.
func (b *Binding[K, T]) Name() string { return b.Table.Name() }

// Put implements Table.
func (b *Binding[K, T]) Put(w *cache.Writer, o cache.Origin, row pgx.CollectableRow) error {
	v, err := b.read(row)
	if err != nil {
		return err
	}
	b.Table.Put(w, o, b.Key(v), v)
	return nil
}

// Delete implements Table.
func (b *Binding[K, T]) Delete(w *cache.Writer, o cache.Origin, row pgx.CollectableRow) error {
	v, err := b.read(row)
	if err != nil {
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
}

// ReplaceRow implements Table.
func (b *Binding[K, T]) ReplaceRow(row pgx.CollectableRow) error {
	v, err := b.read(row)
	if err != nil {
		return err
	}
	return b.load.Put(b.Key(v), v)
}

// EndReplace implements Table.
func (b *Binding[K, T]) EndReplace() {
	b.load.Done()
	b.load = nil
}

func (b *Binding[K, T]) read(row pgx.CollectableRow) (T, error) {
	if given, ok := row.(interface{ Value() any }); ok {
		v, ok := given.Value().(T)
		if !ok {
			return v, fmt.Errorf("replay: the row is a %T, not a %T", given.Value(), v)
		}
		return v, nil
	}
	return b.Row(row)
}
