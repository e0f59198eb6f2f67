package stored

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// Table is one table of a checkpoint. It is for one goroutine, but for what it has put into its cache.
type Table struct {
	Name  string
	Cache *cache.Table[string, []byte]

	text  string // the shape's
	shape checkpoint.Shape
	keyAt []int      // where the key's columns are among the shape's
	mu    sync.Mutex // for what canonical does with types
	types *pgtype.Map
	unfit error
}

// ErrUnfit is wrapped by errors that say why a table cannot be worked on.
var ErrUnfit = errors.New("it cannot be read without the application")

// New makes a table of what the checkpoint says of it. ErrUnfit where it cannot be worked on.
func New(name, shape string) (*Table, error) {
	s, err := checkpoint.ParseShape(shape)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	if s.ReadBy != "" {
		return nil, fmt.Errorf("%w: its rows are read by code of the application's own", ErrUnfit)
	}
	t := &Table{Name: name, Cache: cache.NewTable[string, []byte](name), text: shape, shape: s, types: pgtype.NewMap()}
	for _, k := range s.Key {
		at := slices.IndexFunc(s.Columns, func(c checkpoint.ShapeColumn) bool { return c.Name == k })
		if at < 0 && !s.Document {
			return nil, fmt.Errorf("%w: its rows do not hold the key column %s", ErrUnfit, k)
		}
		t.keyAt = append(t.keyAt, at)
	}
	if len(t.keyAt) == 0 {
		return nil, fmt.Errorf("%w: it has no key", ErrUnfit)
	}
	return t, nil
}

// Unfit says why the table as Postgres has it now does not fit the checkpoint's rows, or nil.
func (t *Table) Unfit() error { return t.unfit }

// Renew empties the table: a cache belongs to one store for good.
func (t *Table) Renew() { t.Cache = cache.NewTable[string, []byte](t.Name) }

// Spec is what the source needs to know.
func (t *Table) Spec() outbox.TableSpec {
	return outbox.TableSpec{Name: t.Name, Document: t.shape.Document, Columns: func(have []outbox.ColumnInfo) ([]string, error) {
		names, err := t.pick(have)
		t.unfit = err
		return names, err
	}}
}

// Names are the names of columns.
func Names(columns []outbox.ColumnInfo) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return names
}

// pick are the columns of the rows, which must be as they were.
func (t *Table) pick(have []outbox.ColumnInfo) (names []string, err error) {
	if !slices.Equal(Names(outbox.KeyColumns(have)), t.shape.Key) {
		return nil, errors.New("its primary key was another one")
	}
	if t.shape.Document {
		return Names(have), nil
	}
	for _, c := range t.shape.Columns {
		i := slices.IndexFunc(have, func(h outbox.ColumnInfo) bool { return h.Name == c.Name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("column %s is there no more", c.Name)
		case have[i].Excluded:
			return nil, fmt.Errorf("column %s is left out of capture now", c.Name)
		case have[i].OID != c.OID:
			return nil, fmt.Errorf("column %s was of another type", c.Name)
		case have[i].Format != c.Format:
			return nil, fmt.Errorf("column %s is kept in a form that only the application's %s reads", c.Name, c.Codec)
		}
		names = append(names, c.Name)
	}
	return names, nil
}

// Binding ties the table to the log.
func (t *Table) Binding() replay.Table {
	return &replay.Binding[string, []byte]{
		Table: t.Cache, Key: t.Key, Row: t.Read, Equal: bytes.Equal,
		Codec: func() (replay.Codec[[]byte], error) {
			return replay.Codec[[]byte]{
				Shape:  t.text,
				Encode: func(dst, row []byte) ([]byte, error) { return append(dst, row...), nil },
				Decoder: func() func(src []byte, into *[]byte) error {
					return func(src []byte, into *[]byte) error {
						*into = src
						_, err := t.key(src)
						return err
					}
				},
			}, nil
		},
	}
}

// Read makes a row of what a load or an event brings.
func (t *Table) Read(row pgx.CollectableRow, into *[]byte) (err error) {
	raw := row.RawValues()
	if raw == nil {
		_, err := row.Values() // which says what is wrong with it
		return errors.Join(errors.New("the row cannot be read"), err)
	}
	if t.shape.Document {
		*into = bytes.Clone(raw[0])
	} else {
		*into = rowmap.AppendEncoded(nil, raw)
	}
	_, err = t.key(*into)
	return err
}

// Key is the key of a row that Read or a checkpoint has given.
func (t *Table) Key(row []byte) string {
	k, _ := t.key(row) // was tried before
	return k
}

func (t *Table) key(row []byte) (string, error) {
	if t.shape.Document {
		return DocumentKey(row, t.shape.Key)
	}
	values, err := t.Columns(row)
	if err != nil {
		return "", err
	}
	parts := make([][]byte, len(t.keyAt))
	for n, i := range t.keyAt {
		if parts[n], err = t.canonical(i, values[i]); err != nil {
			return "", fmt.Errorf("key column %s: %w", t.shape.Columns[i].Name, err)
		}
	}
	return string(rowmap.AppendEncoded(nil, parts)), nil
}

// Value is one encoded column; Bytes is nil for a NULL.
type Value struct {
	Bytes []byte
	Other bool // it stands in the other format than its column's
}

// Columns are the columns of a row, in the shape's order. They share its memory.
func (t *Table) Columns(row []byte) ([]Value, error) {
	n := len(t.shape.Columns)
	raw, other := make([][]byte, n), make([]bool, n)
	if err := rowmap.SplitEncoded(row, raw, other); err != nil {
		return nil, err //nolint:wrapcheck // named there
	}
	values := make([]Value, n)
	for i := range values {
		values[i] = Value{raw[i], other[i]}
	}
	return values, nil
}

// exact are the types that have one encoded form for each value, whoever has encoded it.
var exact = []uint32{
	pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.BoolOID, pgtype.TextOID, pgtype.VarcharOID, pgtype.NameOID, pgtype.ByteaOID,
	pgtype.UUIDOID, pgtype.DateOID, pgtype.TimestampOID, pgtype.TimestamptzOID, pgtype.OIDOID,
}

// canonical is a value's one form: the application may have encoded it in another way than Postgres does.
func (t *Table) canonical(i int, v Value) ([]byte, error) {
	c := &t.shape.Columns[i]
	typ, known := t.types.TypeForOID(c.OID)
	switch {
	case v.Bytes == nil:
		return nil, errors.New("it is NULL")
	case !known, !v.Other && slices.Contains(exact, c.OID):
		return v.Bytes, nil
	}
	t.mu.Lock() // a checkpoint is read on several goroutines
	defer t.mu.Unlock()
	got, err := typ.Codec.DecodeValue(t.types, c.OID, v.format(c), v.Bytes)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller names the column
	}
	return t.types.Encode(c.OID, c.Format, got, []byte{}) //nolint:wrapcheck // the caller names the column
}

func (v Value) format(c *checkpoint.ShapeColumn) int16 {
	if v.Other {
		return 1 - c.Format
	}
	return c.Format
}

// KeyText is a row's key for people, as JSON has it.
func (t *Table) KeyText(row []byte) string {
	if t.shape.Document {
		return t.Key(row)
	}
	values, err := t.Columns(row)
	if err != nil {
		return err.Error()
	}
	parts := make([]string, len(t.keyAt))
	for n, i := range t.keyAt {
		parts[n] = t.valueText(i, values[i])
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func (t *Table) valueText(i int, v Value) string {
	c := &t.shape.Columns[i]
	text := string(v.Bytes)
	if v.format(c) == pgx.BinaryFormatCode {
		text = fmt.Sprintf("%x", v.Bytes)
		if typ, ok := t.types.TypeForOID(c.OID); ok {
			if got, err := typ.Codec.DecodeValue(t.types, c.OID, v.format(c), v.Bytes); err == nil {
				if b, err := t.types.Encode(c.OID, pgx.TextFormatCode, got, nil); err == nil {
					text = string(b)
				}
			}
		}
	}
	switch c.OID {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return text
	}
	return fmt.Sprintf("%q", text)
}
