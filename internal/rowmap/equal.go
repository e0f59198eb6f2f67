package rowmap

import (
	"bytes"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
)

// Equal reports whether the values of two rows are the same once encoded for
// Postgres, column by column, in the format that m prefers for the type, else
// in the other one. It is what Postgres would store that counts: a time beyond
// microseconds, a nil pointer or an invalid pgtype value make no difference of
// their own. A NaN equals a NaN; 1.0 and 1.00 differ as numeric, 0 and -0 as
// float.
//
// The slices are as Mapping.Values gives them and as long as oids, else there
// is an error; so there is for a value that cannot be encoded. Nobody else may
// use m meanwhile.
func Equal(m *pgtype.Map, oids []uint32, a, b []any) (bool, error) {
	if len(a) != len(oids) || len(b) != len(oids) {
		return false, fmt.Errorf("rowmap: compare %d and %d values of %d columns", len(a), len(b), len(oids))
	}
	e := encoder{m: m}
	for i, oid := range oids {
		if same(a[i], b[i]) {
			continue
		}
		equal, err := e.equal(oid, a[i], b[i])
		if err != nil {
			return false, fmt.Errorf("rowmap: compare column %d: %w", i, err)
		}
		if !equal {
			return false, nil
		}
	}
	return true, nil
}

// same saves encoding the values that most columns have. It must only be true
// for values that encode alike.
func same(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		b, ok := b.(string)
		return ok && a == b
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	case int:
		b, ok := b.(int)
		return ok && a == b
	case int16:
		b, ok := b.(int16)
		return ok && a == b
	case int32:
		b, ok := b.(int32)
		return ok && a == b
	case int64:
		b, ok := b.(int64)
		return ok && a == b
	}
	return false
}

// encoder keeps its buffers from column to column.
type encoder struct {
	m    *pgtype.Map
	a, b []byte
}

func (e *encoder) equal(oid uint32, a, b any) (bool, error) {
	preferred := e.m.FormatCodeForOID(oid)
	equal, err := e.equalIn(oid, preferred, a, b)
	if equal && err == nil {
		return true, nil
	}
	// Either the values cannot be encoded so, or they differ: in text, NaNs of
	// all payloads and the bits behind a bit string's end look the same.
	other := int16(pgtype.TextFormatCode)
	if preferred == pgtype.TextFormatCode {
		if err == nil {
			return false, nil
		}
		other = pgtype.BinaryFormatCode
	}
	equal, otherErr := e.equalIn(oid, other, a, b)
	switch {
	case otherErr == nil:
		return equal, nil
	case err != nil:
		return false, err
	}
	return false, nil // no text form, and the binary ones differ
}

func (e *encoder) equalIn(oid uint32, format int16, a, b any) (bool, error) {
	if e.a == nil {
		e.a, e.b = make([]byte, 0, 64), make([]byte, 0, 64) // a NULL encodes as nil
	}
	ea, err := e.m.Encode(oid, format, a, e.a[:0])
	if err != nil {
		return false, err
	}
	eb, err := e.m.Encode(oid, format, b, e.b[:0])
	if err != nil {
		return false, err
	}
	equal := (ea == nil) == (eb == nil) && bytes.Equal(ea, eb)
	if ea != nil {
		e.a = ea
	}
	if eb != nil {
		e.b = eb
	}
	return equal, nil
}
