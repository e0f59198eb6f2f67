package rowjson

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Types of hand for what needs no server.
var (
	intType   = baseType(pgtype.Int4OID, "int4")
	textType  = baseType(pgtype.TextOID, "text")
	floatType = baseType(pgtype.Float8OID, "float8")
	stampType = baseType(pgtype.TimestamptzOID, "timestamptz")
	byteaType = baseType(pgtype.ByteaOID, "bytea")
	rangeType = &Type{oid: pgtype.TstzrangeOID, rowOID: pgtype.TstzrangeOID, name: "tstzrange", kind: kindRange, delim: ',', elem: stampType}
	intsType  = arrayType(pgtype.Int4ArrayOID, intType)
	textsType = arrayType(pgtype.TextArrayOID, textType)
	jsonType  = baseType(pgtype.JSONOID, "json")
	pairType  = &Type{oid: 70000, rowOID: 70000, name: "pair", kind: kindComposite, delim: ',', fields: []field{{"a", intType}, {"b", textsType}}}
	pairsType = arrayType(70001, pairType)
	vecType   = &Type{oid: int2VectorOID, rowOID: int2VectorOID, name: "int2vector", kind: kindVector, delim: ',', elem: intType}
)

func baseType(oid uint32, name string) *Type {
	t := &Type{oid: oid, rowOID: oid, name: name, delim: ','}
	fillBase(t, catalogueType{schema: "pg_catalog", name: name})
	return t
}

func arrayType(oid uint32, elem *Type) *Type {
	return &Type{oid: oid, rowOID: oid, name: "_" + elem.name, kind: kindArray, delim: ',', elem: elem}
}

func handDecoder(t testing.TB, m *pgtype.Map) *Decoder {
	t.Helper()
	d, err := NewDecoder(m, []Column{
		{Name: "id", Type: intType},
		{Name: "t", Type: textType},
		{Name: "a", Type: intsType},
		{Name: `n"ü`, Type: floatType},
		{Name: "j", Type: jsonType},
		{Name: "p", Type: pairsType},
		{Name: "r", Type: rangeType},
		{Name: "b", Type: byteaType},
		{Name: "v", Type: vecType},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestScanLeavesTheDestinationOfAnAbsentColumnUntouched(t *testing.T) {
	d := handDecoder(t, pgtype.NewMap())
	row, err := d.Decode([]byte(`{"id":7,"t":null}`))
	if err != nil {
		t.Fatal(err)
	}
	id, text, arr := 0, new(string), []int32{1}
	if err := row.Scan(&id, &text, &arr, nil, nil, nil, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if id != 7 || text != nil || !reflect.DeepEqual(arr, []int32{1}) {
		t.Error(id, text, arr)
	}
	if row.Absent(0) || row.Absent(1) || !row.Absent(2) || row.RawValues()[2] != nil {
		t.Errorf("%v %v %v", row.Absent(0), row.Absent(1), row.Absent(2))
	}
	if row, err = d.Decode([]byte(`{}`)); err != nil || !row.Absent(0) || row.RawValues()[0] != nil {
		t.Error("a value of the document before is left over", err)
	}
}

func TestAnyOrderWhiteSpaceAndEscapesAreRead(t *testing.T) {
	d := handDecoder(t, pgtype.NewMap())
	want := []any{int32(1), "é😀/\b\f\n\r\t\"\\", []any{int32(1), nil}, 2.5, map[string]any{"k": nil}}
	for _, doc := range []string{
		`{"id":1,"t":"\u00e9\ud83d\uDE00\/\b\f\n\r\t\"\\","a":[1,null],"n\"ü":2.5,"j":{"k":null}}`,
		" {\t\"unwanted\" : [{\"x\":\"}]\\\"\"} , true, null, -1.5e-3 ] ,\n\"j\": {\"k\":null} ,\"n\\u0022\\u00fc\" : 2.5\r, \"a\" : [ 1 , null ], \"t\": \"é😀/\\b\\f\\n\\r\\t\\\"\\\\\" , \"id\" : 1 , \"z\":false } ",
		`{"id":9,"id":1,"t":null,"t":"é😀\/\b\f\n\r\t\"\\","a":[1,null],"n\"ü":2.50,"j":{"k":null}}`,
	} {
		for range 2 { // the second time by guesses
			row, err := d.Decode([]byte(doc))
			if err != nil {
				t.Fatalf("%v\n%s", err, doc)
			}
			values, err := row.Values()
			if err != nil || !reflect.DeepEqual(values[:len(want)], want) {
				t.Errorf("%#v, %v\nof %s", values, err, doc)
			}
		}
	}
}

func TestNonsenseIsAnErrorThatNamesColumnAndOffset(t *testing.T) {
	d := handDecoder(t, pgtype.NewMap())
	for doc, want := range map[string]string{
		``:                             "at byte 0",
		`null`:                         "at byte 0",
		`[]`:                           "at byte 0",
		`{`:                            "at byte 1",
		`{"id"`:                        "at byte 5",
		`{"id":`:                       `column "id": at byte 6`,
		`{"id":}`:                      `column "id": at byte 6`,
		`{"id":1`:                      "at byte 7",
		`{"id":1,}`:                    "at byte 8",
		`{"id":1}x`:                    "at byte 8",
		`{"id":1 2}`:                   "at byte 8",
		`{"id":"x"}`:                   `column "id": at byte 6`,
		`{"id":1.5}`:                   `column "id": at byte 6`,
		`{"id":2147483648}`:            `column "id": at byte 6`,
		`{"id":-}`:                     `column "id": at byte 6`,
		`{"id":{}}`:                    `column "id": at byte 6`,
		`{"id":nul}`:                   `column "id": at byte 6`,
		`{"t":"abc}`:                   `column "t": at byte 5`,
		`{"t":"a\`:                     `column "t": at byte 5`,
		`{"t":"a\"`:                    `column "t": at byte 5`,
		`{"t":"\x"}`:                   `column "t": at byte 6`,
		`{"t":"\u12"}`:                 `column "t": at byte 6`,
		`{"t":"\ud800"}`:               `column "t": at byte 6`,
		`{"t":"\ud800\u0041"}`:         `column "t": at byte 6`,
		`{"t":"\udc00\ud800"}`:         `column "t": at byte 6`,
		`{"t":"\u0000"}`:               `column "t": at byte 6`,
		`{"a":1}`:                      `column "a": at byte 5`,
		`{"a":[1,[2]]}`:                `column "a": at byte 8`,
		`{"a":[[1],2]}`:                `column "a": at byte 10`,
		`{"a":[[1],[2,3]]}`:            `column "a": at byte 10`,
		`{"a":[[]]}`:                   `column "a": at byte 6`,
		`{"a":[1,]}`:                   `column "a": at byte 8`,
		`{"a":[1`:                      `column "a": at byte 7`,
		`{"a":[[[[[[[1]]]]]]]}`:        `column "a": at byte 11`,
		`{"j":[1}`:                     "at byte 8", // brackets are only counted
		`{"j":[`:                       `column "j": at byte 5`,
		`{"p":[{"a":1,"b":["x"]},{"a"`: `column "p": at byte 28`,
		`{"p":[{"a":[1]}]}`:            `column "p": at byte 11`,
		`{"p":[7]}`:                    `column "p": at byte 6`,
		`{"r":"[1"}`:                   `column "r": at byte 5`,
		`{"r":"[\"2020"}`:              `column "r": at byte 5`,
		`{"b":"00"}`:                   `column "b": at byte 5`,
		`{"b":"\\x0"}`:                 `column "b": at byte 5`,
		`{"v":[[1]]}`:                  `column "v": at byte 6`,
		`{"unwanted":[1`:               "at byte 12",
		`{"unwanted":truth}`:           "at byte 12",
	} {
		_, err := d.Decode([]byte(doc))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, have %v", doc, want, err)
		}
	}
}

func TestDeepNestingIsNoStackOverflow(t *testing.T) {
	d := handDecoder(t, pgtype.NewMap())
	deep := strings.Repeat("[", 5_000_000)
	if _, err := d.Decode([]byte(`{"j":` + deep)); err == nil {
		t.Error("no error")
	}
	if _, err := d.Decode([]byte(`{"a":` + deep)); err == nil {
		t.Error("no error")
	}
}

func TestScanErrorsAreThoseOfPgx(t *testing.T) {
	d := handDecoder(t, pgtype.NewMap())
	row, err := d.Decode([]byte(`{"id":null}`))
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var scanErr pgx.ScanArgError
	err = row.Scan(&n, nil, nil, nil, nil, nil, nil, nil, nil)
	if !errors.As(err, &scanErr) || scanErr.FieldName != "id" {
		t.Error(err)
	}
	if err := row.Scan(&n); err == nil || !strings.Contains(err.Error(), "9 and 1") {
		t.Error(err)
	}
}

func TestEveryColumnThatCannotBeDecodedIsNamed(t *testing.T) {
	_, err := NewDecoder(pgtype.NewMap(), []Column{{Name: "a", Type: intType}, {Name: "a", Type: textType}, {Name: "b"}})
	if err == nil || !strings.Contains(err.Error(), `"a" is named twice`) || !strings.Contains(err.Error(), `"b" has no type`) {
		t.Error(err)
	}
}

func TestDecodingAndScanningAllocateNothing(t *testing.T) {
	d := handDecoder(t, pgtype.NewMap())
	doc := []byte(`{"id":123,"t":"a\nb","a":[1,2,3],"n\"ü":2.5,"p":[{"a":1,"b":["x y"]}],"r":"[\"2020-01-01 00:00:00+00\",)","b":"\\x00ff","v":[1,2]}`)
	var id int32
	var f float64
	allocs := testing.AllocsPerRun(100, func() {
		row, err := d.Decode(doc)
		if err != nil {
			t.Fatal(err)
		}
		if err := row.Scan(&id, nil, nil, &f, nil, nil, nil, nil, nil); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
	if id != 123 || f != 2.5 {
		t.Error(id, f)
	}
}

// FuzzDecode: no document, however mad, makes Decode, Scan or Values panic,
// and a value is never longer than a few times its document.
func FuzzDecode(f *testing.F) {
	for _, doc := range []string{
		`{"id":1,"t":"\u00e9\"","a":[[1,2],[3,null]],"n\"ü":-0,"j":{"k":[null]},"p":[{"a":1,"b":["x",null]},null],"r":"[\"2020-01-01 00:00:00+00\",)","b":"\\x00","v":[1,2]}`,
		`{"a":[],"p":[],"t":"","b":"\\x","r":"empty","v":[]}`,
		`{"r":"[-infinity,infinity]","n\"ü":"NaN"}`,
	} {
		f.Add([]byte(doc))
	}
	m := pgtype.NewMap()
	m.RegisterType(&pgtype.Type{Name: "pair", OID: 70000, Codec: &pgtype.CompositeCodec{Fields: []pgtype.CompositeCodecField{
		{Name: "a", Type: typeFor(m, pgtype.Int4OID)}, {Name: "b", Type: typeFor(m, pgtype.TextArrayOID)},
	}}})
	m.RegisterType(&pgtype.Type{Name: "_pair", OID: 70001, Codec: &pgtype.ArrayCodec{ElementType: typeFor(m, 70000)}})
	inBinary, inText := handDecoder(f, m), handDecoder(f, pgtype.NewMap())
	f.Fuzz(func(t *testing.T, doc []byte) {
		row1, err1 := inBinary.Decode(doc)
		row2, err2 := inText.Decode(doc)
		if err1 == nil && err2 != nil {
			t.Errorf("the binary form takes what the text form refuses: %v", err2)
		}
		for _, row := range []*Row{row1, row2} {
			if row == nil {
				continue
			}
			for _, raw := range row.RawValues() {
				if len(raw) > 100+20*len(doc) {
					t.Errorf("%d bytes of %d", len(raw), len(doc))
				}
			}
			_, _ = row.Values() // a json column may hold what is no JSON
		}
	})
}

func typeFor(m *pgtype.Map, oid uint32) *pgtype.Type {
	t, _ := m.TypeForOID(oid)
	return t
}

// FuzzScalars: no text makes a scalar's binary form panic.
func FuzzScalars(f *testing.F) {
	for _, s := range []string{"1", "-0.00", "2020-01-01T00:00:00.5+00:00 BC", "1 year -2 mons 00:00:01", "(1,2)", "::1/3", "{[1,2)}", "10:20:10", `\377`, "08:00:2b:01:02:ff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		for _, form := range baseForms {
			if form.text != nil {
				form.text(nil, text)
			}
			_, _ = form.binary(nil, text) // most texts are no value of most types
		}
		multi := Type{kind: kindMultirange, elem: rangeType}
		_, _ = multi.appendBinaryOf(nil, text)
	})
}
