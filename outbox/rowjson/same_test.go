package rowjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// refusedNames are the built-in types of which no column can be kept right.
var refusedNames = []string{
	"aclitem", "gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies", "pg_mcv_list",
	"pg_ndistinct", "pg_node_tree", "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator",
	"regproc", "regprocedure", "regrole", "regtype",
	"int2vector[]", "oidvector[]", "json[]", "jsonb[]",
}

// builtIn lists the server's own types: base types, ranges and multiranges,
// and the arrays of them.
func builtIn(t *testing.T, c *pgx.Conn) map[uint32]string {
	t.Helper()
	rows, err := c.Query(t.Context(), `SELECT t.oid, COALESCE(e.typname || '[]', t.typname)::text AS name
		FROM pg_type AS t LEFT JOIN pg_type AS e ON e.typarray = t.oid
		WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.oid < 16384
		  AND t.typtype IN ('b', 'r', 'm') AND COALESCE(e.typtype, t.typtype) IN ('b', 'r', 'm')`)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[uint32]string)
	var oid uint32
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&oid, &name}, func() error { names[oid] = name; return nil }); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestEveryBuiltInTypeIsSampledOrRefusedByName(t *testing.T) {
	w := newWorld(t)
	names := builtIn(t, w.load)
	types, err := LoadTypes(t.Context(), w.load, slices.Collect(maps.Keys(names)))
	if err != nil {
		t.Fatal(err)
	}
	for oid, name := range names {
		elem, isArray := strings.CutSuffix(name, "[]")
		_, sampled := samples[elem]
		refused := types[oid].Refused()
		want := slices.Contains(refusedNames, name) || isArray && slices.Contains(refusedNames, elem)
		switch {
		case refused == nil && want:
			t.Errorf("%s is to be refused and is not", name)
		case refused != nil && !want:
			t.Errorf("%s: %v", name, refused)
		case refused != nil && (!errors.Is(refused, ErrRefused) || !strings.Contains(refused.Error(), strings.TrimPrefix(elem, "_"))):
			t.Errorf("the refusal of %s does not say so: %v", name, refused)
		case refused == nil && !sampled:
			t.Errorf("type %s is neither sampled nor refused: find out how JSON and its output print it", name)
		}
	}
}

// known leaves out the intervals that are out of an older server's range.
func (w *world) known(t *testing.T, typ string, values []string) []string {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool {
		_, err := w.load.Exec(t.Context(), "SELECT $1::text::pg_catalog."+pgx.Identifier{typ}.Sanitize(), v)
		var refused *pgconn.PgError
		if typ == "interval" && errors.As(err, &refused) && refused.Code == "22015" {
			t.Logf("this server has no interval %s", v)
			return true
		}
		return false
	})
}

// fill creates a table with columns made of the type, and rows by every writer.
// What can be made of a type: itself, its array, a domain over it, an array of
// the domain, a composite and an array of composites.
func (w *world) fill(t *testing.T, typ string, s sample, rnd *rand.Rand) (table string, made []string) {
	t.Helper()
	q := `pg_catalog."` + typ + `"`
	id := "t_" + typ
	table = "public." + id
	w.exec(t, fmt.Sprintf(`CREATE DOMAIN public.%s_dom AS %s`, id, q))
	cols := []string{"v " + q, "nn " + q + " NOT NULL", "d public." + id + "_dom"}
	list := []string{"v", "nn", "d"}
	if !slices.Contains(refusedNames, typ+"[]") {
		w.exec(t, fmt.Sprintf(`CREATE DOMAIN public.%s_arrdom AS %s[]`, id, q))
		w.exec(t, fmt.Sprintf(`CREATE TYPE public."%s C" AS (a %s, "b ""x" %s[], c public.%s_dom, empty text)`, id, q, q, id))
		w.exec(t, fmt.Sprintf(`CREATE TYPE public.%s_outer AS (x public."%s C", y public."%s C"[], z public.%s_arrdom)`, id, id, id, id))
		cols = append(cols, "a "+q+"[]", "a2 "+q+"[]", "da public."+id+"_dom[]", "ad public."+id+"_arrdom",
			`c public."`+id+` C"`, `ca public."`+id+` C"[]`, "o public."+id+"_outer")
		list = append(list, "a", "a2", "da", "ad", "c", "ca", "o")
		made = []string{`public."` + id + ` C"`, `public."` + id + ` C"[]`, "public." + id + "_outer", "public." + id + "_dom", "public." + id + "_dom[]"}
	}
	w.exec(t, fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, %s)", table, strings.Join(cols, ", ")))
	values := w.known(t, typ, s.fixed)
	if s.random != nil {
		for range 40 {
			values = append(values, s.random(rnd))
		}
	}
	for i, v := range values {
		other := values[rnd.IntN(len(values))]
		w.insert(t, w.writers[i%len(w.writers)], table, id, q, list, i, v, other)
	}
	return table, made
}

func (w *world) insert(t *testing.T, c *pgx.Conn, table, id, q string, list []string, i int, v, other string) {
	t.Helper()
	comp := func(a, b string) string {
		return fmt.Sprintf(`ROW(%s, ARRAY[%s, NULL, %s], %s::public.%s_dom, '')::public."%s C"`, a, a, b, b, id, id)
	}
	a, b := "$1::text::"+q, "$2::text::"+q
	exprs := map[string]string{
		"v": a, "nn": a, "d": b,
		"a":  fmt.Sprintf("ARRAY[%s, NULL, %s]", a, b),
		"a2": fmt.Sprintf("ARRAY[[%s, %s], [NULL, %s]]", a, b, a),
		"da": fmt.Sprintf("ARRAY[%s, %s]::public.%s_dom[]", b, a, id),
		"ad": fmt.Sprintf("'{}'::%s[]", q),
		"c":  comp(a, b), "ca": fmt.Sprintf("ARRAY[%s, NULL, %s]", comp(b, a), comp("NULL", b)),
		"o": fmt.Sprintf(`ROW(%s, ARRAY[%s], ARRAY[%s])::public.%s_outer`, comp(a, a), comp(a, b), b, id),
	}
	if i%7 == 3 { // the rest of the row is NULL
		for k := range exprs {
			if k != "nn" {
				exprs[k] = "NULL"
			}
		}
	}
	row := make([]string, len(list))
	for k, name := range list {
		row[k] = exprs[name]
	}
	sql := fmt.Sprintf("INSERT INTO %s (id, %s) SELECT %d, %s FROM (SELECT $1::text, $2::text) AS given", table, strings.Join(list, ", "), i, strings.Join(row, ", "))
	if _, err := c.Exec(t.Context(), sql, v, other); err != nil {
		t.Fatalf("%q, %q: %v", v, other, err)
	}
}

// compare reads a table both ways and reports every difference.
func (w *world) compare(t *testing.T, table string) {
	t.Helper()
	cols := columns(t, w.load, table)
	d := w.decoder(t, cols)
	docs := w.documents(t, table)
	rows, err := w.load.Query(t.Context(), selectSQL(cols, table), d.Formats())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		row, err := d.Decode([]byte(docs[n]))
		if err != nil {
			t.Errorf("%v\n%s", err, docs[n])
			continue
		}
		loaded, event := snap(rows), snap(row)
		for i, c := range cols {
			diff(t, c, loaded, event, i, docs[n])
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if n == 0 || n != len(docs) {
		t.Fatalf("%d rows, %d documents", n, len(docs))
	}
}

func diff(t *testing.T, c Column, loaded, event snapshot, i int, doc string) {
	t.Helper()
	where := fmt.Sprintf("column %s %s, %s", c.Name, c.Type, formatName(event.fields[i].Format))
	if l, e := loaded.fields[i], event.fields[i]; l.Name != e.Name || l.DataTypeOID != e.DataTypeOID || l.Format != e.Format {
		t.Errorf("%s: a load has %q, OID %d, format %d, an event %q, %d, %d", where, l.Name, l.DataTypeOID, l.Format, e.Name, e.DataTypeOID, e.Format)
	}
	if (loaded.raw[i] == nil) != (event.raw[i] == nil) || !bytes.Equal(loaded.raw[i], event.raw[i]) {
		t.Errorf("%s:\nload  %q\nevent %q\nof %s", where, loaded.raw[i], event.raw[i], doc)
	}
	if fmt.Sprint(loaded.err) != fmt.Sprint(event.err) {
		t.Errorf("%s: Values: a load says %v, an event %v", where, loaded.err, event.err)
	}
	if loaded.err == nil && !sameGo(loaded.values[i], event.values[i]) {
		t.Errorf("%s: Values: a load gives %#v, an event %#v", where, loaded.values[i], event.values[i])
	}
}

// sameGo is reflect.DeepEqual, but that a NaN is a NaN.
func sameGo(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	return fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b) && strings.Contains(fmt.Sprint(a), fmt.Sprint(math.NaN()))
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestLoadAndEventGiveTheSameBytes is the promise of the package, for every
// built-in type, by itself and inside arrays, domains and composites, both
// with types that pgx's map knows and with such as it does not.
func TestLoadAndEventGiveTheSameBytes(t *testing.T) {
	w := newWorld(t)
	rnd := seeded(t)
	onServer := slices.Collect(maps.Values(builtIn(t, w.load)))
	for _, typ := range slices.Sorted(maps.Keys(samples)) {
		if !slices.Contains(onServer, typ) {
			t.Logf("this server has no type %s", typ)
			continue
		}
		t.Run(typ, func(t *testing.T) {
			table, made := w.fill(t, typ, samples[typ], rnd)
			w.compare(t, table)
			w.formsOf(t, table)
			if _, known := w.load.TypeMap().TypeForName(typ); known && made != nil {
				if _, known := w.load.TypeMap().TypeForName("_" + typ); !known {
					w.register(t, "pg_catalog._"+typ)
				}
				w.register(t, made[3], made[4], made[0], made[1])
				w.compare(t, table)
			}
		})
	}
}

// formsOf checks AppendText and AppendBinary against the server's own output
// and send functions.
func (w *world) formsOf(t *testing.T, table string) {
	t.Helper()
	cols := columns(t, w.load, table)
	docs := w.documents(t, table)
	for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
		rows, err := w.load.Query(t.Context(), selectSQL(cols, table), pgx.QueryResultFormats{format})
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; rows.Next(); n++ {
			var members map[string]json.RawMessage
			if err := json.Unmarshal([]byte(docs[n]), &members); err != nil {
				t.Fatal(err)
			}
			for i, c := range cols {
				formOf(t, c, format, rows.RawValues()[i], members[c.Name])
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func formOf(t *testing.T, c Column, format int16, want []byte, doc json.RawMessage) {
	t.Helper()
	appendForm := c.Type.AppendText
	if format == pgtype.BinaryFormatCode {
		if appendForm = c.Type.AppendBinary; !c.Type.Binary() {
			return
		}
	}
	got, isNull, err := appendForm([]byte("before"), doc)
	got, hasPrefix := bytes.CutPrefix(got, []byte("before"))
	if c.Type.kind == kindJSON && want != nil { // encoding/json cuts the white space off
		want = trimSpace(want)
		isNull = isNull && !c.NotNull
	}
	if c.NotNull && string(want) == "null" {
		return // only a Column knows that
	}
	if err != nil || !hasPrefix || isNull != (want == nil) || !bytes.Equal(got, want) {
		t.Errorf("%s of %s %s: want %q, have %q (NULL: %v, %v)\nof %s", formatName(format), c.Name, c.Type, want, got, isNull, err, doc)
	}
}
