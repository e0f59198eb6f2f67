package lockstep

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/replay"
)

// checkpoints is a node's file as replay wants it.
type checkpoints struct{ *checkpoint.Store }

func (c checkpoints) Open() (replay.CheckpointReader, error) {
	r, err := c.Store.Open()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err //nolint:wrapcheck // named there
	}
	return r, nil
}

func (c checkpoints) Create(head []byte) (replay.CheckpointWriter, error) {
	w, err := c.Store.Create(head)
	if err != nil {
		return nil, err //nolint:wrapcheck // named there
	}
	return w, nil
}

// codec encodes rows as their columns, in the formats in which a load brings
// them, so that the same code reads them from there. It is bound to the layout
// of now.
func (t *Table[K, T]) codec(types *pgtype.Map) (replay.Codec[T], error) {
	l := t.layout.Load()
	if l == nil {
		return replay.Codec[T]{}, errors.New("its columns are not known")
	}
	if t.doc {
		return t.documentCodec(), nil
	}
	values := t.values()
	if values == nil {
		return replay.Codec[T]{}, errors.New("its rows have no inverse mapping: give it WithEncode")
	}
	fields := make([]pgconn.FieldDescription, len(l.mapped))
	for i, c := range l.mapped {
		fields[i] = pgconn.FieldDescription{Name: c.Name, DataTypeOID: c.OID, Format: c.Format}
	}
	shape, own := t.shape(l, types)
	if own {
		id, err := executable()
		if err != nil {
			return replay.Codec[T]{}, fmt.Errorf("its rows are read by code of the program's own, and the program cannot be told from others: %w", err)
		}
		shape.ReadBy = id
	}
	plain := !own && t.mapping.Plain(l.oids)
	encode, check := rowmap.NewCoder(ownTypes(types, l.oids), fields), rowmap.NewCoder(ownTypes(types, l.oids), fields)
	return replay.Codec[T]{
		Shape: shape.String(),
		Encode: func(dst []byte, row T) ([]byte, error) {
			from := len(dst)
			dst, other, err := encode.Append(dst, values(row))
			if err == nil && (other || !plain) {
				err = t.comesBack(check, dst[from:], row)
			}
			return dst, err
		},
		Decoder: func() func(src []byte, into *T) error {
			decode := rowmap.NewCoder(ownTypes(types, l.oids), fields)
			return func(src []byte, into *T) error { return t.decodeBy(decode, src, into) }
		},
	}, nil
}

func (t *Table[K, T]) decodeBy(c *rowmap.Coder, src []byte, into *T) error {
	row, err := c.Row(src)
	if err != nil {
		return err //nolint:wrapcheck // the caller names the table
	}
	return t.scan(row, into)
}

// comesBack makes sure that the encoded row is read as the row that it was. Of
// a type's own methods, and of some types of pgx, that cannot be told beforehand.
func (t *Table[K, T]) comesBack(c *rowmap.Coder, src []byte, row T) error {
	var again T
	if err := t.decodeBy(c, src, &again); err != nil {
		return fmt.Errorf("it is not read back: %w", err)
	}
	if !rowmap.Identical(&row, &again) {
		return errors.New("it is read back as another row: its type loses something when it is encoded")
	}
	return nil
}

// documentCodec keeps documents as they are.
func (t *Table[K, T]) documentCodec() replay.Codec[T] {
	return replay.Codec[T]{
		Shape:  checkpoint.Shape{Document: true, Key: t.keyColumns()}.String(),
		Encode: func(dst []byte, row T) ([]byte, error) { return append(dst, any(row).(json.RawMessage)...), nil },
		Decoder: func() func(src []byte, into *T) error {
			return func(src []byte, into *T) error { return t.scan(document{src}, into) }
		},
	}
}

// document is a row whose one column is the text of a document.
type document [1][]byte

func (d document) RawValues() [][]byte { return d[:] }
func (d document) FieldDescriptions() []pgconn.FieldDescription {
	return []pgconn.FieldDescription{{Name: "row", DataTypeOID: pgtype.JSONOID, Format: pgx.TextFormatCode}}
}
func (d document) Scan(...any) error      { return errors.New("a document has no columns") }
func (d document) Values() ([]any, error) { return []any{string(d[0])}, nil }

// shape names all that the meaning of encoded rows depends on. own says that
// they are read or written by code of the application's own, which
// another build may have changed: then the program itself is part of it.
func (t *Table[K, T]) shape(l *layout, types *pgtype.Map) (shape checkpoint.Shape, own bool) {
	typ := reflect.TypeFor[T]()
	own = t.ownCode()
	shape = checkpoint.Shape{Row: rowmap.Shape(typ), Key: t.keyColumns()}
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

// ownCode reports whether the application's own code is known to read or write rows.
func (t *Table[K, T]) ownCode() bool {
	return !t.doc && (t.row != nil || t.encode != nil || rowmap.OwnCode(reflect.TypeFor[T]()))
}

// executable identifies the program that runs, by its content.
var executable = sync.OnceValues(func() (string, error) {
	f, err := os.Open("/proc/self/exe") // what runs, whatever has its name now
	if err != nil {
		path, pathErr := os.Executable()
		if pathErr != nil {
			return "", pathErr
		}
		if f, err = os.Open(path); err != nil {
			return "", err
		}
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return hex.EncodeToString(h.Sum(nil)), err
})

// ownTypes is a map for a goroutine of its own: pgx's codec of enums remembers
// what it has read, so where these columns lead to one they get another.
func ownTypes(types *pgtype.Map, oids []uint32) *pgtype.Map {
	m := types.Copy()
	for _, oid := range oids {
		if t, ok := types.TypeForOID(oid); ok {
			m.RegisterType(ownType(t))
		}
	}
	return m
}

func ownType(t *pgtype.Type) *pgtype.Type {
	if t == nil {
		return nil
	}
	own := *t
	switch c := t.Codec.(type) {
	case *pgtype.EnumCodec:
		own.Codec = &pgtype.EnumCodec{}
	case *pgtype.ArrayCodec:
		inner := *c
		inner.ElementType = ownType(c.ElementType)
		own.Codec = &inner
	case *pgtype.RangeCodec:
		own.Codec = &pgtype.RangeCodec{ElementType: ownType(c.ElementType)}
	case *pgtype.MultirangeCodec:
		own.Codec = &pgtype.MultirangeCodec{ElementType: ownType(c.ElementType)}
	case *pgtype.CompositeCodec:
		fields := make([]pgtype.CompositeCodecField, len(c.Fields))
		for i, f := range c.Fields {
			fields[i] = pgtype.CompositeCodecField{Name: f.Name, Type: ownType(f.Type)}
		}
		own.Codec = &pgtype.CompositeCodec{Fields: fields}
	}
	return &own
}
