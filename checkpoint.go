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
	c, err := t.coding(l, reflect.TypeFor[T](), types)
	if err != nil {
		return replay.Codec[T]{}, err
	}
	encode, check := c.coder(), c.coder()
	return replay.Codec[T]{
		Shape: c.shape.String(),
		Encode: func(dst []byte, row T) ([]byte, error) {
			from := len(dst)
			dst, other, err := encode.Append(dst, values(row))
			if err == nil && (other || !c.plain) {
				err = t.comesBack(check, dst[from:], row)
			}
			return dst, err
		},
		Decoder: func() func(src []byte, into *T) error {
			decode := c.coder()
			return func(src []byte, into *T) error { return t.decodeBy(decode, src, into) }
		},
	}, nil
}

// coding is how the rows of a table are encoded.
type coding struct {
	types  *pgtype.Map
	oids   []uint32
	fields []pgconn.FieldDescription
	shape  checkpoint.Shape
	plain  bool // whatever is encoded comes back as it was
}

// coding finds out how rows of a type are encoded.
func (d *definition) coding(l *layout, row reflect.Type, types *pgtype.Map) (*coding, error) {
	c := &coding{types: types, oids: l.oids, fields: make([]pgconn.FieldDescription, len(l.mapped))}
	for i, m := range l.mapped {
		c.fields[i] = pgconn.FieldDescription{Name: m.Name, DataTypeOID: m.OID, Format: m.Format}
	}
	var own bool
	if c.shape, own = d.shape(l, row, types); own {
		id, err := executable()
		if err != nil {
			return nil, fmt.Errorf("its rows are read by code of the program's own, and the program cannot be told from others: %w", err)
		}
		c.shape.ReadBy = id
	}
	c.plain = !own && d.fields.Plain(l.oids)
	return c, nil
}

// coder is one more, for a goroutine of its own.
func (c *coding) coder() *rowmap.Coder { return rowmap.NewCoder(ownTypes(c.types, c.oids), c.fields) }

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
