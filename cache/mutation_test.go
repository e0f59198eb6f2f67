package cache

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"
)

func TestChangingASharedRowIsFound(t *testing.T) {
	type deep struct{ M map[string]*[]int }
	type row struct {
		Tags []string
		Deep deep
		Any  any
		Big  *big.Int
		When time.Time
		F    float64
		C    complex128
		U    uint8
		OK   bool
		Arr  [2]*int
	}
	fresh := func() row {
		n := 1
		return row{
			Tags: []string{"a"}, Deep: deep{map[string]*[]int{"k": {1, 2}, "l": {3}}}, Any: []int{1},
			Big: big.NewInt(7), When: time.Now(), F: 1, C: 1i, U: 1, OK: true, Arr: [2]*int{&n, nil},
		}
	}
	changes := map[string]func(row){
		"slice":         func(r row) { r.Tags[0] = "b" },
		"map":           func(r row) { delete(r.Deep.M, "l") },
		"deep in a map": func(r row) { (*r.Deep.M["k"])[1] = 9 },
		"interface":     func(r row) { r.Any.([]int)[0] = 9 },
		"pointer":       func(r row) { r.Big.SetInt64(8) },
		"array":         func(r row) { *r.Arr[0] = 2 },
	}
	moments := map[string]func(*Store, *Table[string, row]){
		"superseded": func(s *Store, tab *Table[string, row]) {
			w := s.Begin()
			tab.Delete(w, Origin{}, "k")
			w.Publish(nil)
		},
		"staged again": func(s *Store, tab *Table[string, row]) {
			w := s.Begin()
			r := fresh()
			tab.Put(w, Origin{}, "new", r)
			r.Tags[0] = "b"
			tab.Put(w, Origin{}, "new", fresh())
			w.Abort()
		},
		"sweep": func(s *Store, _ *Table[string, row]) { s.Sweep(); s.Sweep() },
		"close": func(s *Store, _ *Table[string, row]) { s.Close() },
	}
	for what, change := range changes {
		for when, moment := range moments {
			var found []string
			tab := NewTable[string, row]("rows")
			s, err := NewStore(Options{DetectMutation: true, OnMutation: func(table string, key any) {
				found = append(found, fmt.Sprint(table, " ", key))
			}}, tab)
			if err != nil {
				t.Fatal(err)
			}
			w := s.Begin()
			tab.Put(w, Origin{}, "k", fresh())
			tab.Put(w, Origin{}, "untouched", fresh())
			w.Publish(nil)
			s.Sweep()
			if len(found) > 0 {
				t.Fatalf("found %v before anything was changed", found)
			}
			want := []string{"rows k"}
			if when == "staged again" {
				want = []string{"rows new"}
			} else {
				r, _ := tab.Get("k")
				change(r)
			}
			moment(s, tab)
			if !slices.Equal(found, want) {
				t.Errorf("%s, %s: found %v, want %v", what, when, found, want)
			}
		}
	}
}

func TestAMutationPanicsByDefault(t *testing.T) {
	tab := NewTable[int, []int]("rows")
	s, err := NewStore(Options{DetectMutation: true}, tab)
	if err != nil {
		t.Fatal(err)
	}
	w := s.Begin()
	tab.Put(w, Origin{}, 5, []int{1})
	w.Publish(nil)
	row, _ := tab.Get(5)
	row[0] = 2
	mustPanic(t, "table rows: the row of key 5 was changed", s.Sweep)
	s.Begin().Abort() // the panic has left no lock behind

	// Nor does one in the middle of a Put leave anything that is published later.
	w = s.Begin()
	row = []int{1}
	tab.Put(w, Origin{}, 6, row)
	row[0] = 2
	mustPanic(t, "table rows: the row of key 6 was changed", func() { tab.Put(w, Origin{}, 6, []int{3}) })
	w.Abort()
	s.Begin().Publish(nil)
	if row, there := tab.Get(6); there {
		t.Errorf("an aborted row was published: %v", row)
	}
}
