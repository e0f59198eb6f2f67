package cache

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// crowd is a hash that leads many keys into few buckets, and gives many of them one tag.
func crowd(k int) uint64 { return uint64(k%3)<<62 | uint64(k%2) }

// A map of rows against a plain map, with keys that find their buckets full, while it grows and shrinks.
func TestARowMapHoldsWhatAPlainMapHolds(t *testing.T) {
	for name, hash := range map[string]func(int) uint64{"its own hash": nil, "a bad hash": crowd} {
		t.Run(name, func(t *testing.T) {
			m, want := newRowMap[int, int](), make(map[int]*node[int, int])
			if hash != nil {
				m.hash.integer, m.hash.other = false, hash
			}
			r := rand.New(rand.NewPCG(1, 2))
			for step := range 20_000 {
				k := r.IntN(700)
				n := &node[int, int]{key: k, row: step}
				at, have := m.find(m.hash.of(k), k)
				switch {
				case have != want[k]:
					t.Fatalf("key %d has %v, want %v", k, have, want[k])
				case have == nil:
					m.insert(m.hash.of(k), n)
					want[k] = n
				case r.IntN(3) == 0, step > 15_000:
					m.remove(k)
					delete(want, k)
				default:
					at.set(n)
					want[k] = n
				}
				if step%500 == 0 {
					m.shrink()
					sameRows(t, m, want)
				}
			}
			for k := range want {
				m.remove(k)
			}
			for _, b := range m.table.Load().buckets {
				if b.bytes != 0 && b.bytes < passedMax {
					t.Fatalf("an empty bucket says %x", b.bytes)
				}
			}
			m.shrink()
			if n := len(m.table.Load().buckets); m.len != 0 || n > 64 {
				t.Errorf("%d keys, %d buckets in the end", m.len, n)
			}
		})
	}
}

// Keys that were passed on stay where they are when the buckets that were full have places again. Of a few buckets
// every one may have been passed by: a look-up that goes on until it finds one that has not would not end.
func TestALookUpEndsWhereEveryBucketHasBeenPassedBy(t *testing.T) {
	m := newRowMap[int, int]()
	m.hash.integer, m.hash.other = false, func(k int) uint64 { return uint64(k/1000) << 63 }
	put := func(first, n int) {
		for k := first; k < first+n; k++ {
			m.insert(m.hash.of(k), &node[int, int]{key: k})
		}
	}
	put(0, places+1)
	for k := range places - 2 {
		m.remove(k)
	}
	put(1000, places)
	for i, b := range m.table.Load().buckets {
		if b.bytes < passedOne {
			t.Fatalf("bucket %d was not passed by: this test shows nothing", i)
		}
	}
	for _, k := range []int{-1, 0, 500, 1500} {
		if n := m.load(k); n != nil {
			t.Errorf("found %v for key %d", n, k)
		}
		if _, n := m.find(m.hash.of(k), k); n != nil {
			t.Errorf("the writer found %v for key %d", n, k)
		}
	}
}

func sameRows(t *testing.T, m *rowMap[int, int], want map[int]*node[int, int]) {
	t.Helper()
	met := 0
	for head := range m.each {
		met++
		if want[head.key] != head || m.load(head.key) != head {
			t.Fatalf("key %d: the walk meets %v, load finds %v, want %v", head.key, head, m.load(head.key), want[head.key])
		}
	}
	if met != len(want) || m.len != met {
		t.Fatalf("the walk meets %d keys, counted %d, want %d", met, m.len, len(want))
	}
}

// Keys that stay are found all the time, and met once in a walk, whatever becomes of others around them.
func TestAKeyThatStaysIsFoundWhileOthersComeAndGo(t *testing.T) {
	const stay, others = 50, 500
	m := newRowMap[int, int]()
	m.hash.integer, m.hash.other = false, func(k int) uint64 { return crowd(k) ^ uint64(k)<<30 }
	for k := range stay {
		m.insert(m.hash.of(k), &node[int, int]{key: k})
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !done.Load() {
			for k := range stay {
				if n := m.load(k); n == nil || n.key != k {
					t.Errorf("key %d is not found", k)
					return
				}
			}
		}
	})
	wg.Go(func() {
		for !done.Load() {
			met := 0
			for head := range m.each {
				if head.key < stay {
					met++
				}
			}
			if met != stay {
				t.Errorf("a walk meets %d of %d keys", met, stay)
				return
			}
		}
	})
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		for k := stay; k < stay+others; k++ {
			m.insert(m.hash.of(k), &node[int, int]{key: k})
		}
		for _, i := range r.Perm(others) {
			m.remove(stay + i)
		}
		m.shrink()
	}
	done.Store(true)
	wg.Wait()
}

func TestABucketIsOneCacheLine(t *testing.T) {
	if n := unsafe.Sizeof(bucket{}); unsafe.Sizeof(uintptr(0)) == 8 && n != 64 {
		t.Errorf("%d bytes", n)
	}
}

// edges makes a table's hash lead some keys to the end of the table and to the end of its first half: more than
// there is place for.
func edges(tab *Table[int, int]) {
	own := &keyHash[int]{integer: true}
	own.number.Store(tab.rows.hash.number.Load())
	tab.rows.hash.integer, tab.rows.hash.other = false, func(k int) uint64 {
		switch k % 1000 {
		case 1:
			return 1<<63 - 1
		case 2:
			return 1<<64 - 1
		}
		return own.of(k)
	}
}

// A first load of many rows is built in parts, by several goroutines where there are processors. What finds no
// place in its part is found in the next.
func TestALargeLoadIsBuiltWhole(t *testing.T) {
	const rows = 100_000
	tab := NewTable[int, int]("large")
	edges(tab)
	s, err := NewStore(Options{MaxLag: 10}, tab)
	if err != nil {
		t.Fatal(err)
	}
	w := s.Begin()
	r := tab.Replace(w, nil)
	b := r.Batch(0)
	for k := range rows {
		*b.New() = -k
		b.Add(k)
	}
	if err := r.PutBatch(b); err != nil {
		t.Fatal(err)
	}
	if _, ok := tab.Get(1); ok || w.Bytes() == 0 {
		t.Errorf("a row is there before its time, or takes no memory: %v, %d bytes", ok, w.Bytes())
	}
	done(t, r)
	if _, ok := tab.Get(1); ok {
		t.Error("a row is there before it is published")
	}
	w.Publish(nil)
	if tab.Len() != rows {
		t.Errorf("%d rows", tab.Len())
	}
	for k := range rows {
		if v, ok := tab.Get(k); !ok || v != -k {
			t.Fatalf("key %d is %d, %v", k, v, ok)
		}
	}
	met := 0
	for k, v := range tab.All() {
		if met++; v != -k {
			t.Fatalf("key %d is %d", k, v)
		}
	}
	if met != rows {
		t.Errorf("All yields %d rows", met)
	}
}

func TestALargeLoadThatGivesAKeyTwiceIsRefused(t *testing.T) {
	const rows = 100_000
	tab := NewTable[int, int]("large")
	edges(tab)
	s, err := NewStore(Options{}, tab)
	if err != nil {
		t.Fatal(err)
	}
	for _, twice := range []int{0, 1, rows - 998, rows - 1} {
		w := s.Begin()
		r := tab.Replace(w, nil)
		for k := range rows {
			if err := r.Put(k, k); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Put(twice, 0); err != nil {
			t.Fatal(err)
		}
		if err := r.Done(); err == nil || !strings.Contains(err.Error(), "is given twice") {
			t.Errorf("key %d twice: %v", twice, err)
		}
		w.Abort()
		if _, ok := tab.Get(1); ok || tab.Len() != 0 || tab.Bytes() != 0 {
			t.Errorf("something is left: %v, %d rows, %d bytes", ok, tab.Len(), tab.Bytes())
		}
	}
}

func TestPublishingWithinAFirstLoadPanics(t *testing.T) {
	s, tab := newNotes(t, Options{})
	w := s.Begin()
	tab.Replace(w, nil)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
		w.Abort()
	}()
	w.Publish(nil)
}
