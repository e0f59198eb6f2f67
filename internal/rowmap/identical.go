package rowmap

import (
	"math"
	"reflect"
)

// Identical reports whether two values cannot be told apart by whoever reads
// them: floats by their bits, so that a NaN is itself, slices and maps by what
// is in them and by being nil or not, pointers by what they lead to. Functions
// are identical only where both are nil.
func Identical[T any](a, b *T) bool {
	return identical(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), 0)
}

// maxDepth is where what leads back to itself is given up.
const maxDepth = 100

func identical(a, b reflect.Value, depth int) bool {
	if a.Kind() != b.Kind() || depth > maxDepth {
		return false
	}
	switch a.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Float32, reflect.Float64:
		return math.Float64bits(a.Float()) == math.Float64bits(b.Float())
	case reflect.Complex64, reflect.Complex128:
		x, y := a.Complex(), b.Complex()
		return math.Float64bits(real(x)) == math.Float64bits(real(y)) && math.Float64bits(imag(x)) == math.Float64bits(imag(y))
	case reflect.Struct:
		for i := range a.NumField() {
			if !identical(a.Field(i), b.Field(i), depth+1) {
				return false
			}
		}
		return true
	case reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Elem().Type() == b.Elem().Type() && identical(a.Elem(), b.Elem(), depth+1)
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Pointer() == b.Pointer() || identical(a.Elem(), b.Elem(), depth+1)
	case reflect.Func:
		return a.IsNil() && b.IsNil()
	case reflect.Array, reflect.Slice, reflect.Map:
		return sameItems(a, b, depth+1)
	}
	return a.Equal(b)
}

func sameItems(a, b reflect.Value, depth int) bool {
	if a.Len() != b.Len() || a.Kind() != reflect.Array && a.IsNil() != b.IsNil() {
		return false
	}
	if a.Kind() != reflect.Map {
		for i := range a.Len() {
			if !identical(a.Index(i), b.Index(i), depth) {
				return false
			}
		}
		return true
	}
	for it := a.MapRange(); it.Next(); {
		other := b.MapIndex(it.Key())
		if !other.IsValid() || !identical(it.Value(), other, depth) {
			return false
		}
	}
	return true
}
