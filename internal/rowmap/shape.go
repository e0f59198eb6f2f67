package rowmap

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// Shape writes a type down to its parts, with the names and tags of its
// fields: two programs whose types have one shape read the same columns into the same places.
func Shape(t reflect.Type) string {
	var b strings.Builder
	shape(&b, t, nil)
	return b.String()
}

func shape(b *strings.Builder, t reflect.Type, within []reflect.Type) {
	if t.PkgPath() != "" {
		b.WriteString(t.PkgPath() + ".")
	}
	if t.Name() != "" {
		b.WriteString(t.Name())
		if t.PkgPath() == "" || slices.Contains(within, t) {
			return // predeclared, or written already
		}
		b.WriteByte('=')
	}
	within = append(slices.Clip(within), t)
	switch t.Kind() {
	case reflect.Struct:
		b.WriteString("struct{")
		for i := range t.NumField() {
			f := t.Field(i)
			fmt.Fprintf(b, "%s:%v:%q:", f.Name, f.Anonymous, f.Tag)
			shape(b, f.Type, within)
			b.WriteByte(';')
		}
		b.WriteByte('}')
	case reflect.Pointer, reflect.Slice:
		b.WriteString(t.Kind().String() + " of ")
		shape(b, t.Elem(), within)
	case reflect.Array:
		fmt.Fprintf(b, "[%d]", t.Len())
		shape(b, t.Elem(), within)
	case reflect.Map:
		b.WriteString("map[")
		shape(b, t.Key(), within)
		b.WriteByte(']')
		shape(b, t.Elem(), within)
	default:
		b.WriteString(t.Kind().String())
	}
}

// library are packages whose Scan and Value methods a new version of the
// application does not change.
var library = []string{
	"", "time", "net", "net/netip", "encoding/json", "math/big", "database/sql", "github.com/jackc/pgx/v5/pgtype", reflect.TypeFor[uuid.UUID]().PkgPath(),
}

// OwnCode reports whether reading or writing a value of the type may call a
// method that the application, or a library of its own choice, brings.
func OwnCode(t reflect.Type) bool { return ownCode(t, nil) }

func ownCode(t reflect.Type, within []reflect.Type) bool {
	if slices.Contains(within, t) {
		return false
	}
	within = append(slices.Clip(within), t)
	known := slices.Contains(library, t.PkgPath())
	if !known && (t.NumMethod() > 0 || reflect.PointerTo(t).NumMethod() > 0) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct:
		if known && t.PkgPath() != "" && !strings.Contains(t.Name(), "[") { // a generic one holds what it is given
			return false
		}
		for i := range t.NumField() {
			if ownCode(t.Field(i).Type, within) {
				return true
			}
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return ownCode(t.Elem(), within)
	case reflect.Map:
		return ownCode(t.Key(), within) || ownCode(t.Elem(), within)
	case reflect.Interface:
		return t.NumMethod() > 0
	}
	return false
}

// plainTypes are the types of columns that come back from their encoded form
// as they went in, whatever the value.
var plainTypes = map[reflect.Type][]uint32{
	reflect.TypeFor[string]():    {pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID},
	reflect.TypeFor[bool]():      {pgtype.BoolOID},
	reflect.TypeFor[int]():       {pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID},
	reflect.TypeFor[int64]():     {pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID},
	reflect.TypeFor[int32]():     {pgtype.Int2OID, pgtype.Int4OID},
	reflect.TypeFor[int16]():     {pgtype.Int2OID},
	reflect.TypeFor[float64]():   {pgtype.Float8OID},
	reflect.TypeFor[float32]():   {pgtype.Float4OID},
	reflect.TypeFor[[]byte]():    {pgtype.ByteaOID},
	reflect.TypeFor[uuid.UUID](): {pgtype.UUIDOID},
	reflect.TypeFor[time.Time](): {pgtype.TimestamptzOID, pgtype.TimestampOID, pgtype.DateOID},
}

// Plain reports whether no column needs to be looked at: see PlainType.
func (m *Fields) Plain(oids []uint32) bool {
	for i, c := range m.columns {
		if i >= len(oids) || !PlainType(m.root.FieldByIndex(c.path).Type, oids[i]) {
			return false
		}
	}
	return true
}

// PlainType reports whether every value of a column that is read into a field
// of the type comes back from its encoded form as it went in.
func PlainType(field reflect.Type, oid uint32) bool {
	if field.Kind() == reflect.Pointer {
		field = field.Elem()
	}
	return slices.Contains(plainTypes[field], oid)
}
