package stored

import (
	"bytes"
	"encoding/json"
	"math/big"
	"reflect"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Differ names the columns in which a row of the checkpoint differs from one that Postgres has sent: in value, not in
// the way in which it is encoded. A document has one column, its text.
func (t *Table) Differ(kept []byte, theirs pgx.CollectableRow) (columns []string, err error) {
	raw := theirs.RawValues()
	if t.shape.Document {
		if !bytes.Equal(kept, raw[0]) {
			return []string{"row"}, nil
		}
		return nil, nil
	}
	values, err := t.Columns(kept)
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		if !t.same(i, v, Value{Bytes: raw[i]}) {
			columns = append(columns, t.shape.Columns[i].Name)
		}
	}
	return columns, nil
}

func (t *Table) same(i int, kept, theirs Value) bool {
	if (kept.Bytes == nil) != (theirs.Bytes == nil) {
		return false
	}
	if !kept.Other && bytes.Equal(kept.Bytes, theirs.Bytes) {
		return true
	}
	c := &t.shape.Columns[i]
	typ, known := t.types.TypeForOID(c.OID)
	if !known {
		return bytes.Equal(kept.Bytes, theirs.Bytes)
	}
	if c.OID == pgtype.JSONOID || c.OID == pgtype.JSONBOID {
		return sameJSON(kept.Bytes, theirs.Bytes)
	}
	a, err := typ.Codec.DecodeValue(t.types, c.OID, kept.format(c), kept.Bytes)
	if err != nil {
		return false
	}
	b, err := typ.Codec.DecodeValue(t.types, c.OID, theirs.format(c), theirs.Bytes)
	if err != nil {
		return false
	}
	if x, ok := a.(pgtype.Numeric); ok {
		y, _ := b.(pgtype.Numeric)
		return sameNumeric(x, y)
	}
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, err := t.types.Encode(c.OID, c.Format, a, nil)
	if err != nil {
		return false
	}
	y, err := t.types.Encode(c.OID, c.Format, b, nil)
	return err == nil && bytes.Equal(x, y)
}

// sameJSON compares two documents as they are read: a number is a float64 there.
func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// sameNumeric compares numbers whatever their scale. The application may have read theirs into a float64: what is
// kept is then the shortest number that reads as that.
func sameNumeric(kept, theirs pgtype.Numeric) bool {
	if kept.NaN || theirs.NaN || kept.InfinityModifier != 0 || theirs.InfinityModifier != 0 || kept.Int == nil || theirs.Int == nil {
		return kept.NaN == theirs.NaN && kept.InfinityModifier == theirs.InfinityModifier
	}
	x, y := rational(kept), rational(theirs)
	if x.Cmp(y) == 0 {
		return true
	}
	f, _ := y.Float64()
	short, ok := new(big.Rat).SetString(strconv.FormatFloat(f, 'f', -1, 64))
	return ok && x.Cmp(short) == 0
}

func rational(n pgtype.Numeric) *big.Rat {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(n.Exp, -n.Exp))), nil)
	if n.Exp < 0 {
		return new(big.Rat).SetFrac(n.Int, scale)
	}
	return new(big.Rat).SetInt(new(big.Int).Mul(n.Int, scale))
}
