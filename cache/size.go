package cache

import (
	"reflect"
	"sync"
	"time"
	"unsafe"
)

// sizing estimates what a version of a row takes. It is built once per table by looking at the types: a
// type without strings, slices, maps and pointers costs nothing to measure.
type sizing[K comparable, T any] struct {
	fixed    int64 // of a version whose key and row lead nowhere
	key, row sizer // of what they lead to; nil for nothing
}

// bucketShare is what a key takes of the map's buckets: 64 bytes hold 5 when it is full, and half of that just
// after it has grown.
const bucketShare = 20

func newSizing[K comparable, T any]() sizing[K, T] {
	return sizing[K, T]{
		fixed: allocated(unsafe.Sizeof(node[K, T]{})) + bucketShare,
		key:   sizerOf(reflect.TypeFor[K]()),
		row:   sizerOf(reflect.TypeFor[T]()),
	}
}

// of is the size of a version. It is asked when the version comes and again when it goes: the same, as long as
// nobody changes what was put.
func (z *sizing[K, T]) of(n *node[K, T]) int64 {
	size := z.fixed
	if z.key != nil {
		size += z.key(unsafe.Pointer(&n.key), maxDepth)
	}
	if z.row != nil && n.live() {
		size += z.row(unsafe.Pointer(&n.row), maxDepth)
	}
	return size
}

// allocated rounds a size up as the allocator does, roughly: its classes are 16 bytes apart at first, then
// about an eighth.
func allocated(n uintptr) int64 {
	switch {
	case n == 0:
		return 0
	case n <= 8:
		return 8
	case n <= 256:
		return int64(n+15) &^ 15
	}
	return int64(n + n/16)
}

// sizer measures what the value at p leads to outside itself, down to depth levels of indirection. It is made for
// one type, and p leads to a value of that type: that is all that makes its casts right.
type sizer func(p unsafe.Pointer, depth int) int64

// maxDepth ends the measuring of cyclic and very deep values.
const maxDepth = 10

// sizers remembers the sizer of each type; nil is stored as a nil sizer.
var sizers sync.Map // reflect.Type -> sizer

func sizerOf(t reflect.Type) sizer {
	if z, ok := sizers.Load(t); ok {
		return z.(sizer)
	}
	z := buildSizer(t)
	sizers.Store(t, z)
	return z
}

// locationType leads to a time zone's table, which all times share.
var locationType = reflect.TypeFor[*time.Location]()

func buildSizer(t reflect.Type) sizer {
	switch t.Kind() {
	case reflect.String:
		return func(p unsafe.Pointer, _ int) int64 { return allocated(uintptr(len(*(*string)(p)))) }
	case reflect.Slice:
		return sliceSizer(t)
	case reflect.Array:
		return arraySizer(t)
	case reflect.Struct:
		return structSizer(t)
	case reflect.Map:
		return mapSizer(t)
	case reflect.Interface:
		return func(p unsafe.Pointer, depth int) int64 {
			v := reflect.NewAt(t, p).Elem()
			if v.IsNil() || depth == 0 {
				return 0
			}
			return boxed(v.Elem(), depth)
		}
	case reflect.Pointer:
		if t == locationType {
			return nil
		}
		return func(p unsafe.Pointer, depth int) int64 {
			to := *(*unsafe.Pointer)(p)
			if to == nil || depth == 0 {
				return 0
			}
			return allocated(t.Elem().Size()) + measure(t.Elem(), to, depth-1)
		}
	}
	return nil
}

// measure looks the sizer up when it is needed, so that a type may contain itself.
func measure(t reflect.Type, p unsafe.Pointer, depth int) int64 {
	if z := sizerOf(t); z != nil {
		return z(p, depth)
	}
	return 0
}

// measureCopy measures a value that has no place of its own: one in a map or in an interface.
func measureCopy(v reflect.Value, depth int) int64 {
	if sizerOf(v.Type()) == nil {
		return 0
	}
	at := reflect.New(v.Type())
	at.Elem().Set(v)
	return measure(v.Type(), at.UnsafePointer(), depth)
}

// boxed is the size of a value in an interface; a pointer is stored there itself.
func boxed(v reflect.Value, depth int) int64 {
	if v.Kind() == reflect.Pointer {
		return measureCopy(v, depth-1)
	}
	return allocated(v.Type().Size()) + measureCopy(v, depth-1)
}

func sliceSizer(t reflect.Type) sizer {
	elem, leads := t.Elem(), leadsSomewhere(t.Elem())
	return func(p unsafe.Pointer, depth int) int64 {
		s := *(*[]struct{})(p) // a slice of anything begins where it begins, and is as long and as large
		n := allocated(elem.Size() * uintptr(cap(s)))
		for i := 0; leads && depth > 0 && i < len(s); i++ {
			n += measure(elem, unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), uintptr(i)*elem.Size()), depth-1)
		}
		return n
	}
}

func arraySizer(t reflect.Type) sizer {
	elem := t.Elem()
	if !leadsSomewhere(elem) {
		return nil
	}
	return func(p unsafe.Pointer, depth int) (n int64) {
		for i := range t.Len() {
			n += measure(elem, unsafe.Add(p, uintptr(i)*elem.Size()), depth)
		}
		return n
	}
}

func structSizer(t reflect.Type) sizer {
	type field struct {
		offset uintptr
		size   sizer
	}
	var fields []field
	for i := range t.NumField() {
		if z := sizerOf(t.Field(i).Type); z != nil {
			fields = append(fields, field{t.Field(i).Offset, z})
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return func(p unsafe.Pointer, depth int) (n int64) {
		for _, f := range fields {
			n += f.size(unsafe.Add(p, f.offset), depth)
		}
		return n
	}
}

func mapSizer(t reflect.Type) sizer {
	const header = 48
	entry := t.Key().Size() + t.Elem().Size() + 1
	leads := leadsSomewhere(t.Key()) || leadsSomewhere(t.Elem())
	return func(p unsafe.Pointer, depth int) int64 {
		v := reflect.NewAt(t, p).Elem()
		if v.IsNil() {
			return 0
		}
		n := header + int64(entry)*int64(v.Len())*3/2
		if !leads || depth == 0 {
			return n
		}
		for it := v.MapRange(); it.Next(); {
			n += measureCopy(it.Key(), depth-1) + measureCopy(it.Value(), depth-1)
		}
		return n
	}
}

// leadsSomewhere says whether values of the type may point to memory of their own.
func leadsSomewhere(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	case reflect.Pointer:
		return t != locationType
	case reflect.Array:
		return leadsSomewhere(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if leadsSomewhere(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}
