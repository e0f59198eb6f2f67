package rowmap

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// scanner reads rows into structs of one type. It keeps what it has found out about the columns of the row
// before. It is for one goroutine.
type scanner struct {
	columns []column
	types   *pgtype.Map // for which directs were found; nil at first
	oids    []uint32    // and so on
	formats []int16
	directs []direct
	dests   []any // for what pgx is to read
}

func newScanner(columns []column) *scanner {
	n := len(columns)
	return &scanner{
		columns: columns, oids: make([]uint32, n), formats: make([]int16, n), directs: make([]direct, n), dests: make([]any, n),
	}
}

// scan reads the row into the struct at a place.
func (s *scanner) scan(row pgx.CollectableRow, at unsafe.Pointer) error {
	typed, ok := row.(interface{ TypeMap() *pgtype.Map })
	fields, raw := row.FieldDescriptions(), row.RawValues()
	if !ok || len(fields) != len(s.columns) || len(raw) != len(s.columns) {
		for i := range s.columns {
			s.dests[i] = s.columns[i].dest(at)
		}
		return s.byPgx(row)
	}
	left := false
	for i := range s.columns {
		d := s.direct(i, typed.TypeMap(), &fields[i])
		if d == nil || raw[i] == nil || !d(raw[i], unsafe.Add(at, s.columns[i].offset)) {
			s.dests[i], left = s.columns[i].dest(at), true
		}
	}
	if !left {
		return nil
	}
	return s.byPgx(row)
}

// direct is that of column i, found again where the column is another than in the row before.
func (s *scanner) direct(i int, types *pgtype.Map, f *pgconn.FieldDescription) direct {
	if types != s.types {
		clear(s.oids)
		s.types = types
	}
	if f.DataTypeOID != s.oids[i] || f.Format != s.formats[i] {
		s.directs[i] = nil
		if types != nil {
			s.directs[i] = directOf(types, f.DataTypeOID, f.Format, s.columns[i].typ)
		}
		s.oids[i], s.formats[i] = f.DataTypeOID, f.Format
	}
	return s.directs[i]
}

// byPgx scans the columns that have a destination.
func (s *scanner) byPgx(row pgx.CollectableRow) error {
	defer clear(s.dests)
	// A T with one field that scans whole rows must not be taken for the row.
	if len(s.dests) == 1 {
		if _, ok := s.dests[0].(pgx.RowScanner); ok {
			return fmt.Errorf("rowmap: a single column of type %T, which scans whole rows", s.dests[0])
		}
	}
	return row.Scan(s.dests...) //nolint:wrapcheck // pgx's own names the column
}

// dest is the column's field in the struct at a place, as pgx takes it.
func (c *column) dest(at unsafe.Pointer) any {
	dest := reflect.NewAt(c.typ, unsafe.Add(at, c.offset)).Interface()
	if id, ok := dest.(*uuid.UUID); ok {
		return (*uuidDest)(id)
	}
	return dest
}
