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
	fixed    uint32 // of a version whose key and row lead nowhere
	key, row sizer  // of what they lead to; nil for nothing
}

// bucketShare is what a key takes of the map's buckets: 64 bytes hold 5 entries at up to three quarters of
// their number, and half of that just after the map has grown.
const bucketShare = 24

func newSizing[K comparable, T any]() sizing[K, T] {
	return sizing[K, T]{
		fixed: clampSize(allocated(unsafe.Sizeof(node[T]{})) + entrySize[K]() + bucketShare),
		key:   sizerOf(reflect.TypeFor[K]()),
		row:   sizerOf(reflect.TypeFor[T]()),
	}
}

// entrySize is what the map takes for a key and the pointer that it leads to.
func entrySize[K comparable]() int64 {
	var k K
	const pointer = unsafe.Sizeof(uintptr(0))
	return allocated((unsafe.Sizeof(k)+pointer-1)&^(pointer-1) + pointer)
}

// of is the size of a version of row under key k.
func (z *sizing[K, T]) of(k K, row *T) uint32 {
	if z.key == nil && z.row == nil {
		return z.fixed
	}
	n := int64(z.fixed)
	if z.key != nil {
		n += sizeKey(z.key, k)
	}
	if z.row != nil {
		n += z.row(reflect.ValueOf(row).Elem(), maxDepth)
	}
	return clampSize(n)
}

// sizeKey is apart so that only keys that need it escape to the heap.
//
//go:noinline
func sizeKey[K comparable](size sizer, k K) int64 {
	return size(reflect.ValueOf(&k).Elem(), maxDepth)
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

// sizer measures what a value leads to outside itself, down to depth levels of indirection.
type sizer func(v reflect.Value, depth int) int64

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
		return func(v reflect.Value, _ int) int64 { return allocated(uintptr(v.Len())) }
	case reflect.Slice:
		return sliceSizer(t)
	case reflect.Array:
		return arraySizer(t)
	case reflect.Struct:
		return structSizer(t)
	case reflect.Map:
		return mapSizer(t)
	case reflect.Interface:
		return func(v reflect.Value, depth int) int64 {
			if v.IsNil() || depth == 0 {
				return 0
			}
			return boxed(v.Elem(), depth)
		}
	case reflect.Pointer:
		if t == locationType {
			return nil
		}
		return func(v reflect.Value, depth int) int64 {
			if v.IsNil() || depth == 0 {
				return 0
			}
			return allocated(t.Elem().Size()) + measure(v.Elem(), depth-1)
		}
	}
	return nil
}

// measure looks the sizer up when it is needed, so that a type may contain itself.
func measure(v reflect.Value, depth int) int64 {
	if z := sizerOf(v.Type()); z != nil {
		return z(v, depth)
	}
	return 0
}

// boxed is the size of a value in an interface; a pointer is stored there itself.
func boxed(v reflect.Value, depth int) int64 {
	if v.Kind() == reflect.Pointer {
		return measure(v, depth-1)
	}
	return allocated(v.Type().Size()) + measure(v, depth-1)
}

func sliceSizer(t reflect.Type) sizer {
	size, leads := t.Elem().Size(), leadsSomewhere(t.Elem())
	return func(v reflect.Value, depth int) int64 {
		n := allocated(size * uintptr(v.Cap()))
		for i := 0; leads && depth > 0 && i < v.Len(); i++ {
			n += measure(v.Index(i), depth-1)
		}
		return n
	}
}

func arraySizer(t reflect.Type) sizer {
	if !leadsSomewhere(t.Elem()) {
		return nil
	}
	return func(v reflect.Value, depth int) (n int64) {
		for i := range v.Len() {
			n += measure(v.Index(i), depth)
		}
		return n
	}
}

func structSizer(t reflect.Type) sizer {
	type field struct {
		i    int
		size sizer
	}
	var fields []field
	for i := range t.NumField() {
		if z := sizerOf(t.Field(i).Type); z != nil {
			fields = append(fields, field{i, z})
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return func(v reflect.Value, depth int) (n int64) {
		for _, f := range fields {
			n += f.size(v.Field(f.i), depth)
		}
		return n
	}
}

func mapSizer(t reflect.Type) sizer {
	const header = 48
	entry := t.Key().Size() + t.Elem().Size() + 1
	leads := leadsSomewhere(t.Key()) || leadsSomewhere(t.Elem())
	return func(v reflect.Value, depth int) int64 {
		if v.IsNil() {
			return 0
		}
		n := header + int64(entry)*int64(v.Len())*3/2
		if !leads || depth == 0 {
			return n
		}
		for it := v.MapRange(); it.Next(); {
			n += measure(it.Key(), depth-1) + measure(it.Value(), depth-1)
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
