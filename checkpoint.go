package lockstep

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/outbox"
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
	return t.codecOf(l, types)
}

// codecAs is codec before the layout is known, as it was where a checkpoint names the shape. Its own shape is another one where
// the row's type, or what reads it, has changed since.
func (t *Table[K, T]) codecAs(shape string, types *pgtype.Map) (replay.Codec[T], error) {
	s, err := checkpoint.ParseShape(shape)
	if err != nil {
		return replay.Codec[T]{}, err //nolint:wrapcheck // says what is wrong with the shape
	}
	l := new(layout)
	for _, name := range s.Key {
		l.key = append(l.key, outbox.ColumnInfo{Name: name})
	}
	for _, c := range s.Columns {
		l.mapped, l.oids = append(l.mapped, outbox.ColumnInfo{Name: c.Name, OID: c.OID, Format: c.Format}), append(l.oids, c.OID)
	}
	return t.codecOf(l, types)
}

func (t *Table[K, T]) codecOf(l *layout, types *pgtype.Map) (replay.Codec[T], error) {
	if t.doc {
		return t.documentCodec(l), nil
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
	codec := replay.Codec[T]{
		Shape: c.shape.String(),
		Encode: func(dst []byte, row T) ([]byte, error) {
			from := len(dst)
			dst, other, err := encode.Append(dst, values(row))
			if err == nil && (other || !c.plain) {
				err = t.comesBack(check, dst[from:], row)
			}
			return dst, err
		},
		Decoder: func() func(src []byte, into *T) error { return t.decoder(c.coder(), false) },
	}
	if t.mapping != nil && !c.own {
		codec.Peeker = func() func(src []byte, into *T) error { return t.decoder(c.coder(), true) }
		if c.plain && !slices.Contains(l.oids, pgtype.ByteaOID) { // a slice may have room that it has not when it is read back
			codec.Program = build()
		}
	}
	return codec, nil
}

// decoder reads encoded rows, with peek only to look at them.
func (t *Table[K, T]) decoder(c *rowmap.Coder, peek bool) func(src []byte, into *T) error {
	if t.mapping != nil && t.row == nil {
		return t.mapping.Decoder(c, peek)
	}
	return func(src []byte, into *T) error { return t.decodeBy(c, src, into) }
}

// coding is how the rows of a table are encoded.
type coding struct {
	types  *pgtype.Map
	oids   []uint32
	fields []pgconn.FieldDescription
	shape  checkpoint.Shape
	plain  bool // whatever is encoded comes back as it was
	own    bool // code of the application's own reads or writes rows
}

// coding finds out how rows of a type are encoded.
func (d *definition) coding(l *layout, row reflect.Type, types *pgtype.Map) (*coding, error) {
	c := &coding{types: types, oids: l.oids, fields: make([]pgconn.FieldDescription, len(l.mapped))}
	for i, m := range l.mapped {
		c.fields[i] = pgconn.FieldDescription{Name: m.Name, DataTypeOID: m.OID, Format: m.Format}
	}
	if c.shape, c.own = d.shape(l, row, types); c.own {
		id, err := executable()
		if err != nil {
			return nil, fmt.Errorf("its rows are read by code of the program's own, and the program cannot be told from others: %w", err)
		}
		c.shape.ReadBy = id
	}
	c.plain = !c.own && d.fields.Plain(l.oids)
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
func (t *Table[K, T]) documentCodec(l *layout) replay.Codec[T] {
	return replay.Codec[T]{
		Shape:  checkpoint.Shape{Document: true, Key: columnNames(l.key)}.String(),
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

// build identifies this build of the program by the note that the Go linker leaves in it, which ends with a sum over all that was
// linked. "" where there is none: it was left out, or this system does not lead to the file that runs, whatever has its name now.
var build = sync.OnceValue(func() string {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it was only read
	s := f.Section(".note.go.buildid")
	if s == nil {
		return ""
	}
	const noteHead = 4 + 4 + 4 + len("Go\x00\x00") // lengths, type, and name
	note, err := s.Data()
	if err != nil || len(note) <= noteHead {
		return ""
	}
	return contentID(string(note[noteHead:]))
})

// contentID is a Go build ID that the go command has made, of four sums of which the last is over all that was linked; else "". Other
// builders leave their own text there, which may be the same for all that they build.
func contentID(id string) string {
	id = strings.TrimRight(id, "\x00")
	sums := strings.Split(id, "/")
	for _, sum := range sums {
		if raw, err := base64.RawURLEncoding.DecodeString(sum); err != nil || len(raw) != 15 {
			return ""
		}
	}
	if len(sums) != 4 {
		return ""
	}
	return id
}

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
