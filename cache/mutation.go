package cache

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"reflect"
)

// fingerprint remembers the content of a new version, if mutations shall be detected.
func (t *Table[K, T]) fingerprint(n *node[K, T]) {
	if t.sums != nil {
		t.sums[n] = deepHash(&n.row)
	}
}

// DetectsMutation reports Options.DetectMutation of the table's store.
func (t *Table[K, T]) DetectsMutation() bool { return t.sums != nil }

// checkFingerprint reports a version whose content is no longer what was put, once.
func (t *Table[K, T]) checkFingerprint(n *node[K, T], forget bool) {
	was, ok := t.sums[n]
	if !ok {
		return
	}
	now := deepHash(&n.row)
	if forget {
		delete(t.sums, n)
	} else if now != was {
		t.sums[n] = now
	}
	if now != was {
		t.store.Load().opts.OnMutation(t.name, n.key)
	}
}

// checkMutations looks at every version that is held.
func (t *Table[K, T]) checkMutations() {
	for n := range t.sums {
		t.checkFingerprint(n, false)
	}
}

func panicOnMutation(table string, key any) {
	panic(fmt.Sprintf("cache: table %s: the row of key %v was changed after it was put", table, key))
}

var hashSeed = maphash.MakeSeed()

// deepHash covers a value and all that it leads to, down to the depth that sizes are measured to.
func deepHash[T any](row *T) uint64 {
	h := hasher{}
	h.SetSeed(hashSeed)
	h.value(reflect.ValueOf(row).Elem(), maxDepth)
	return h.Sum64()
}

type hasher struct{ maphash.Hash }

func (h *hasher) uint(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	_, _ = h.Write(b[:]) // cannot fail
}

func (h *hasher) value(v reflect.Value, depth int) {
	if depth == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			h.uint(1)
		} else {
			h.uint(0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		h.uint(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		h.uint(v.Uint())
	case reflect.Float32, reflect.Float64:
		h.uint(math.Float64bits(v.Float()))
	case reflect.Complex64, reflect.Complex128:
		h.uint(math.Float64bits(real(v.Complex())))
		h.uint(math.Float64bits(imag(v.Complex())))
	case reflect.String:
		h.uint(uint64(v.Len()))
		_, _ = h.WriteString(v.String()) // cannot fail
	default:
		h.composite(v, depth)
	}
}

// composite hashes what has parts. Functions, channels and time zones are left out: they are not data.
func (h *hasher) composite(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			h.value(v.Field(i), depth)
		}
	case reflect.Array:
		for i := range v.Len() {
			h.value(v.Index(i), depth)
		}
	case reflect.Slice:
		h.uint(uint64(v.Len()))
		for i := range v.Len() {
			h.value(v.Index(i), depth-1)
		}
	case reflect.Map:
		h.uint(uint64(v.Len()))
		var sum uint64 // of the entries, in whatever order they come
		for it := v.MapRange(); it.Next(); {
			e := hasher{}
			e.SetSeed(hashSeed)
			e.value(it.Key(), depth-1)
			e.value(it.Value(), depth-1)
			sum += e.Sum64()
		}
		h.uint(sum)
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			h.uint(0)
			return
		}
		h.uint(1)
		if v.Type() != locationType {
			h.value(v.Elem(), depth-1)
		}
	}
}
