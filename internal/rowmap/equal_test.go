package rowmap

import (
	"math"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

func TestEqualIsEqualityOfWhatPostgresStores(t *testing.T) {
	now := time.Now()
	text := "x"
	otherNaN := math.Float64frombits(0xfff8000000000001)
	id := uuid.New()
	numeric := func(i int64, exp int32) pgtype.Numeric {
		return pgtype.Numeric{Int: big.NewInt(i), Exp: exp, Valid: true}
	}
	for name, c := range map[string]struct {
		oid  uint32
		a, b any
		want bool
	}{
		"ints":                          {pgtype.Int4OID, int32(1), int32(1), true},
		"other ints":                    {pgtype.Int4OID, int32(1), int32(2), false},
		"ints of two kinds":             {pgtype.Int8OID, int32(1), int64(1), true},
		"strings":                       {pgtype.TextOID, "a", "b", false},
		"NULLs":                         {pgtype.TextOID, nil, (*string)(nil), true},
		"invalid and nil":               {pgtype.TextOID, pgtype.Text{}, nil, true},
		"NULL and empty":                {pgtype.TextOID, nil, "", false},
		"empty and NULL":                {pgtype.ByteaOID, []byte{}, []byte(nil), false},
		"pointer and value":             {pgtype.TextOID, &text, "x", true},
		"NaNs":                          {pgtype.Float8OID, math.NaN(), otherNaN, true},
		"NaN and number":                {pgtype.Float8OID, math.NaN(), 1.0, false},
		"NaNs in arrays":                {pgtype.Float8ArrayOID, []float64{1, math.NaN()}, []float64{1, otherNaN}, true},
		"NaNs in unlike arrays":         {pgtype.Float8ArrayOID, []float64{1, math.NaN()}, []float64{2, otherNaN}, false},
		"float4 NaNs":                   {pgtype.Float4OID, float32(math.NaN()), math.Float32frombits(0xffc00001), true},
		"zeros":                         {pgtype.Float8OID, 0.0, math.Copysign(0, -1), false},
		"scales":                        {pgtype.NumericOID, numeric(10, -1), numeric(100, -2), false},
		"numerics":                      {pgtype.NumericOID, numeric(10, -1), numeric(10, -1), true},
		"times within a microsecond":    {pgtype.TimestamptzOID, now.Truncate(time.Microsecond), now.Truncate(time.Microsecond).Add(999).UTC(), true},
		"times":                         {pgtype.TimestamptzOID, now, now.Add(time.Microsecond), false},
		"monotonic clock":               {pgtype.TimestamptzOID, now, now.Round(0), true},
		"uuids":                         {pgtype.UUIDOID, id, [16]byte(id), true},
		"prefixes":                      {pgtype.InetOID, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/9"), false},
		"maps as jsonb":                 {pgtype.JSONBOID, map[string]any{"a": 1, "b": 2}, map[string]any{"b": 2, "a": 1}, true},
		"other maps as jsonb":           {pgtype.JSONBOID, map[string]any{"a": 1}, map[string]any{"a": 2}, false},
		"nil and empty slices":          {pgtype.Int4ArrayOID, []int32(nil), []int32{}, false},
		"arrays":                        {pgtype.Int4ArrayOID, []int32{1, 2}, []int32{1, 2}, true},
		"longer arrays":                 {pgtype.Int4ArrayOID, []int32{1, 2}, []int32{1, 2, 3}, false},
		"bytes":                         {pgtype.ByteaOID, []byte("a"), []byte("b"), false},
		"a type that pgx does not know": {99999, "x", "y", false},
		"only text can be encoded":      {pgtype.DateOID, "2020-01-01", "2020-01-02", false},
		"only text, the same":           {pgtype.DateOID, &[]string{"2020-01-01"}[0], "2020-01-01", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := pgtype.NewMap()
			for range 2 {
				got, err := Equal(m, []uint32{c.oid}, []any{c.a}, []any{c.b})
				if err != nil || got != c.want {
					t.Errorf("%v and %v: %v, %v", c.a, c.b, got, err)
				}
				c.a, c.b = c.b, c.a
			}
		})
	}
}

func TestEqualReportsWhatItCannotCompare(t *testing.T) {
	m := pgtype.NewMap()
	if _, err := Equal(m, []uint32{pgtype.Int4OID}, []any{make(chan int)}, []any{1}); err == nil {
		t.Error("a channel was encoded")
	}
	if _, err := Equal(m, []uint32{pgtype.Int4OID}, []any{1, 2}, []any{1, 2}); err == nil {
		t.Error("two values of one column")
	}
}
