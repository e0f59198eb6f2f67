package rowjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

func TestUserDefinedTypesAreTheSameBothWays(t *testing.T) {
	w := newWorld(t)
	w.exec(t, `
		CREATE EXTENSION citext SCHEMA public;
		CREATE TYPE public.mood AS ENUM ('', 'null', 'so so', 'very "good"', 'ü,{}()\');
		CREATE TYPE public.textrange AS RANGE (subtype = text, collation = "C");
		CREATE TYPE public.floatrange AS RANGE (subtype = float8, multirange_type_name = public.floats);
		CREATE TYPE public.point3 AS (x float4, y float4, z numeric(9,3));
		CREATE TYPE public.nothing AS ();
		CREATE TABLE public.part (a int, dropped text, b timestamptz);
		ALTER TABLE public.part DROP COLUMN dropped;
		CREATE DOMAIN public.at AS public.point3;
		CREATE TABLE public.odd (
			id int PRIMARY KEY,
			m public.mood, ms public.mood[], tr public.textrange, trs public.textrange[], fr public.floatrange, fs public.floats,
			ci public.citext, cis public.citext[], p public.part, ps public.part[], n public.nothing, at public.at, ats public.at[],
			"Odd ""Name""\ü	x" text, c5 char(5), v3 varchar(3)[], b7 bit(7), nm numeric(10,2), iv interval(2), ts0 timestamptz(0));
		INSERT INTO public.odd
		SELECT i, m, ARRAY[m, NULL, m], public.textrange(m::text || 'a', NULL), ARRAY[public.textrange('a " b', E'b\\(')], '[-0,NaN]', '{[1,2),[3.5,)}',
			'Aä'::public.citext, ARRAY['a b', NULL, '']::public.citext[], ROW(i, now())::public.part, ARRAY[ROW(NULL, NULL), NULL]::public.part[],
			ROW()::public.nothing, ROW(1.5, 'NaN', i)::public.point3, ARRAY[ROW(-0.0, 1e-30, -1)]::public.at[],
			'x', 'ab', ARRAY['abc', ' '], B'1010101', 0, '1.239 s', now()
		FROM unnest(enum_range(NULL::public.mood)) WITH ORDINALITY AS e(m, i);
		INSERT INTO public.odd (id, tr, fr) VALUES (100, '["",)', 'empty'), (101, '("a""b\\c,",]', '(,)');
		ALTER TYPE public.point3 ADD ATTRIBUTE later text;
	`)
	w.compare(t, "public.odd")
	w.formsOf(t, "public.odd")
	w.register(t, "public.mood", "public._mood", "public.floatrange", "public.floats", "public.part", "public._part", "public.point3", "public.at", "public._at")
	w.compare(t, "public.odd")
	binary := 0
	for _, f := range w.decoder(t, columns(t, w.load, "public.odd")).Formats() {
		binary += int(f)
	}
	if binary < 10 {
		t.Errorf("only %d columns are compared in binary", binary)
	}
}

func TestOnlyTheseTypesAreLoadedInAnotherFormatThanPgxChooses(t *testing.T) {
	w := newWorld(t)
	names := builtIn(t, w.load)
	var other []string
	for oid, name := range names {
		types, err := LoadTypes(t.Context(), w.load, []uint32{oid})
		if err != nil {
			t.Fatal(err)
		}
		if types[oid].Refused() != nil {
			continue
		}
		d := w.decoder(t, []Column{{Name: "c", Type: types[oid]}})
		if d.Formats()[0] != w.load.TypeMap().FormatCodeForOID(oid) {
			other = append(other, name)
		}
	}
	slices.Sort(other)
	if want := []string{"tsvector", "tsvector[]", "xml[]"}; !slices.Equal(other, want) {
		t.Errorf("have %q, want %q", other, want)
	}
}

func TestArrayLowerBoundsAreLostBothWaysAlike(t *testing.T) {
	w := newWorld(t)
	w.exec(t, `CREATE DOMAIN public.ints AS int[];
		CREATE TABLE public.bounds (id int PRIMARY KEY, a int[], t text[], d public.ints, m money[]);
		INSERT INTO public.bounds VALUES (1, '[0:1]={1,2}', '[-1:0][5:6]={{a,b},{NULL,d}}', '[7:7]={7}', '[2:2]={1}'), (2, '{}', NULL, '{}', '{}')`)
	w.compare(t, "public.bounds")
}

func TestAJSONNullIsNullUnlessTheColumnIsNotNull(t *testing.T) {
	w := newWorld(t)
	w.exec(t, `CREATE TABLE public.nulls (id int PRIMARY KEY, j json, b jsonb, jn json NOT NULL, bn jsonb NOT NULL);
		INSERT INTO public.nulls VALUES (1, 'null', 'null', 'null', 'null'), (2, NULL, NULL, '{}', '{}'), (3, '[null]', '[null]', ' null', '"null"')`)
	w.compare(t, "public.nulls")
	d := w.decoder(t, columns(t, w.load, "public.nulls"))
	row, err := d.Decode([]byte(w.documents(t, "public.nulls")[0]))
	if err != nil {
		t.Fatal(err)
	}
	if r := row.RawValues(); r[1] != nil || r[2] != nil || string(r[3]) != "null" || string(r[4]) != "null" {
		t.Errorf("%q", r)
	}
}

func TestTypesWhoseDocumentsSayTooLittleAreRefusedByName(t *testing.T) {
	w := newWorld(t)
	w.exec(t, `
		CREATE EXTENSION hstore SCHEMA public;
		CREATE TYPE public.shout AS ENUM ('a');
		CREATE FUNCTION public.shout_json(public.shout) RETURNS json LANGUAGE sql AS 'SELECT ''{}''::json';
		CREATE CAST (public.shout AS json) WITH FUNCTION public.shout_json(public.shout);
		CREATE TYPE public.quiet AS ENUM ('a');
		CREATE CAST (public.quiet AS json) WITH INOUT AS ASSIGNMENT;
		CREATE DOMAIN public.ints AS int[];
		CREATE DOMAIN public.shouted AS public.shout;
		CREATE TYPE public.with_json AS (a int, "J j" jsonb);
		CREATE TYPE public.with_reg AS (r regclass);
		CREATE TYPE public.deep AS (w public.with_reg[]);
		CREATE TABLE public.refused (id int PRIMARY KEY, h public.hstore, s public.shout, ss public.shout[], sd public.shouted,
			ii public.ints[], wj public.with_json, wr public.with_reg, dd public.deep, q public.quiet);`)
	want := map[string]string{
		"h": "hstore_to_json", "s": "public.shout_json", "ss": "public.shout_json", "sd": "public.shout_json",
		"ii": "another dimension", "wj": `"J j"`, "wr": "regclass", "dd": "regclass",
	}
	cols := columns(t, w.load, "public.refused")
	for _, c := range cols {
		err := c.Type.Refused()
		if want[c.Name] == "" {
			if err != nil {
				t.Errorf("column %s: %v", c.Name, err)
			}
			continue
		}
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want[c.Name]) || !strings.Contains(err.Error(), c.Type.String()) {
			t.Errorf("column %s: %v", c.Name, err)
		}
	}
	_, err := NewDecoder(pgtype.NewMap(), cols)
	if !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	for name := range want {
		if !strings.Contains(err.Error(), fmt.Sprintf("column %q", name)) {
			t.Errorf("column %s is not named: %v", name, err)
		}
	}
}

func TestUnknownOIDIsAnError(t *testing.T) {
	w := newWorld(t)
	if _, err := LoadTypes(t.Context(), w.load, []uint32{23, 4000000000}); err == nil || !strings.Contains(err.Error(), "4000000000") {
		t.Error(err)
	}
	if types, err := LoadTypes(t.Context(), w.load, nil); err != nil || len(types) != 0 {
		t.Error(types, err)
	}
}

func TestAMegabyteIsTheSameBothWays(t *testing.T) {
	w := newWorld(t)
	w.exec(t, `CREATE TABLE public.big (id int PRIMARY KEY, t text, e text, b bytea, a text[], j jsonb);
		INSERT INTO public.big SELECT 1, repeat('ä', 500000), repeat(E'"\\\n', 300000), decode(repeat('00ff5c', 350000), 'hex'),
			ARRAY[repeat('"', 500000), repeat('a', 500000)], jsonb_build_array(repeat('"', 500000))`)
	w.compare(t, "public.big")
}

func TestEveryByteOfCharIsTheSameBothWays(t *testing.T) {
	w := newWorld(t)
	w.exec(t, `CREATE TABLE public.chars (id int PRIMARY KEY, c "char", cs "char"[])`)
	for i := range 256 {
		if i < 128 { // a higher byte alone is no UTF-8, which a text column would not take
			w.exec(t, `INSERT INTO public.chars VALUES ($1, $1::int::"char", ARRAY[$1::int::"char", NULL])`, i)
		}
	}
	w.compare(t, "public.chars")
	for _, c := range columns(t, w.load, "public.chars") {
		if c.Name == "c" { // how Postgres 16 and later print the others
			got, _, err := c.Type.AppendBinary(nil, []byte(`"\\377"`))
			if err != nil || string(got) != "\xff" {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
}

// everything has the destinations that structs usually have.
type everything struct {
	ID      int32
	I2      int16
	I       int
	I8      *int64
	U       uint32
	Flag    bool
	F4      float32
	F8      float64
	Txt     string
	Maybe   *string
	Raw     []byte
	When    time.Time
	WhenTZ  time.Time
	Day     time.Time
	Date    pgtype.Date
	Inf     pgtype.Timestamptz
	Clock   pgtype.Time
	Span    pgtype.Interval
	Dur     time.Duration
	Num     pgtype.Numeric
	NumStr  string
	NumF    float64
	ID16    [16]byte
	IDG     uuid.UUID
	IDStr   string
	Net     netip.Prefix
	Addr    netip.Addr
	Tags    []string
	Nested  [][]int32
	Numbers []*int64
	Times   []time.Time
	Any     any
	JSON    map[string]any
	RawJSON json.RawMessage
	Doc     struct{ A int }
	Rng     pgtype.Range[pgtype.Int4]
	Arr     pgtype.Array[pgtype.Text]
	Bits    pgtype.Bits
	Vec     pgtype.TSVector
	Money   string
	Bytes   pgtype.UndecodedBytes
}

func TestUsualDestinationsGetEqualValues(t *testing.T) {
	w := newWorld(t)
	w.exec(t, `CREATE TABLE public.everything (id int PRIMARY KEY, i2 int2, i int4, i8 int8, u oid, flag bool, f4 float4, f8 float8, txt text, maybe text, raw bytea,
			"when" timestamp, when_tz timestamptz, day date, date date, inf timestamptz, clock time, span interval, dur interval, num numeric, num_str numeric, num_f numeric,
			id16 uuid, id_g uuid, id_str uuid, net cidr, addr inet, tags text[], nested int[], numbers int8[], times timestamptz[], "any" numeric[], json jsonb, raw_json json,
			doc jsonb, rng int4range, arr text[], bits varbit, vec tsvector, money money, bytes timestamptz);
		INSERT INTO public.everything SELECT i, i, -i, NULLIF(i, 2), i, i = 1, i / 3.0, i / 7.0, E'a"\n' || i, NULLIF('x', repeat('x', i)), '\x00ff',
			'2024-02-29 01:02:03.4', '2024-02-29 01:02:03.4+05:30', '0044-03-15 BC', 'infinity', '-infinity', '24:00:00', '1 year -1 day 00:00:01', '01:02:03', '0.00', 100.10, 2.5,
			g, g, g, '10.0.0.0/8', '::1', ARRAY['a', 'NULL', '"', ''], '{{1,2},{3,4}}', '{1,NULL}', ARRAY[timestamptz 'epoch'], '{1.0,NaN,NULL}', '{"a": [1, null]}', '{"b" : 1}',
			'{"A": 7}', '[1,5)', '{a,NULL}', B'10101', 'a:1 b', 12.5, 'epoch'
		FROM generate_series(1, 3) AS i, gen_random_uuid() AS g`)
	cols := columns(t, w.load, "public.everything")
	d := w.decoder(t, cols)
	docs := w.documents(t, "public.everything")
	rows, err := w.load.Query(t.Context(), selectSQL(cols, "public.everything"), d.Formats())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; rows.Next(); i++ {
		row, err := d.Decode([]byte(docs[i]))
		if err != nil {
			t.Fatal(err)
		}
		loaded, err1 := pgx.RowToStructByName[everything](rows)
		event, err2 := pgx.RowToStructByName[everything](row)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if !reflect.DeepEqual(loaded, event) {
			t.Errorf("load  %+v\nevent %+v", loaded, event)
		}
		loadedMap, err1 := pgx.RowToMap(rows)
		eventMap, err2 := pgx.RowToMap(row)
		if err1 != nil || err2 != nil || len(eventMap) != len(cols) || !sameGo(loadedMap, eventMap) {
			t.Errorf("load  %v %v\nevent %v %v", loadedMap, err1, eventMap, err2)
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
}
