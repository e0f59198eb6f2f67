package rowmap

import (
	"encoding/binary"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// direct reads the bytes of a column, not NULL, into the field at a place. It makes what pgx's own codec of
// the type makes of them, or returns false and leaves them to that: an error is always pgx's.
//
// A direct is made for a field's type and only ever called with places of such fields. Nothing else has to be
// true for its casts to be right.
type direct func(src []byte, at unsafe.Pointer) bool

// directOf finds the direct of a field for a column; nil where pgx is to read it. Only exact types are looked
// for, and only codecs that are pgx's own: a registered one may do as it likes.
func directOf(types *pgtype.Map, oid uint32, format int16, field reflect.Type) direct {
	if field.Kind() == reflect.Pointer {
		return directPointer(directOf(types, oid, format, field.Elem()), field.Elem())
	}
	if field == reflect.TypeFor[string]() && (format == pgx.TextFormatCode || oid == pgtype.TextOID || oid == pgtype.VarcharOID) {
		return directString // whatever the codec: so does pgx
	}
	t, ok := types.TypeForOID(oid)
	if !ok || format != pgx.BinaryFormatCode {
		return nil
	}
	switch c := t.Codec.(type) {
	case pgtype.TextCodec:
		return only(field, reflect.TypeFor[string](), directString)
	case pgtype.ByteaCodec:
		return only(field, reflect.TypeFor[[]byte](), directBytes)
	case pgtype.BoolCodec:
		return only(field, reflect.TypeFor[bool](), directBool)
	case pgtype.Int2Codec, pgtype.Int4Codec, pgtype.Int8Codec:
		return directInts[field]
	case pgtype.Float4Codec:
		return only(field, reflect.TypeFor[float32](), directFloat32)
	case pgtype.Float8Codec:
		return only(field, reflect.TypeFor[float64](), directFloat64)
	case pgtype.UUIDCodec:
		return only(field, reflect.TypeFor[uuid.UUID](), directUUID)
	case *pgtype.TimestamptzCodec:
		if c.ScanLocation == nil && len(types.TryWrapScanPlanFuncs) == pgxWraps {
			return only(field, reflect.TypeFor[time.Time](), directTime)
		}
	}
	return nil
}

// pgxWraps is how many ways pgx has to fit a destination to a codec; a map with another number has been told
// of a way of the application's own.
var pgxWraps = len(pgtype.NewMap().TryWrapScanPlanFuncs)

func only(field, want reflect.Type, d direct) direct {
	if field != want {
		return nil
	}
	return d
}

func directPointer(d direct, elem reflect.Type) direct {
	if d == nil {
		return nil
	}
	return func(src []byte, at unsafe.Pointer) bool {
		p := reflect.New(elem).UnsafePointer()
		if !d(src, p) {
			return false
		}
		*(*unsafe.Pointer)(at) = p
		return true
	}
}

func directString(src []byte, at unsafe.Pointer) bool {
	*(*string)(at) = string(src)
	return true
}

func directBytes(src []byte, at unsafe.Pointer) bool {
	b := make([]byte, len(src))
	copy(b, src)
	*(*[]byte)(at) = b
	return true
}

func directBool(src []byte, at unsafe.Pointer) bool {
	if len(src) != 1 {
		return false
	}
	*(*bool)(at) = src[0] == 1
	return true
}

var directInts = map[reflect.Type]direct{
	reflect.TypeFor[int]():   directInt[int],
	reflect.TypeFor[int64](): directInt[int64],
	reflect.TypeFor[int32](): directInt[int32],
	reflect.TypeFor[int16](): directInt[int16],
}

// directInt reads an integer of any size that the destination holds.
func directInt[I int | int64 | int32 | int16](src []byte, at unsafe.Pointer) bool {
	var n int64
	switch len(src) {
	case 2:
		n = int64(int16(binary.BigEndian.Uint16(src)))
	case 4:
		n = int64(int32(binary.BigEndian.Uint32(src)))
	case 8:
		n = int64(binary.BigEndian.Uint64(src))
	default:
		return false
	}
	*(*I)(at) = I(n)
	return int64(I(n)) == n
}

func directFloat32(src []byte, at unsafe.Pointer) bool {
	if len(src) != 4 {
		return false
	}
	*(*float32)(at) = math.Float32frombits(binary.BigEndian.Uint32(src))
	return true
}

func directFloat64(src []byte, at unsafe.Pointer) bool {
	if len(src) != 8 {
		return false
	}
	*(*float64)(at) = math.Float64frombits(binary.BigEndian.Uint64(src))
	return true
}

func directUUID(src []byte, at unsafe.Pointer) bool {
	if len(src) != len(uuid.UUID{}) {
		return false
	}
	*(*uuid.UUID)(at) = uuid.UUID(src)
	return true
}

// directTime reads microseconds since 2000. The highest and the lowest number are the infinities, which no time is.
func directTime(src []byte, at unsafe.Pointer) bool {
	const year2000, second = 946_684_800, 1_000_000
	if len(src) != 8 {
		return false
	}
	us := int64(binary.BigEndian.Uint64(src))
	if us == math.MaxInt64 || us == math.MinInt64 {
		return false
	}
	*(*time.Time)(at) = time.Unix(year2000+us/second, us%second*1000)
	return true
}
