package lockstep

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/outbox"
)

// definition is what of a table does not depend on its types. The compiler makes the code of a
// Table once for each pair of types that a program declares; what stands here it makes once.
type definition struct {
	name    string
	doc     bool                   // rows are documents
	columns []string               // the user's list, else nil
	fields  *rowmap.Fields         // of a row that is read by db tags, else nil
	keys    *rowmap.Fields         // the fields of a key that is a struct, else nil
	own     bool                   // code of the application's own is known to read or write rows
	mu      sync.Mutex             // orders NewIndex and release; guards err
	err     error                  // mistakes of the declaration
	layout  atomic.Pointer[layout] // of the last load
	claimed atomic.Bool            // given to a Start that has not failed
	owner   atomic.Pointer[owner]  // set when Start has succeeded
}

// owner is the node that keeps a table, and the table's index there.
type owner struct {
	node  *Node
	index int
}

// layout is a table's columns as its last load found them. It is immutable.
type layout struct {
	have   []outbox.ColumnInfo // all columns of the table
	mapped []outbox.ColumnInfo // those that rows are read from, in the order of their values
	key    []outbox.ColumnInfo // the primary key, in its order
	oids   []uint32            // of mapped
}

// mistakes checks a declaration: key and row say whether there is a function of the user's, mapping what is wrong with the type of a row
// that is read by db tags.
func (d *definition) mistakes(key, row bool, mapping error) error {
	var bad []error
	if d.name == "" {
		bad = append(bad, errors.New("the table has no name"))
	}
	if !key {
		bad = append(bad, errors.New("the key function is nil"))
	}
	switch {
	case d.doc:
	case !row && d.columns != nil:
		bad = append(bad, errors.New("the function of WithRow is nil"))
	case row && len(d.columns) == 0:
		bad = append(bad, errors.New("WithRow names no columns"))
	case mapping != nil:
		bad = append(bad, mapping)
	}
	for i, c := range d.columns {
		if slices.Contains(d.columns[:i], c) {
			bad = append(bad, fmt.Errorf("WithRow names column %q twice", c))
		}
	}
	if err := errors.Join(bad...); err != nil {
		return fmt.Errorf("lockstep: table %s: %w", d.name, err)
	}
	return nil
}

func (d *definition) declared() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// claim takes the table for a Start; false if another one has it.
func (d *definition) claim() bool { return d.claimed.CompareAndSwap(false, true) }

func (d *definition) attach(n *Node, index int) { d.owner.Store(&owner{n, index}) }

// started returns the node that keeps the table.
func (d *definition) started() (*owner, error) {
	o := d.owner.Load()
	if o == nil {
		return nil, fmt.Errorf("table %s: %w", d.name, ErrNotStarted)
	}
	return o, nil
}

// spec is what the source needs to know. Its Columns is asked at every load
// and keeps the layout.
func (d *definition) spec() outbox.TableSpec {
	return outbox.TableSpec{Name: d.name, Document: d.doc, Columns: func(have []outbox.ColumnInfo) ([]string, error) {
		want, err := d.pick(have)
		if err != nil {
			return nil, err
		}
		l := &layout{have: have, key: outbox.KeyColumns(have)}
		for _, name := range want {
			i := slices.IndexFunc(have, func(c outbox.ColumnInfo) bool { return c.Name == name })
			if i < 0 {
				return nil, fmt.Errorf("it has no column %q", name)
			}
			l.mapped, l.oids = append(l.mapped, have[i]), append(l.oids, have[i].OID)
		}
		d.layout.Store(l)
		return want, nil
	}}
}

// pick are the names of the columns to read.
func (d *definition) pick(have []outbox.ColumnInfo) ([]string, error) {
	names := columnNames(have)
	switch {
	case d.fields != nil:
		return d.fields.Resolve(names) //nolint:wrapcheck // the source names the table
	case d.columns != nil:
		return d.columns, nil
	}
	return names, nil
}

// keyColumns are the names of the primary key's columns, in its order.
func (d *definition) keyColumns() []string {
	l := d.layout.Load()
	if l == nil {
		return nil
	}
	return columnNames(l.key)
}

func columnNames(columns []outbox.ColumnInfo) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return names
}

// shape names all that the meaning of encoded rows of a type depends on. own says that
// they are read or written by code of the application's own, which
// another build may have changed: then the program itself is part of it.
func (d *definition) shape(l *layout, row reflect.Type, types *pgtype.Map) (shape checkpoint.Shape, own bool) {
	own = d.own
	shape = checkpoint.Shape{Row: rowmap.Shape(row), Key: columnNames(l.key)}
	for _, c := range l.mapped {
		codec := "none"
		if pt, ok := types.TypeForOID(c.OID); ok {
			ct := reflect.TypeOf(pt.Codec)
			codec = ct.String()
			if ct.Kind() == reflect.Pointer {
				ct = ct.Elem()
			}
			own = own || ct.PkgPath() != reflect.TypeFor[pgtype.Map]().PkgPath()
		}
		shape.Columns = append(shape.Columns, checkpoint.ShapeColumn{Name: c.Name, OID: c.OID, Format: c.Format, Codec: codec})
	}
	return shape, own
}
