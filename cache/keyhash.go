package cache

import (
	"hash/maphash"
	"math/bits"
	"reflect"
	"sync/atomic"
	"unsafe"
)

// keyHash hashes keys, each table with a seed of its own.
type keyHash[K comparable] struct {
	seed    maphash.Seed
	number  atomic.Uint64 // the seed of integers: an empty table may take over another one, see Encoded
	integer bool
	other   func(K) uint64 // instead, for tests; nil
}

func (h *keyHash[K]) init() {
	h.seed = maphash.MakeSeed()
	h.number.Store(maphash.Comparable(h.seed, uint64(1)))
	switch reflect.TypeFor[K]().Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		h.integer = true
	}
}

// of hashes a key. Two rounds of multiplication mix an integer as well as the runtime's own hash, in a
// fraction of its time.
func (h *keyHash[K]) of(k K) uint64 {
	if !h.integer {
		return h.ofOther(k)
	}
	hi, lo := bits.Mul64(h.number.Load()^integer(k), 0x2d358dccaa6c78a5)
	hi, lo = bits.Mul64(hi^lo, 0x8bb84b93962eacc9)
	return hi ^ lo
}

func (h *keyHash[K]) ofOther(k K) uint64 {
	if h.other != nil {
		return h.other(k)
	}
	return maphash.Comparable(h.seed, k)
}

// integer is the value of a key whose kind is an integer's: its size says how many bytes are its own. (By
// conditions that are constant: the compiler inlines what is left of them, of a switch it does not.)
func integer[K comparable](k K) uint64 {
	if unsafe.Sizeof(k) == 1 {
		return uint64(*(*uint8)(unsafe.Pointer(&k)))
	}
	if unsafe.Sizeof(k) == 2 {
		return uint64(*(*uint16)(unsafe.Pointer(&k)))
	}
	if unsafe.Sizeof(k) == 4 {
		return uint64(*(*uint32)(unsafe.Pointer(&k)))
	}
	return *(*uint64)(unsafe.Pointer(&k))
}
