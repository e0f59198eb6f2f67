package rowmap

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

type everything struct {
	F float64
	S []string
	M map[string]any
	P *int
	A any
	T time.Time
	f func()
}

func TestIdenticalTellsApartWhatAReaderCouldTellApart(t *testing.T) {
	one, uno, two := 1, 1, 2
	now := time.Now()
	base := func() everything {
		return everything{F: math.NaN(), S: []string{"a"}, M: map[string]any{"k": 1.5}, P: &one, A: int32(1), T: now}
	}
	same, a := base(), base()
	same.P = &uno
	if !Identical(&a, &same) {
		t.Error("the same value differs")
	}
	for name, change := range map[string]func(*everything){
		"zero and minus zero": func(e *everything) { e.F = math.Copysign(0, -1) },
		"nil and empty slice": func(e *everything) { e.S = nil },
		"an item":             func(e *everything) { e.S = []string{"b"} },
		"nil and empty map":   func(e *everything) { e.M = nil },
		"a key":               func(e *everything) { e.M = map[string]any{"l": 1.5} },
		"a value":             func(e *everything) { e.M = map[string]any{"k": 1} },
		"a pointee":           func(e *everything) { e.P = &two },
		"a nil pointer":       func(e *everything) { e.P = nil },
		"the type within":     func(e *everything) { e.A = int64(1) },
		"nothing within":      func(e *everything) { e.A = nil },
		"the zone":            func(e *everything) { e.T = e.T.In(time.FixedZone("", 3600)) },
		"a function":          func(e *everything) { e.f = func() {} },
	} {
		b := base()
		change(&b)
		c := base()
		if name == "zero and minus zero" {
			c.F = 0
		}
		if Identical(&c, &b) {
			t.Errorf("%s: called identical", name)
		}
	}
}

type status int

func (s *status) Scan(any) error { *s = 1; return nil }

type plainName string

type nested struct{ S *[]map[string]status }

type looped struct {
	Next *looped
	V    plainName
}

func TestCodeOfTheApplicationsOwnIsFoundWhereverItIs(t *testing.T) {
	for typ, want := range map[reflect.Type]bool{
		reflect.TypeFor[status](): true, reflect.TypeFor[nested](): true, reflect.TypeFor[pgtype.Range[status]](): true, reflect.TypeFor[pgtype.FlatArray[status]](): true,
		reflect.TypeFor[looped](): false, reflect.TypeFor[plainName](): false, reflect.TypeFor[uuid.UUID](): false, reflect.TypeFor[time.Time](): false,
		reflect.TypeFor[pgtype.Numeric](): false, reflect.TypeFor[pgtype.Range[pgtype.Int8]](): false, reflect.TypeFor[map[string]any](): false, reflect.TypeFor[[]byte](): false,
		reflect.TypeFor[interface{ Scan(any) error }](): true,
	} {
		if got := OwnCode(typ); got != want {
			t.Errorf("%v: %v", typ, got)
		}
	}
}

func TestAShapeNamesWhatReadingDependsOn(t *testing.T) {
	type a struct {
		ID int `db:"id"`
		V  looped
	}
	type b struct {
		ID int `db:"id2"`
		V  looped
	}
	type c struct {
		ID int64 `db:"id"`
		V  looped
	}
	seen := map[string]reflect.Type{}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[a](), reflect.TypeFor[b](), reflect.TypeFor[c](), reflect.TypeFor[[]a](), reflect.TypeFor[[2]a](), reflect.TypeFor[*a](), reflect.TypeFor[map[string]a](),
		reflect.TypeFor[struct{ X, Y int }](), reflect.TypeFor[struct{ Y, X int }](), reflect.TypeFor[plainName](), reflect.TypeFor[string](),
	} {
		s := Shape(typ)
		if other, ok := seen[s]; ok {
			t.Errorf("%v and %v have one shape, %s", typ, other, s)
		}
		if seen[s] = typ; s != Shape(typ) {
			t.Errorf("%v has two shapes", typ)
		}
	}
}
