package cache

import (
	"math/rand/v2"
	"testing"
)

const benchRows = 1_000_000

func benchTable(b *testing.B, rows int) (*Store, *Table[uint64, account], []uint64) {
	tab := NewTable[uint64, account]("accounts")
	s, err := NewStore(Options{}, tab)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	keys := make([]uint64, rows)
	w := s.Begin()
	for i := range keys {
		keys[i] = r.Uint64()
		tab.Put(w, Origin{}, keys[i], account{Owner: "ann", N: i})
	}
	w.Publish(nil)
	b.ReportAllocs()
	b.ResetTimer()
	return s, tab, keys
}

func BenchmarkGet(b *testing.B) {
	_, tab, keys := benchTable(b, benchRows)
	missed := 0
	for i := range b.N {
		if _, ok := tab.Get(keys[i%len(keys)]); !ok {
			missed++
		}
	}
	if missed > 0 {
		b.Errorf("%d rows not found", missed)
	}
}

func BenchmarkGetParallel(b *testing.B) {
	_, tab, keys := benchTable(b, benchRows)
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(keys)); pb.Next(); i++ {
			if _, ok := tab.Get(keys[i%len(keys)]); !ok {
				b.Error("row not found")
			}
		}
	})
}

func BenchmarkView(b *testing.B) {
	s, _, _ := benchTable(b, 1)
	for range b.N {
		s.View(func(*View) {})
	}
}

func BenchmarkViewParallel(b *testing.B) {
	s, _, _ := benchTable(b, 1)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.View(func(*View) {})
		}
	})
}

func BenchmarkPutAndPublish(b *testing.B) {
	for name, perCut := range map[string]int{"one row": 1, "hundred rows": 100} {
		b.Run(name, func(b *testing.B) {
			s, tab, keys := benchTable(b, benchRows/10)
			for i := 0; i < b.N; {
				w := s.Begin()
				for range perCut {
					tab.Put(w, Origin{Xid: 1, Seq: int64(i)}, keys[i%len(keys)], account{Owner: "bob", N: i})
					i++
				}
				w.Publish(nil)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		tab := NewTable[uint64, account]("accounts")
		s, err := NewStore(Options{}, tab)
		if err != nil {
			b.Fatal(err)
		}
		w := s.Begin()
		r := tab.Replace(w, nil)
		for i := range uint64(benchRows / 10) {
			if err := r.Put(i, account{Owner: "ann"}); err != nil {
				b.Fatal(err)
			}
		}
		if err := r.Done(); err != nil {
			b.Fatal(err)
		}
		w.Publish(nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(benchRows/10), "ns/row")
}
