package rowjson

import (
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Row is a decoded document. It is a [pgx.CollectableRow] and does what pgx's
// own rows do, except that Scan leaves the destination of an absent column
// untouched.
type Row struct {
	m       *pgtype.Map
	fields  []pgconn.FieldDescription
	cols    []decoderColumn
	values  [][]byte
	buf     []byte
	plans   []pgtype.ScanPlan // for destinations of the type planned
	planned []reflect.Type
}

var _ pgx.CollectableRow = (*Row)(nil)

// Absent reports whether the document had no member for column i.
func (r *Row) Absent(i int) bool { return r.cols[i].place == absent }

// FieldDescriptions returns name, OID and format of the columns. The slice is
// the Decoder's own and the same for all rows.
func (r *Row) FieldDescriptions() []pgconn.FieldDescription { return r.fields }

// TypeMap is what the columns are decoded with.
func (r *Row) TypeMap() *pgtype.Map { return r.m }

// RawValues returns the columns' bytes in the formats of FieldDescriptions,
// nil for NULL and for an absent column. They are good until the next Decode.
func (r *Row) RawValues() [][]byte { return r.values }

// Scan reads the columns into dest as pgx.Rows.Scan does; a nil destination is
// skipped. An error is a [pgx.ScanArgError].
func (r *Row) Scan(dest ...any) error {
	if len(dest) == 1 {
		if s, ok := dest[0].(pgx.RowScanner); ok {
			return s.ScanRow(rowsOfOne{r})
		}
	}
	if len(dest) != len(r.fields) {
		return fmt.Errorf("number of field descriptions must equal number of destinations, got %d and %d", len(r.fields), len(dest))
	}
	for i, dst := range dest {
		if dst == nil || r.cols[i].place == absent {
			continue
		}
		if typ := reflect.TypeOf(dst); typ != r.planned[i] {
			r.plans[i] = r.m.PlanScan(r.fields[i].DataTypeOID, r.fields[i].Format, dst)
			r.planned[i] = typ
		}
		if err := r.plans[i].Scan(r.values[i], dst); err != nil {
			return pgx.ScanArgError{ColumnIndex: i, FieldName: r.fields[i].Name, Err: err}
		}
	}
	return nil
}

// Values returns the columns as pgx.Rows.Values does, nil for NULL and for an
// absent column.
func (r *Row) Values() ([]any, error) {
	values := make([]any, len(r.fields))
	for i, raw := range r.values {
		if raw == nil {
			continue
		}
		f := &r.fields[i]
		dt, ok := r.m.TypeForOID(f.DataTypeOID)
		if !ok { // such a column is text
			values[i] = string(raw)
			continue
		}
		v, err := dt.Codec.DecodeValue(r.m, f.DataTypeOID, f.Format, raw)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		values[i] = v
	}
	return values, nil
}

// rowsOfOne is a Row as a pgx.RowScanner wants to see it.
type rowsOfOne struct{ *Row }

var _ pgx.Rows = rowsOfOne{}

func (rowsOfOne) Close()                        {}
func (rowsOfOne) Err() error                    { return nil }
func (rowsOfOne) CommandTag() pgconn.CommandTag { return pgconn.CommandTag{} }
func (rowsOfOne) Next() bool                    { return false }
func (rowsOfOne) Conn() *pgx.Conn               { return nil }
func (r rowsOfOne) TypeMap() *pgtype.Map        { return r.m }
