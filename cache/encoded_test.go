package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

type encodedRow struct {
	K    int
	Note string
}

// encodedRows encodes rows of these keys as a checkpoint would.
func encodedRows(placing func([]byte, int) []byte, keys ...int) (src []byte) {
	for _, k := range keys {
		row := binary.LittleEndian.AppendUint64(placing(nil, k), uint64(k))
		row = fmt.Append(row, "note of ", k)
		src = append(binary.AppendUvarint(src, uint64(len(row))), row...)
	}
	return src
}

func unplaced(dst []byte, _ int) []byte { return dst }

// encodedRig is a table of encoded rows which is not published yet.
type encodedRig struct {
	testing.TB
	s       *Store
	tab     *Table[int, encodedRow]
	w       *Writer
	decoded atomic.Int64
}

func (r *encodedRig) codec() Decoding[encodedRow] {
	read := func(src []byte, into *encodedRow) error {
		if len(src) < 8 {
			return errors.New("too short")
		}
		into.K, into.Note = int(binary.LittleEndian.Uint64(src)), string(src[8:])
		return nil
	}
	peek := func() (func([]byte, *encodedRow) error, func()) { return read, func() {} }
	return Decoding[encodedRow]{Peek: peek, Decode: func(src []byte, into *encodedRow) error {
		r.decoded.Add(1)
		return read(src, into)
	}}
}

func keyOfEncoded(r encodedRow) int { return r.K }

// planned is the keys from 0 up to n as a table meets them, and some that have gone astray, and what it says of them.
type planned struct {
	Plan
	keys    []int
	placing func([]byte, int) []byte
}

func plan(t testing.TB, n int) (p planned) {
	other := NewTable[int, encodedRow]("other")
	s, err := NewStore(Options{}, other)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := s.Begin()
	for k := range n {
		other.Put(w, Origin{}, k, encodedRow{k, fmt.Sprint("note of ", k)})
	}
	w.Publish(nil)
	s.View(func(v *View) { p.Plan = other.Plan(v) })
	for k := range other.All() {
		p.keys = append(p.keys, k)
	}
	for range n / 100 {
		i, j := rand.IntN(n), rand.IntN(n)
		p.keys[i], p.keys[j] = p.keys[j], p.keys[i]
	}
	p.placing = other.Placing(p.Plan)
	return p
}

// stageEncoded stages rows of the keys from 0 up to n, in parts that several goroutines add.
func stageEncoded(t testing.TB, n int, trusted bool) *encodedRig {
	t.Helper()
	r := &encodedRig{TB: t, tab: NewTable[int, encodedRow]("t")}
	var err error
	if r.s, err = NewStore(Options{MaxLag: 10}, r.tab); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.s.Close)
	r.tab.scanAfter = 100
	p := plan(t, n)
	e, keys := r.tab.Encoded(p.Plan, trusted, keyOfEncoded, r.codec()), p.keys
	var wg sync.WaitGroup
	for len(keys) > 0 {
		some := keys[:min(len(keys), 300)]
		keys = keys[len(some):]
		wg.Go(func() {
			if err := e.Add(encodedRows(p.placing, some...)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r.w = r.s.Begin()
	rep := r.tab.Replace(r.w, nil)
	if err := rep.PutEncoded(e); err != nil {
		t.Fatal(err)
	}
	if err := rep.Done(); err != nil {
		t.Fatal(err)
	}
	return r
}

// looked runs a test with rows that are looked at, and with rows whose placings are believed.
func looked(t *testing.T, test func(t *testing.T, trusted bool)) {
	t.Run("looked at", func(t *testing.T) { test(t, false) })
	t.Run("trusted", func(t *testing.T) { test(t, true) })
}

func (r *encodedRig) want(k int, note string) {
	r.Helper()
	got, ok := r.tab.Get(k)
	if ok != (note != "") || got.Note != note {
		r.Errorf("key %d: %+v, %v; want %q", k, got, ok, note)
	}
}

func TestEncodedRowsAreDecodedWhenTheyAreAskedFor(t *testing.T) {
	looked(t, encodedRowsAreDecodedWhenTheyAreAskedFor)
}

func encodedRowsAreDecodedWhenTheyAreAskedFor(t *testing.T, trusted bool) {
	const n = 5000
	r := stageEncoded(t, n, trusted)
	if r.decoded.Load() != 0 || r.tab.EncodedRows() != n {
		t.Fatalf("%d rows were decoded and %d are not, before anybody has asked", r.decoded.Load(), r.tab.EncodedRows())
	}
	r.want(7, "") // not published
	before := r.tab.Bytes()
	r.w.Publish(nil)
	if r.tab.Len() != n {
		t.Errorf("%d rows", r.tab.Len())
	}
	r.want(8, "note of 8")
	r.want(n, "")
	if d := r.decoded.Load(); d == 0 || d > 5 {
		t.Errorf("%d rows were decoded for three that were asked for", d)
	}
	for k := range n {
		r.want(k, fmt.Sprint("note of ", k))
	}
	if r.decoded.Load() != n || r.s.EncodedRows() != 0 || r.tab.rows.encoded.Load() != nil {
		t.Errorf("of %d rows %d were decoded and %d are not", n, r.decoded.Load(), r.s.EncodedRows())
	}
	if r.tab.Bytes() != before {
		t.Errorf("%d bytes encoded, %d decoded", before, r.tab.Bytes())
	}
}

func TestEncodedRowsAreWalkedDeletedReplacedAndCleared(t *testing.T) {
	looked(t, encodedRowsAreWalkedDeletedReplacedAndCleared)
}

func encodedRowsAreWalkedDeletedReplacedAndCleared(t *testing.T, trusted bool) {
	const n = 3000
	r := stageEncoded(t, n, trusted)
	want := map[int]string{}
	for k := range n {
		want[k] = fmt.Sprint("note of ", k)
	}
	change := func(from int) {
		for k := from; k < n+500; k += 7 {
			r.tab.Put(r.w, Origin{}, k, encodedRow{k, "new"})
			want[k] = "new"
		}
		for k := from + 1; k < n; k += 11 {
			r.tab.Delete(r.w, Origin{}, k)
			delete(want, k)
		}
	}
	check := func(what string) {
		t.Helper()
		if r.tab.Len() != len(want) {
			t.Errorf("%s: %d rows, want %d", what, r.tab.Len(), len(want))
		}
		seen := map[int]bool{}
		for k, row := range r.tab.All() {
			if seen[k] || want[k] != row.Note || row.K != k {
				t.Fatalf("%s: key %d: %+v, want %q, seen: %v", what, k, row, want[k], seen[k])
			}
			seen[k] = true
		}
		if len(seen) != len(want) {
			t.Fatalf("%s: %d rows were walked, want %d", what, len(seen), len(want))
		}
	}
	change(0) // in the version that brings them
	r.w.Publish(nil)
	if r.tab.EncodedRows() < n/5 {
		t.Errorf("only %d of %d rows are still encoded: whatever changes some decodes all", r.tab.EncodedRows(), n)
	}
	view := r.s.OpenView()
	r.w = r.s.Begin()
	change(3)
	r.w.Publish(nil)
	check("changed")
	if len(want) == r.tab.At(view).Len() {
		t.Error("nothing was changed")
	}
	view.Close()
	r.w = r.s.Begin()
	r.tab.Clear(r.w, Origin{})
	r.w.Publish(nil)
	clear(want)
	check("cleared")
	r.s.Sweep()
	if r.tab.Bytes() != 0 {
		t.Errorf("%d bytes are held by nothing", r.tab.Bytes())
	}
}

func TestEncodedRowsThatAreAbortedWereNeverThere(t *testing.T) {
	looked(t, encodedRowsThatAreAbortedWereNeverThere)
}

func encodedRowsThatAreAbortedWereNeverThere(t *testing.T, trusted bool) {
	const n = 1000
	r := stageEncoded(t, n, trusted)
	r.tab.Put(r.w, Origin{}, 1, encodedRow{1, "new"})
	r.tab.Put(r.w, Origin{}, n+1, encodedRow{n + 1, "new"})
	r.tab.Delete(r.w, Origin{}, 2)
	r.w.Abort()
	r.want(1, "")
	r.want(3, "")
	if r.tab.Len() != 0 || r.tab.Bytes() != 0 || r.s.EncodedRows() != 0 {
		t.Errorf("%d rows, %d bytes, %d encoded", r.tab.Len(), r.tab.Bytes(), r.s.EncodedRows())
	}
	w := r.s.Begin()
	r.tab.Put(w, Origin{}, 5, encodedRow{5, "later"})
	w.Publish(nil)
	r.want(5, "later")
	r.want(6, "")
}

// Whoever would have to look at every row anyway gets them decoded.
func TestEncodedRowsReachIndexesSubscribersAndTheLookForMutations(t *testing.T) {
	const n = 90 // listed, recorded
	for name, opts := range map[string]Options{"": {}, "no log": {MaxLag: 10}, "mutations": {MaxLag: 10, DetectMutation: true}} {
		tab := NewTable[int, encodedRow]("t")
		tab.scanAfter = 10
		r := &encodedRig{TB: t, tab: tab}
		even := NewIndex(tab, func(r encodedRow) bool { return r.K%2 == 0 })
		s, err := NewStore(opts, tab)
		if err != nil {
			t.Fatal(err)
		}
		p := plan(t, n)
		e := tab.Encoded(p.Plan, false, keyOfEncoded, r.codec())
		if err := e.Add(encodedRows(p.placing, p.keys...)); err != nil {
			t.Fatal(err)
		}
		for _, publish := range []bool{false, true} {
			w := s.Begin()
			if publish {
				e = tab.Encoded(p.Plan, true, keyOfEncoded, r.codec())
				if err := e.Add(encodedRows(p.placing, p.keys...)); err != nil {
					t.Fatal(err)
				}
			}
			rep := tab.Replace(w, nil)
			if err := rep.PutEncoded(e); err != nil {
				t.Fatal(err)
			}
			if err := rep.Done(); err != nil {
				t.Fatal(err)
			}
			if !publish {
				w.Abort()
				if tab.Bytes() != 0 || even.Len(true) != 0 {
					t.Errorf("%s: after Abort there are %d bytes and %d even rows", name, tab.Bytes(), even.Len(true))
				}
				continue
			}
			w.Publish(nil)
		}
		if even.Len(true) != n/2 || tab.Len() != n {
			t.Errorf("%s: %d of %d rows are even", name, even.Len(true), tab.Len())
		}
		s.Close()
	}
}

func TestEncodedRowsThatAreNoTableAreRefused(t *testing.T) {
	tab := NewTable[int, encodedRow]("t")
	s, err := NewStore(Options{}, tab)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := &encodedRig{TB: t, tab: tab}
	add := func(n int, parts ...[]byte) (err error) {
		e := tab.Encoded(Plan{Rows: n}, false, keyOfEncoded, r.codec())
		for _, p := range parts {
			if err == nil {
				err = e.Add(p)
			}
		}
		if err != nil {
			return err
		}
		w := s.Begin()
		defer w.Abort()
		return tab.Replace(w, nil).PutEncoded(e)
	}
	whole := encodedRows(unplaced, 1, 2)
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"twice in a part":  {add(2, encodedRows(unplaced, 1, 1)), "key 1 is given twice"},
		"twice":            {add(3, encodedRows(unplaced, 1, 2), encodedRows(unplaced, 2)), "key 2 is given twice"},
		"too many":         {add(2, encodedRows(unplaced, 1, 2), encodedRows(unplaced, 3)), "more encoded rows"},
		"far too many":     {add(1, encodedRows(unplaced, 1, 2, 3, 4, 5, 6, 7, 8, 9)), "more encoded rows"},
		"too few":          {add(3, encodedRows(unplaced, 1, 2)), "2 encoded rows, and 3 were announced"},
		"torn":             {add(2, whole[:len(whole)-1]), "longer than its part"},
		"torn in a length": {add(2, append(whole, 0x80)), "longer than its part"},
		"unreadable":       {add(1, []byte{2, 1, 1}), "too short"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, c.err, c.want)
		}
	}
	p := plan(t, 100)
	other := tab.Encoded(p.Plan, true, func(r encodedRow) int { return r.K + 1 }, r.codec())
	if err := other.Add(encodedRows(p.placing, p.keys...)); !errors.Is(err, errMisplaced) {
		t.Errorf("with another key function: %v", err)
	}
	beyond := encodedRows(p.placing, 1)
	beyond[4] = 0xff // of the bucket's number
	if err := tab.Encoded(p.Plan, true, keyOfEncoded, r.codec()).Add(beyond); !errors.Is(err, errMisplaced) {
		t.Errorf("a bucket that is not there: %v", err)
	}
	if tab.Len() != 0 || tab.Bytes() != 0 {
		t.Errorf("%d rows, %d bytes are left", tab.Len(), tab.Bytes())
	}
}

// Readers, a view, a walk, the writer and whoever decodes the rest meet in the same buckets.
func TestEncodedRowsUnderReadersAndAWriter(t *testing.T) {
	looked(t, encodedRowsUnderReadersAndAWriter)
}

func encodedRowsUnderReadersAndAWriter(t *testing.T, trusted bool) {
	const n = 20_000
	r := stageEncoded(t, n, trusted)
	r.w.Publish(nil)
	first := r.s.OpenView()
	defer first.Close()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			last := map[int]uint64{}
			for range n {
				k := rand.IntN(n)
				row, rev, ok := r.tab.GetRevision(k)
				if ok && (rev < last[k] || row.K != k) || !ok && k%5 != 1 {
					t.Errorf("key %d: %+v of revision %d, %v, after %d", k, row, rev, ok, last[k])
					return
				}
				if old, ok := r.tab.At(first).Get(k); !ok || old.Note != fmt.Sprint("note of ", k) {
					t.Errorf("the view of the first version has %+v, %v of key %d", old, ok, k)
					return
				}
				if ok {
					last[k] = rev
				}
			}
		})
	}
	wg.Go(func() { r.tab.Decode(context.Background()) })
	wg.Go(func() {
		seen := make(map[int]bool, n)
		for k, row := range r.tab.At(first).All() {
			if seen[k] || row.Note != fmt.Sprint("note of ", k) {
				t.Errorf("a walk meets %+v under key %d, seen before: %v", row, k, seen[k])
				return
			}
			seen[k] = true
		}
		if len(seen) != n {
			t.Errorf("a walk over %d rows has met %d", n, len(seen))
		}
	})
	for round := range 20 {
		w := r.s.Begin()
		for k := round; k < n; k += 20 {
			if k%5 == 1 {
				r.tab.Delete(w, Origin{}, k)
			} else {
				r.tab.Put(w, Origin{}, k, encodedRow{k, "new"})
			}
			r.tab.Put(w, Origin{}, n+k, encodedRow{n + k, "more"}) // until the table grows
		}
		w.Publish(nil)
	}
	wg.Wait()
	if r.tab.EncodedRows() != 0 || r.decoded.Load() != n {
		t.Errorf("%d rows are still encoded, %d of %d were decoded", r.tab.EncodedRows(), r.decoded.Load(), n)
	}
	if want := n - n/5 + n; r.tab.Len() != want {
		t.Errorf("%d rows, want %d", r.tab.Len(), want)
	}
}

func TestDecodingEndsWithItsContext(t *testing.T) { looked(t, decodingEndsWithItsContext) }

func decodingEndsWithItsContext(t *testing.T, trusted bool) {
	r := stageEncoded(t, 2000, trusted)
	r.w.Publish(nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.s.Decode(ctx)
	if r.decoded.Load() != 0 {
		t.Errorf("%d rows were decoded for a context that had ended", r.decoded.Load())
	}
	r.s.Decode(context.Background())
	if r.decoded.Load() != 2000 || r.s.EncodedRows() != 0 {
		t.Errorf("%d rows were decoded, %d are left", r.decoded.Load(), r.s.EncodedRows())
	}
}

// Whoever asks whether rows would stay encoded may be who the writer waits for, and an index that is declared waits for the writer.
func TestAnIndexThatWaitsForTheWriterHoldsUpNobodyWhoAsks(t *testing.T) {
	tab := NewTable[int, encodedRow]("t")
	s, err := NewStore(Options{MaxLag: 10}, tab)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tab.scanAfter = 100
	p := Plan{Rows: 1000}
	if !tab.WorthEncoding(p) {
		t.Error("rows of a table without an index would not stay encoded")
	}
	w := s.Begin()
	declared := make(chan struct{})
	go func() {
		defer close(declared)
		NewIndex(tab, func(r encodedRow) string { return r.Note })
	}()
	for !tab.indexed.Load() { // then it waits for w
		runtime.Gosched()
	}
	if tab.WorthEncoding(p) {
		t.Error("rows of a table with an index would stay encoded")
	}
	w.Abort()
	<-declared
}

// A believed row that is another one is never shown: what it came from is removed, and then it is a panic.
func TestABelievedRowThatIsAnotherOneIsNotShown(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(row []byte) []byte
		key   func(encodedRow) int
		want  string
	}{
		"it cannot be read":            {func(row []byte) []byte { return row[:placingLen+3] }, keyOfEncoded, "too short"},
		"its key is another one's now": {func(row []byte) []byte { return row }, func(r encodedRow) int { return keyOfEncoded(r) + r.K%2*5000 }, "key function is another one"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &encodedRig{TB: t, tab: NewTable[int, encodedRow]("t")}
			var err error
			if r.s, err = NewStore(Options{MaxLag: 10}, r.tab); err != nil {
				t.Fatal(err)
			}
			defer r.s.Close()
			r.tab.scanAfter = 100
			p := plan(t, 1000)
			codec := r.codec()
			var spoiled error
			codec.Spoiled = func(err error) { spoiled = err }
			var src []byte
			var odd int // the second one of each 32 is not looked at
			for i, k := range p.keys {
				row := append(p.placing(nil, k), binary.LittleEndian.AppendUint64(nil, uint64(k))...)
				if i == 1 {
					odd = k
					row = c.spoil(row)
				}
				src = append(binary.AppendUvarint(src, uint64(len(row))), row...)
			}
			key := func(r encodedRow) int {
				if r.K == odd {
					return c.key(encodedRow{odd | 1, ""})
				}
				return r.K
			}
			e := r.tab.Encoded(p.Plan, true, key, codec)
			if err := e.Add(src); err != nil {
				t.Fatal(err)
			}
			w := r.s.Begin()
			rep := r.tab.Replace(w, nil)
			if err := errors.Join(rep.PutEncoded(e), rep.Done()); err != nil {
				t.Fatal(err)
			}
			w.Publish(nil)
			defer func() {
				said := fmt.Sprint(recover())
				if !strings.Contains(said, c.want) || spoiled == nil || spoiled.Error() != said {
					t.Errorf("it panics with %q and has told %v", said, spoiled)
				}
			}()
			r.tab.Decode(t.Context())
		})
	}
}

// A batch that was filled before a table took over the seed of encoded rows finds them all the same.
func TestABatchOfBeforeEncodedRowsFindsTheirKeys(t *testing.T) {
	r := stageEncoded(t, 1000, true)
	r.w.Abort()
	p := plan(t, 1000)
	e := r.tab.Encoded(p.Plan, false, keyOfEncoded, r.codec())
	if err := e.Add(encodedRows(p.placing, p.keys...)); err != nil {
		t.Fatal(err)
	}
	b := r.tab.Batch()
	*b.New() = encodedRow{7, "new"}
	b.AddFrom(Origin{}, 7)
	w := r.s.Begin()
	rep := r.tab.Replace(w, nil)
	if err := errors.Join(rep.PutEncoded(e), rep.Done()); err != nil {
		t.Fatal(err)
	}
	r.tab.PutBatch(w, b)
	w.Publish(nil)
	if row, ok := r.tab.Get(7); !ok || row.Note != "new" || r.tab.Len() != 1000 {
		t.Errorf("%+v, %v of %d rows", row, ok, r.tab.Len())
	}
}
