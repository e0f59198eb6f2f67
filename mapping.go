package lockstep

import (
	"reflect"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/replay"
)

// comparer compares rows by their encoded columns. The engine's goroutine uses it.
type comparer struct{ types *pgtype.Map }

// bind ties the table to the log, and to checkpoints if there are to be any.
func (t *Table[K, T]) bind(eq *comparer, checkpoints bool) replay.Table {
	b := &replay.Binding[K, T]{Table: t.cache.Load(), Key: t.key, Row: t.scan}
	switch {
	case t.same != nil:
		b.Equal = t.same
	case t.values() != nil:
		b.Equal = func(x, y T) bool { return t.equal(eq, x, y) }
	}
	if checkpoints {
		if t.own {
			_, _ = executable() // now: its file may be replaced while it runs; the error comes with the codec
		}
		b.Codec = func() (replay.Codec[T], error) { return t.codec(eq.types) }
		b.CodecOf = func(shape string) (replay.Codec[T], error) { return t.codecAs(shape, eq.types) }
	}
	return b
}

// values is the inverse mapping: a row's values in the order of layout.mapped; nil without one.
func (t *Table[K, T]) values() func(T) []any {
	switch {
	case t.encode != nil:
		return t.encode
	case t.mapping != nil:
		return func(v T) []any { return t.mapping.Values(&v) }
	}
	return nil
}

// equal compares two rows by their encoded columns: it decides which rows of a
// load have changed. Where a value cannot be encoded they count as different,
// which costs a change that nobody needed, and hides none.
func (t *Table[K, T]) equal(eq *comparer, x, y T) bool {
	values := t.values()
	return eq.equal(t.layout.Load(), values(x), values(y))
}

func (eq *comparer) equal(l *layout, a, b []any) bool {
	if l == nil { // rows of locksteptest, which knows no columns
		return eq.equalValues(a, b)
	}
	same, err := rowmap.Equal(eq.types, l.oids, a, b)
	return err == nil && same
}

// equalValues compares values that come from no column: encoded as the type
// that pgx would take for them, and as Go values where it knows none.
func (eq *comparer) equalValues(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		typ, ok := eq.types.TypeForValue(a[i])
		if !ok {
			if !reflect.DeepEqual(a[i], b[i]) {
				return false
			}
			continue
		}
		if same, err := rowmap.Equal(eq.types, []uint32{typ.OID}, a[i:i+1], b[i:i+1]); err != nil || !same {
			return false
		}
	}
	return true
}
