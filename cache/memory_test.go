package cache

import (
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func TestGetAndViewDoNotAllocate(t *testing.T) {
	type id [16]byte
	byID, byName, byNumber := NewTable[id, account]("id"), NewTable[string, account]("name"), NewTable[int, account]("number")
	s, err := NewStore(Options{}, byID, byName, byNumber)
	if err != nil {
		t.Fatal(err)
	}
	w := s.Begin()
	byID.Put(w, Origin{}, id{1}, account{Owner: "ann"})
	byName.Put(w, Origin{}, "ann", account{Owner: "ann"})
	byNumber.Put(w, Origin{}, 1, account{Owner: "ann"})
	w.Publish(nil)
	w = s.Begin() // with something staged above what is read
	defer w.Abort()
	byID.Put(w, Origin{}, id{1}, account{Owner: "bob"})
	missed := 0
	count := func(ok bool) {
		if !ok {
			missed++
		}
	}
	read := func(v *View) {
		_, ok := byID.At(v).Get(id{1})
		count(ok)
		_, ok = byNumber.At(v).Get(1)
		count(ok)
	}
	for what, fn := range map[string]func(){
		"Get": func() {
			_, ok := byID.Get(id{1})
			count(ok)
			_, ok = byName.Get("ann")
			count(ok)
			_, ok = byNumber.Get(1)
			count(ok)
		},
		"miss": func() { _, ok := byID.Get(id{2}); count(!ok) },
		"View": func() { s.View(read) },
	} {
		if n := testing.AllocsPerRun(1000, fn); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	if missed > 0 {
		t.Errorf("%d reads were wrong", missed)
	}
}

// A view held for long costs one old version per row, however often the rows change, and gives it back.
func TestALongViewDoesNotKeepWhatItCannotSee(t *testing.T) {
	s, tab := newNotes(t, Options{})
	keys := strings.Split("abcdefgh", "")
	round := func(i int) {
		var pairs []string
		for _, k := range keys {
			pairs = append(pairs, k, fmt.Sprint(i))
		}
		put(s, tab, pairs...)
	}
	versions := func() (n int) {
		for head := range tab.rows.each {
			for v := head; v != nil; v = v.next.Load() {
				n++
			}
		}
		return n
	}
	round(0)
	one := s.OpenView()
	for i := range 1000 {
		round(1 + i)
	}
	two := s.OpenView()
	for i := range 1000 {
		round(1001 + i)
	}
	if got, want := versions(), 3*len(keys); got != want {
		t.Errorf("%d versions are held, want %d", got, want)
	}
	if n := len(tab.waiting[one.Revision()]) + len(tab.waiting[two.Revision()]); n != 2*len(keys) {
		t.Errorf("%d versions wait, want %d", n, 2*len(keys))
	}
	if n, _ := tab.At(one).Get("a"); n.Text != "0" {
		t.Errorf("the first view sees %v", n)
	}
	one.Close()
	s.Sweep()
	if got, want := versions(), 2*len(keys); got != want {
		t.Errorf("%d versions are held after the first view, want %d", got, want)
	}
	if n, _ := tab.At(two).Get("a"); n.Text != "1000" {
		t.Errorf("the second view sees %v", n)
	}
	two.Close()
	put(s, tab, "a", "") // Publish sweeps too
	if got, want := versions(), len(keys)-1; got != want || len(tab.waiting) != 0 {
		t.Errorf("%d versions are held in the end, want %d; %v wait", got, want, tab.waiting)
	}
}

// What the log or a reader still holds leads to nothing older.
func TestAnUnlinkedVersionLeadsNowhere(t *testing.T) {
	s, tab := newNotes(t, Options{})
	put(s, tab, "a", "1")
	v := s.OpenView()
	put(s, tab, "a", "2")
	second := tab.rows.load("a")
	if second.next.Load() == nil {
		t.Fatal("the view's version is gone")
	}
	put(s, tab, "a", "3")
	if second.next.Load() != tab.dead {
		t.Error("the second version is still linked")
	}
	if n, ok := tab.At(v).Get("a"); !ok || n.Text != "1" {
		t.Errorf("the view sees %v", n)
	}
	v.Close()
}

func TestBytesFollowWhatRowsLeadTo(t *testing.T) {
	type inner struct{ S string }
	type loop struct {
		Next *loop
		N    int
	}
	cycle := &loop{N: 1}
	cycle.Next = cycle
	type wide struct {
		S    string
		B    []byte
		L    []string
		P    *inner
		M    map[string]int
		A    any
		Arr  [2]string
		When time.Time
		Loop *loop
		F    func()
	}
	tab := NewTable[string, wide]("wide")
	s, err := NewStore(Options{}, tab)
	if err != nil {
		t.Fatal(err)
	}
	kb := strings.Repeat("x", 1000)
	base := tab.size.of(&node[string, wide]{})
	for what, c := range map[string]struct {
		row      wide
		min, max int64
	}{
		"string":           {wide{S: kb}, 1000, 1100},
		"bytes":            {wide{B: make([]byte, 10, 1000)}, 1000, 1100},
		"strings":          {wide{L: []string{kb, kb}}, 2000, 2300},
		"pointer":          {wide{P: &inner{kb}}, 1000, 1200},
		"map":              {wide{M: map[string]int{kb: 1}}, 1000, 1250},
		"any":              {wide{A: kb}, 1000, 1200},
		"any of a pointer": {wide{A: &inner{kb}}, 1000, 1200},
		"array":            {wide{Arr: [2]string{kb, kb}}, 2000, 2200},
		"time zone":        {wide{When: time.Now().In(time.FixedZone("x", 1))}, 0, 0},
		"cycle":            {wide{Loop: cycle}, 16, 16 * maxDepth},
		"func":             {wide{F: func() {}}, 0, 0},
	} {
		if got := tab.size.of(&node[string, wide]{row: c.row}) - base; got < c.min || got > c.max {
			t.Errorf("%s: %d bytes more, want %d to %d", what, got, c.min, c.max)
		}
	}
	if got := tab.size.of(&node[string, wide]{key: kb}) - base; got < 1000 || got > 1100 {
		t.Errorf("key: %d bytes more", got)
	}
	w := s.Begin()
	tab.Put(w, Origin{}, "a", wide{S: kb})
	if tab.Bytes() < 1000 || w.Bytes() != tab.Bytes() || s.Bytes() != tab.Bytes() {
		t.Errorf("staged: table %d, store %d, writer %d bytes", tab.Bytes(), s.Bytes(), w.Bytes())
	}
	tab.Put(w, Origin{}, "a", wide{})
	if tab.Bytes() != tab.size.of(&node[string, wide]{key: "a"}) || w.Bytes() != tab.Bytes() {
		t.Errorf("replaced: table %d, writer %d bytes", tab.Bytes(), w.Bytes())
	}
	w.Abort()
	if tab.Bytes() != 0 {
		t.Errorf("aborted: %d bytes", tab.Bytes())
	}
}

// Versions that one writer replaces again and again do not pile up until it publishes.
func TestAWriterHoldsFewVersionsThatItHasReplaced(t *testing.T) {
	tab := NewTable[int, int]("rows")
	s, err := NewStore(Options{}, tab)
	if err != nil {
		t.Fatal(err)
	}
	w := s.Begin()
	defer w.Abort()
	most := 0
	for i := range 10_000 {
		tab.Put(w, Origin{}, i%10, i)
		most = max(most, len(tab.stage.nodes))
	}
	if most < 10 || most > 20 {
		t.Errorf("of 10 keys up to %d versions were listed", most)
	}
}

// The estimate is held against the heap, and the overhead printed.
func TestBytesAreNearTheHeapAndOverheadIsSmall(t *testing.T) {
	const rows = 100_000
	t.Run("int to struct", func(t *testing.T) {
		type row struct{ A, B, C, D int64 }
		tab := NewTable[int64, row]("t")
		weigh(t, tab, rows, int64(unsafe.Sizeof(row{})+8), 96, func(i int) (int64, row) { return int64(i), row{A: int64(i)} })
	})
	t.Run("uuid to strings", func(t *testing.T) {
		type row struct{ A, B string }
		tab := NewTable[[16]byte, row]("t")
		weigh(t, tab, rows, int64(unsafe.Sizeof(row{})+16+2*16), 96, func(i int) ([16]byte, row) {
			return [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}, row{fmt.Sprintf("%016d", i), fmt.Sprintf("%016d", i)}
		})
	})
	t.Run("with an index of large sets", func(t *testing.T) {
		tab := NewTable[int64, int64]("t")
		NewIndex(tab, func(v int64) int64 { return v % 3 })
		weigh(t, tab, rows, 16, 200, func(i int) (int64, int64) { return int64(i), int64(i) })
	})
	t.Run("with a unique index", func(t *testing.T) {
		tab := NewTable[int64, int64]("t")
		NewIndex(tab, func(v int64) int64 { return v })
		weigh(t, tab, rows, 16, 250, func(i int) (int64, int64) { return int64(i), int64(i) })
	})
}

func weigh[K comparable, T any](t *testing.T, tab *Table[K, T], rows int, payload, most int64, row func(int) (K, T)) {
	s, err := NewStore(Options{}, tab)
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	w := s.Begin()
	for i := range rows {
		k, r := row(i)
		tab.Put(w, Origin{}, k, r)
	}
	w.Publish(nil)
	got, said := (heap()-before)/int64(rows), tab.Bytes()/int64(rows)
	t.Logf("%d bytes a row, %d said, %d payload, %d overhead", got, said, payload, got-payload)
	if got-payload > most {
		t.Errorf("overhead is %d bytes a row, want at most %d", got-payload, most)
	}
	if said < got*3/4 || said > got*5/4 {
		t.Errorf("said %d bytes a row, the heap grew by %d", said, got)
	}
	runtime.KeepAlive(s)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestLargeAndSmallKeySetsHoldTheSameKeys(t *testing.T) {
	var s *keySet[int]
	want := make(map[int]struct{})
	check := func() {
		t.Helper()
		got := make(map[int]struct{})
		if s != nil {
			s.each(func(k int) bool { got[k] = struct{}{}; return true })
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	var added, removed bool
	for range 3 {
		for k := range 3 * manyKeys {
			s, added = s.with(k)
			if want[k] = struct{}{}; !added {
				t.Fatalf("%d is not new", k)
			}
			if s, added = s.with(k); added {
				t.Fatalf("%d is new twice", k)
			}
			check()
		}
		if s.many == nil {
			t.Fatal("a large set is a slice")
		}
		for k := range 3 * manyKeys {
			if s, removed = s.without(k); !removed {
				t.Fatalf("%d was not there", k)
			}
			delete(want, k)
			check()
			if s != nil {
				if s, removed = s.without(k); removed {
					t.Fatalf("%d was there twice", k)
				}
			}
			if len(want) == manyKeys/4 && s.many != nil {
				t.Fatal("a small set is a map")
			}
		}
		if s != nil {
			t.Fatal("an empty set is left")
		}
	}
}
