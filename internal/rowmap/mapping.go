package rowmap

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/jackc/pgx/v5"
)

// Mapping is the mapping of one struct type. It is immutable and safe for
// concurrent use.
type Mapping[T any] struct{ Fields }

// Fields is what of a mapping is the same for all types: a program has it once, and not once for each.
type Fields struct {
	root     reflect.Type
	columns  []column
	scanners sync.Pool // of *scanner
}

type column struct {
	name   string // the tag's, or the field's
	tagged bool
	path   []int // as reflect.Value.FieldByIndex takes it
	typ    reflect.Type
	offset uintptr // of the field in the struct
}

// Of reads the struct type T. The error joins every mistake in its
// declaration; each names the field.
func Of[T any]() (*Mapping[T], error) {
	m := &Mapping[T]{}
	if err := m.read(reflect.TypeFor[T]()); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Fields) read(typ reflect.Type) error {
	if typ.Kind() != reflect.Struct {
		return fmt.Errorf("rowmap: %s is no struct", typ)
	}
	r := reader{root: typ}
	r.read(typ, nil, 0)
	if len(r.columns) == 0 && len(r.mistakes) == 0 {
		r.mistakef("no exported field is a column")
	}
	if len(r.mistakes) > 0 {
		return fmt.Errorf("rowmap: %w", errors.Join(r.mistakes...))
	}
	m.root, m.columns = typ, r.columns
	m.scanners.New = func() any { return newScanner(m.columns) }
	return nil
}

type reader struct {
	root     reflect.Type
	columns  []column
	mistakes []error
}

func (r *reader) mistakef(format string, args ...any) {
	r.mistakes = append(r.mistakes, fmt.Errorf("type %s: "+format, append([]any{r.root}, args...)...))
}

// read does what computeNamedStructFields of pgx does.
func (r *reader) read(typ reflect.Type, path []int, offset uintptr) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		at := append(slices.Clip(path), i)
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			r.read(f.Type, at, offset+f.Offset)
		case f.IsExported():
			r.add(f, at, offset+f.Offset)
		default:
			if tag, ok := f.Tag.Lookup("db"); ok && tag != "-" {
				r.mistakef("field %s has a db tag but is not exported", f.Name)
			}
		}
	}
}

func (r *reader) add(f reflect.StructField, path []int, offset uintptr) {
	c := column{name: f.Name, path: path, typ: f.Type, offset: offset}
	if tag, ok := f.Tag.Lookup("db"); ok {
		c.tagged = true
		if c.name, _, _ = strings.Cut(tag, ","); c.name == "-" {
			return
		}
		if c.name == "" {
			r.mistakef(`field %s has a db tag without a name (leave the tag out, or write db:"-")`, f.Name)
			return
		}
	}
	for _, other := range r.columns {
		if other.clashes(c) {
			r.mistakef("fields %s and %s are both column %q", r.fieldName(other.path), r.fieldName(path), c.name)
		}
	}
	r.columns = append(r.columns, c)
}

// clashes reports whether both fields match one column, whatever its spelling.
// Two tags may differ in case only, for columns that do.
func (c column) clashes(d column) bool {
	if c.tagged && d.tagged {
		return c.name == d.name
	}
	return strings.EqualFold(plain(c.name), plain(d.name)) && (!c.tagged || !d.tagged)
}

func plain(name string) string { return strings.ReplaceAll(name, "_", "") }

func (r *reader) fieldName(path []int) string {
	var names []string
	typ := r.root
	for _, i := range path {
		f := typ.Field(i)
		names = append(names, f.Name)
		typ = f.Type
	}
	return strings.Join(names, ".")
}

// Columns returns, in the order of the fields, the names that the tags give,
// and the field's own name where there is no tag; Resolve finds out how the
// table spells them. The slice is the caller's.
func (m *Fields) Columns() []string {
	names := make([]string, len(m.columns))
	for i, c := range m.columns {
		names[i] = c.name
	}
	return names
}

// Scan reads a row whose columns are those of Columns in that order into the
// struct. What it allocates are the values' own parts. On an error, which
// comes from the row, the struct may be filled in part.
func (m *Mapping[T]) Scan(row pgx.CollectableRow, into *T) error {
	return m.scan(row, unsafe.Pointer(into))
}

func (m *Fields) scan(row pgx.CollectableRow, at unsafe.Pointer) error {
	s, _ := m.scanners.Get().(*scanner)
	err := s.scan(row, at)
	m.scanners.Put(s)
	return err
}

// Values returns the struct's columns in the order of Columns, as arguments for
// pgx. Slices, maps and pointers in them are shared with the struct.
func (m *Mapping[T]) Values(from *T) []any { return m.ValuesOf(reflect.ValueOf(from).Elem()) }

// ValuesOf is Values of a T.
func (m *Fields) ValuesOf(v reflect.Value) []any {
	values := make([]any, len(m.columns))
	for i := range m.columns {
		values[i] = m.columns[i].of(v).Interface()
	}
	return values
}

func (c *column) of(v reflect.Value) reflect.Value {
	if len(c.path) == 1 {
		return v.Field(c.path[0])
	}
	return v.FieldByIndex(c.path)
}
