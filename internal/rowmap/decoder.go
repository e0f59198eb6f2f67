package rowmap

import (
	"encoding/binary"
	"reflect"
	"unsafe"
)

// decoder reads encoded rows into structs of one type. It does what Scan of the Coder's Row would do, and takes the way through these for
// what it cannot read by itself. It is for one goroutine.
type decoder struct {
	fields  *Fields
	coder   *Coder
	columns []decodedColumn
}

type decodedColumn struct {
	offset  uintptr
	kind    decodedKind
	pointer bool   // a NULL is nil
	read    direct // nil where pgx is to read it
}

// decodedKind tells apart what most columns are, which is read without a call.
type decodedKind uint8

const (
	decodedByCall decodedKind = iota
	decodedInt                // an integer into one of 64 bits
	decodedShared             // a text, without copying it
)

// Decoder makes a function that reads what the Coder's Append has written of a row into a zero T, or into one that it has read before. It does what
// Scan does. With peek the row is only to be looked at: its strings may share src's memory. The function and the Coder are for one goroutine.
func (m *Mapping[T]) Decoder(c *Coder, peek bool) func(src []byte, into *T) error {
	d := &decoder{fields: &m.Fields, coder: c}
	for i := range m.columns {
		col := &m.columns[i]
		dc := decodedColumn{offset: col.offset, pointer: col.typ.Kind() == reflect.Pointer}
		if len(c.row.fields) == len(m.columns) {
			f := &c.row.fields[i]
			dc.read = directOf(c.m, f.DataTypeOID, f.Format, col.typ)
		}
		switch {
		case dc.read == nil:
		case peek && col.typ == reflect.TypeFor[string]():
			dc.kind = decodedShared
		case col.typ == reflect.TypeFor[int64]() || col.typ == reflect.TypeFor[int]() && col.typ.Size() == 8:
			dc.kind = decodedInt
		}
		d.columns = append(d.columns, dc)
	}
	return func(src []byte, into *T) error {
		if d.directly(src, unsafe.Pointer(into)) {
			return nil
		}
		var zero T
		*into = zero
		return d.byScan(src, unsafe.Pointer(into))
	}
}

func (d *decoder) byScan(src []byte, at unsafe.Pointer) error {
	row, err := d.coder.Row(src)
	if err != nil {
		return err
	}
	return d.fields.scan(row, at)
}

// directly reads a row all of whose columns it can read; false for any other, of which it may have read some.
func (d *decoder) directly(src []byte, to unsafe.Pointer) bool {
	for i := range d.columns {
		c := &d.columns[i]
		if c.read == nil || len(src) == 0 {
			return false
		}
		tag, n := uint64(src[0]), 1
		if tag >= 0x80 { // a value longer than a few bytes
			if tag, n = binary.Uvarint(src); n <= 0 {
				return false
			}
		}
		src = src[n:]
		at := unsafe.Add(to, c.offset)
		if tag == 0 {
			if !c.pointer {
				return false
			}
			*(*unsafe.Pointer)(at) = nil
			continue
		}
		tag--
		size := tag >> 1
		if tag&1 == 1 || size > uint64(len(src)) {
			return false
		}
		switch {
		case c.kind == decodedInt && size == 4:
			*(*int64)(at) = int64(int32(binary.BigEndian.Uint32(src)))
		case c.kind == decodedInt && size == 8:
			*(*int64)(at) = int64(binary.BigEndian.Uint64(src))
		case c.kind == decodedShared:
			*(*string)(at) = unsafe.String(unsafe.SliceData(src), int(size))
		case !c.read(src[:size:size], at):
			return false
		}
		src = src[size:]
	}
	return len(src) == 0
}
