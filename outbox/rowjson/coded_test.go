package rowjson

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/rowmap"
)

// fieldTypes are types of fields that columns are read into, besides what pgx
// itself makes of a column.
var fieldTypes = []reflect.Type{
	reflect.TypeFor[any](), reflect.TypeFor[string](), reflect.TypeFor[*string](), reflect.TypeFor[[]byte](), reflect.TypeFor[bool](), reflect.TypeFor[*bool](),
	reflect.TypeFor[int](), reflect.TypeFor[*int](), reflect.TypeFor[int16](), reflect.TypeFor[int32](), reflect.TypeFor[int64](), reflect.TypeFor[uint32](), reflect.TypeFor[uint64](),
	reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[*float64](), reflect.TypeFor[time.Time](), reflect.TypeFor[*time.Time](), reflect.TypeFor[time.Duration](),
	reflect.TypeFor[uuid.UUID](), reflect.TypeFor[*uuid.UUID](), reflect.TypeFor[[16]byte](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[json.RawMessage](),
	reflect.TypeFor[map[string]any](), reflect.TypeFor[[]string](), reflect.TypeFor[[]*string](), reflect.TypeFor[[]int64](), reflect.TypeFor[[]float64](), reflect.TypeFor[[]time.Time](),
	reflect.TypeFor[pgtype.Text](), reflect.TypeFor[pgtype.Int8](), reflect.TypeFor[pgtype.Bool](), reflect.TypeFor[pgtype.Float8](), reflect.TypeFor[pgtype.Numeric](), reflect.TypeFor[pgtype.Timestamptz](),
	reflect.TypeFor[pgtype.Timestamp](), reflect.TypeFor[pgtype.Date](), reflect.TypeFor[pgtype.Time](), reflect.TypeFor[pgtype.Interval](), reflect.TypeFor[pgtype.UUID](), reflect.TypeFor[pgtype.Bits](),
	reflect.TypeFor[pgtype.Point](), reflect.TypeFor[pgtype.Range[pgtype.Int8]](), reflect.TypeFor[pgtype.Range[pgtype.Timestamptz]](),
}

// coding is what became of the values of one kind of column in one type of field.
type coding struct{ kept, unfit, lost int }

// TestAFieldComesBackFromItsEncodedColumnAsALoadGivesItOrIsFoundNotTo goes
// through every built-in type, by itself and inside arrays, domains and
// composites, and every type of field that a load can read it into. What is encoded
// and read again must be the same value, or be told from it; the fields that
// nobody looks at (rowmap.Mapping.Plain) must be the same always.
func TestAFieldComesBackFromItsEncodedColumnAsALoadGivesItOrIsFoundNotTo(t *testing.T) {
	w := newWorld(t)
	rnd := seeded(t)
	onServer := slices.Collect(maps.Values(builtIn(t, w.load)))
	tally := map[string]*coding{}
	for _, typ := range slices.Sorted(maps.Keys(samples)) {
		if slices.Contains(onServer, typ) {
			s := samples[typ]
			s.random = nil // every column is read into dozens of fields
			table, _ := w.fill(t, typ, s, rnd)
			w.code(t, table, typ, tally)
		}
	}
	var sum coding
	for _, what := range slices.Sorted(maps.Keys(tally)) {
		c := tally[what]
		sum.kept, sum.unfit, sum.lost = sum.kept+c.kept, sum.unfit+c.unfit, sum.lost+c.lost
		if c.unfit+c.lost > 0 {
			t.Logf("%s: %d kept, %d cannot be encoded, %d come back as another value", what, c.kept, c.unfit, c.lost)
		}
	}
	t.Logf("%d values came back, %d could not be encoded and %d were found to come back as another", sum.kept, sum.unfit, sum.lost)
	if sum.kept < 10_000 {
		t.Error("hardly anything was tried")
	}
}

func (w *world) code(t *testing.T, table, typ string, tally map[string]*coding) {
	t.Helper()
	cols := columns(t, w.load, table)
	rows, err := w.load.Query(t.Context(), selectSQL(cols, table), w.decoder(t, cols).Formats())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	m := w.load.TypeMap().Copy()
	for rows.Next() {
		fields, raw := rows.FieldDescriptions(), rows.RawValues()
		for i := range cols {
			types := fieldTypes
			if v, err := decodeValue(m, &fields[i], raw[i]); err == nil && v != nil {
				types = append(slices.Clip(types), reflect.TypeOf(v))
			}
			for _, ft := range types {
				what := fmt.Sprintf("%s as %s", strings.ReplaceAll(cols[i].Type.String(), "public.", ""), ft)
				c := tally[what]
				if c == nil {
					c = &coding{}
					tally[what] = c
				}
				code(t, c, what, m, fields[i], raw[i], ft)
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(typ, err)
	}
}

func decodeValue(m *pgtype.Map, f *pgconn.FieldDescription, raw []byte) (any, error) {
	dt, ok := m.TypeForOID(f.DataTypeOID)
	if !ok || raw == nil {
		return nil, nil
	}
	return dt.Codec.DecodeValue(m, f.DataTypeOID, f.Format, raw)
}

// code reads a column into a field, encodes it, reads that, and compares.
func code(t *testing.T, c *coding, what string, m *pgtype.Map, f pgconn.FieldDescription, raw []byte, ft reflect.Type) {
	loaded := reflect.New(ft)
	if m.PlanScan(f.DataTypeOID, f.Format, loaded.Interface()).Scan(raw, loaded.Interface()) != nil {
		return // no load reads it so
	}
	coder := rowmap.NewCoder(m, []pgconn.FieldDescription{f})
	b, _, err := coder.Append(nil, []any{loaded.Elem().Interface()})
	if err != nil {
		c.unfit++
		return
	}
	again := reflect.New(ft)
	var row pgx.CollectableRow
	if row, err = coder.Row(b); err == nil {
		err = row.Scan(again.Interface())
	}
	x, y := loaded.Elem().Interface(), again.Elem().Interface()
	if err == nil && rowmap.Identical(&x, &y) {
		c.kept++
		if ft.Kind() != reflect.Pointer && !sameGo(x, y) { // a pointer to a NaN
			t.Errorf("%s: %#v and %#v are called identical", what, x, y)
		}
		return
	}
	c.lost++
	if rowmap.PlainType(ft, f.DataTypeOID) {
		t.Errorf("%s: %#v has come back as %#v (%v)", what, x, y, err)
	}
}
