package rowmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Coder writes the values of a row as encoded columns, in the format in which
// a SELECT brings each, and makes rows of them that scan as the SELECT's do.
// It is used by one goroutine at a time, and so is its map.
type Coder struct {
	m       *pgtype.Map
	scratch []byte
	row     codedRow
}

// errShort means that encoded columns end too early, or too late.
var errShort = errors.New("rowmap: the encoded row has another length")

// NewCoder makes a Coder for columns of these types and formats.
func NewCoder(m *pgtype.Map, fields []pgconn.FieldDescription) *Coder {
	n := len(fields)
	return &Coder{m: m, scratch: make([]byte, 0, 64), row: codedRow{
		m: m, fields: fields, formats: make([]int16, n), values: make([][]byte, n),
		plans: make([]plan, n),
	}}
}

// Append appends the encoded values to dst. other reports that one of them
// could only be encoded in the other format than the column's.
func (c *Coder) Append(dst []byte, values []any) (out []byte, other bool, err error) {
	if len(values) != len(c.row.fields) {
		return nil, false, fmt.Errorf("rowmap: %d values for %d columns", len(values), len(c.row.fields))
	}
	for i, v := range values {
		f := &c.row.fields[i]
		b, err := c.m.Encode(f.DataTypeOID, f.Format, v, c.scratch[:0])
		var flag uint64
		if err != nil {
			flag, other = 1, true
			if b, err = c.m.Encode(f.DataTypeOID, 1-f.Format, v, c.scratch[:0]); err != nil {
				return nil, false, fmt.Errorf("column %s: %w", f.Name, err)
			}
		}
		if b == nil {
			dst = append(dst, 0)
			continue
		}
		c.scratch = b
		dst = binary.AppendUvarint(dst, 1+(uint64(len(b))<<1|flag))
		dst = append(dst, b...)
	}
	return dst, other, nil
}

// Row makes a row of what Append has written. It is good until the next Row,
// and as long as src is not changed.
func (c *Coder) Row(src []byte) (pgx.CollectableRow, error) {
	r := &c.row
	for i := range r.fields {
		tag, n := binary.Uvarint(src)
		if n <= 0 {
			return nil, errShort
		}
		src = src[n:]
		if tag == 0 {
			r.values[i], r.formats[i] = nil, r.fields[i].Format
			continue
		}
		tag--
		size := tag >> 1
		if size > uint64(len(src)) {
			return nil, errShort
		}
		r.values[i], src = src[:size:size], src[size:]
		r.formats[i] = r.fields[i].Format
		if tag&1 == 1 {
			r.formats[i] = 1 - r.formats[i]
		}
	}
	if len(src) > 0 {
		return nil, errShort
	}
	return r, nil
}

// codedRow scans as pgx's rows do.
type codedRow struct {
	m       *pgtype.Map
	fields  []pgconn.FieldDescription
	formats []int16
	values  [][]byte
	plans   []plan
}

// plan is how a column was scanned last.
type plan struct {
	pgtype.ScanPlan
	typ    reflect.Type
	format int16
}

// FieldDescriptions implements pgx.CollectableRow.
func (r *codedRow) FieldDescriptions() []pgconn.FieldDescription { return r.fields }

// TypeMap is what the columns are decoded with.
func (r *codedRow) TypeMap() *pgtype.Map { return r.m }

// RawValues implements pgx.CollectableRow.
func (r *codedRow) RawValues() [][]byte { return r.values }

// Scan implements pgx.CollectableRow.
func (r *codedRow) Scan(dest ...any) error {
	if len(dest) == 1 {
		if s, ok := dest[0].(pgx.RowScanner); ok {
			return s.ScanRow(onlyRow{r})
		}
	}
	if len(dest) != len(r.fields) {
		return fmt.Errorf("rowmap: %d destinations for %d columns", len(dest), len(r.fields))
	}
	for i, dst := range dest {
		if dst == nil {
			continue
		}
		p := &r.plans[i]
		if typ := reflect.TypeOf(dst); p.ScanPlan == nil || typ != p.typ || r.formats[i] != p.format {
			*p = plan{r.m.PlanScan(r.fields[i].DataTypeOID, r.formats[i], dst), typ, r.formats[i]}
		}
		if err := p.Scan(r.values[i], dst); err != nil {
			return pgx.ScanArgError{ColumnIndex: i, FieldName: r.fields[i].Name, Err: err}
		}
	}
	return nil
}

// Values implements pgx.CollectableRow.
func (r *codedRow) Values() ([]any, error) {
	values := make([]any, len(r.fields))
	for i, raw := range r.values {
		if raw == nil {
			continue
		}
		f := &r.fields[i]
		t, ok := r.m.TypeForOID(f.DataTypeOID)
		if !ok {
			values[i] = string(raw)
			continue
		}
		v, err := t.Codec.DecodeValue(r.m, f.DataTypeOID, r.formats[i], raw)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		values[i] = v
	}
	return values, nil
}

// onlyRow is a row as a pgx.RowScanner wants to see it.
type onlyRow struct{ *codedRow }

func (onlyRow) Close()                        {}
func (onlyRow) Err() error                    { return nil }
func (onlyRow) CommandTag() pgconn.CommandTag { return pgconn.CommandTag{} }
func (onlyRow) Next() bool                    { return false }
func (onlyRow) Conn() *pgx.Conn               { return nil }

// AppendEncoded appends columns that are encoded already, each in its column's format; nil is a NULL.
func AppendEncoded(dst []byte, values [][]byte) []byte {
	for _, v := range values {
		if v == nil {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, 1+(uint64(len(v))<<1))
		dst = append(dst, v...)
	}
	return dst
}

// SplitEncoded finds the columns in what Append has written, which must have as many as values. They share
// src's memory; nil is a NULL. other[i] says that one stands in the other format than its column's.
func SplitEncoded(src []byte, values [][]byte, other []bool) error {
	for i := range values {
		tag, n := binary.Uvarint(src)
		if n <= 0 {
			return errShort
		}
		src = src[n:]
		if values[i], other[i] = nil, false; tag == 0 {
			continue
		}
		tag--
		size := tag >> 1
		if size > uint64(len(src)) {
			return errShort
		}
		values[i], src, other[i] = src[:size:size], src[size:], tag&1 == 1
	}
	if len(src) > 0 {
		return errShort
	}
	return nil
}
