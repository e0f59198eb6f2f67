package rowjson

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Decoder makes rows of documents, for one list of columns. It is used by one
// goroutine at a time.
type Decoder struct {
	cols   []decoderColumn
	byName map[string]int
	// guesses[k] is what the k-th member of the last document was: documents of
	// one table have their members in one order.
	guesses []guess
	cur     cursor
	row     Row
}

type decoderColumn struct {
	name    string
	typ     *Type
	binary  bool
	notNull bool
	// verbatim: the column's bytes are the JSON text of the scalar.
	verbatim bool

	// Where the last document's value lies: in it, or in the row's buffer.
	place      place
	start, end int
}

type place uint8

const (
	absent place = iota
	null
	inDocument
	inBuffer
)

type guess struct {
	key string // the member's name as it stands in the document, in quotes
	col int    // -1 for a member that is not wanted
}

// maxGuesses is the most columns that a table can have.
const maxGuesses = 1600

// NewDecoder makes a Decoder for the columns, in their order. m must be set up
// like the maps of the connections that SELECT the same rows (their types
// registered alike), and nobody else may use m while the Decoder does.
//
// An error joins every column that cannot be decoded: its type is refused
// ([ErrRefused]), its name comes twice, or m's codec reads no format that can
// be made from a document.
func NewDecoder(m *pgtype.Map, cols []Column) (*Decoder, error) {
	d := &Decoder{byName: make(map[string]int, len(cols))}
	d.row.m = m
	d.row.buf = make([]byte, 0, 256) // never nil: an empty value is not NULL
	var errs []error
	for i, c := range cols {
		if _, twice := d.byName[c.Name]; twice {
			errs = append(errs, fmt.Errorf("column %q is named twice", c.Name))
		}
		d.byName[c.Name] = i
		if c.Type == nil {
			errs = append(errs, fmt.Errorf("column %q has no type", c.Name))
			continue
		}
		format, err := c.Type.Format(m)
		if err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", c.Name, err))
		}
		d.cols = append(d.cols, newDecoderColumn(c, format))
		d.row.fields = append(d.row.fields, pgconn.FieldDescription{
			Name: c.Name, DataTypeOID: c.Type.rowOID, Format: format,
		})
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("rowjson: %w", errors.Join(errs...))
	}
	d.row.cols = d.cols
	d.row.values = make([][]byte, len(cols))
	d.row.plans = make([]pgtype.ScanPlan, len(cols))
	d.row.planned = make([]reflect.Type, len(cols))
	return d, nil
}

func newDecoderColumn(c Column, format int16) decoderColumn {
	binary := format == pgtype.BinaryFormatCode
	return decoderColumn{
		name: c.Name, typ: c.Type, binary: binary, notNull: c.NotNull,
		verbatim: c.Type.isScalarText() && !binary && c.Type.scalar.text == nil,
	}
}

func (t *Type) isScalarText() bool {
	return t.kind == kindScalar || t.kind == kindRange || t.kind == kindMultirange
}

// Format is the format in which a column of the type is handed to m: the one
// that m prefers, if it can be made from a document. The error says why there is none.
func (t *Type) Format(m *pgtype.Map) (int16, error) {
	if t.refused != nil {
		return 0, t.refused
	}
	reg, ok := m.TypeForOID(t.rowOID)
	if !ok {
		return pgtype.TextFormatCode, nil
	}
	if m.FormatCodeForOID(t.rowOID) == pgtype.BinaryFormatCode && t.Binary() {
		return pgtype.BinaryFormatCode, nil
	}
	if reg.Codec.FormatSupported(pgtype.TextFormatCode) {
		return pgtype.TextFormatCode, nil
	}
	return 0, fmt.Errorf("type %s: pgx's codec for it reads only a binary form that cannot be made from JSON", t.name)
}

// Formats returns the formats of the columns, to be passed as the first
// argument of the query that SELECTs them in the same order. They are those
// that pgx would choose, but for a few types in text instead of binary. The
// query must go by the extended protocol: the simple one sends nothing but text.
func (d *Decoder) Formats() pgx.QueryResultFormats {
	formats := make(pgx.QueryResultFormats, len(d.row.fields))
	for i, f := range d.row.fields {
		formats[i] = f.Format
	}
	return formats
}

// Decode reads a document, an object with a member for each column. Members
// that are no column of the Decoder are skipped; columns without a member are
// absent ([Row.Absent]); of two members with one name the last counts.
//
// The Row and what it returns are good until the next Decode, and as long as
// doc is not changed. An error names the column, where it concerns one, and
// the offset in doc.
func (d *Decoder) Decode(doc []byte) (*Row, error) {
	row, _, err := d.decode(doc, false)
	return row, err
}

// decode reads a document, which is all of doc unless there may be more. n is where it ends.
func (d *Decoder) decode(doc []byte, more bool) (row *Row, n int, err error) {
	d.cur.doc, d.cur.pos = doc, 0
	d.row.buf = d.row.buf[:0]
	for i := range d.cols {
		d.cols[i].place = absent
	}
	if err = d.members(); err == nil && !more {
		err = d.cur.end()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("rowjson: document: %w", err)
	}
	for i := range d.cols {
		c := &d.cols[i]
		switch c.place {
		case inDocument:
			d.row.values[i] = doc[c.start:c.end:c.end]
		case inBuffer:
			d.row.values[i] = d.row.buf[c.start:c.end:c.end]
		case absent, null:
			d.row.values[i] = nil
		}
	}
	return &d.row, d.cur.pos, nil
}

func (d *Decoder) members() error {
	c := &d.cur
	if err := c.take('{'); err != nil {
		return err
	}
	for k := 0; ; k++ {
		b := c.peek()
		if b == '}' {
			break
		}
		if k > 0 {
			if err := c.take(','); err != nil {
				return err
			}
			b = c.peek()
		}
		if b != '"' {
			return c.errorf("want a column's name, have %s", c.here())
		}
		col, err := d.key(k)
		if err != nil {
			return err
		}
		if err := c.take(':'); err != nil {
			return err
		}
		if col < 0 {
			err = c.skip()
		} else if err = d.value(&d.cols[col]); err != nil {
			err = fmt.Errorf("column %q: %w", d.cols[col].name, err)
		}
		if err != nil {
			return err
		}
	}
	c.pos++
	return nil
}

// key reads the name of the k-th member and returns its column, -1 for none.
func (d *Decoder) key(k int) (int, error) {
	c := &d.cur
	start := c.pos
	if k < len(d.guesses) {
		g := &d.guesses[k]
		if end := start + len(g.key); end <= len(c.doc) && string(c.doc[start:end]) == g.key {
			c.pos = end
			return g.col, nil
		}
	}
	name, _, err := c.str()
	if err != nil {
		return 0, err
	}
	col, ok := d.byName[string(name)]
	if !ok {
		col = -1
	}
	g := guess{key: string(c.doc[start:c.pos]), col: col}
	switch {
	case k < len(d.guesses):
		d.guesses[k] = g
	case k < maxGuesses:
		d.guesses = append(d.guesses, g)
	}
	return col, nil
}
