package rowjson

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// pinned are the settings under which documents are written and tables loaded.
var pinned = map[string]string{
	"TimeZone": "UTC", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "bytea_output": "hex",
	"extra_float_digits": "1", "lc_monetary": "C", "search_path": "pg_catalog",
}

// writers are settings of sessions that write rows.
var writers = []map[string]string{
	{},
	{"TimeZone": "Asia/Kolkata", "DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601", "bytea_output": "escape", "extra_float_digits": "-15"},
	{"TimeZone": "America/St_Johns", "DateStyle": "German", "IntervalStyle": "sql_standard", "extra_float_digits": "0"},
	{"TimeZone": "Pacific/Kiritimati", "DateStyle": "Postgres, MDY", "IntervalStyle": "postgres_verbose", "extra_float_digits": "3"},
}

// documents(t) gives the rows of a table as the capture functions write them.
const documentsSQL = `
CREATE FUNCTION public.documents(t regclass) RETURNS SETOF json LANGUAGE plpgsql SECURITY DEFINER
	SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET bytea_output = 'hex'
	SET extra_float_digits = 1 SET lc_monetary = 'C' SET search_path = pg_catalog
AS $$ BEGIN RETURN QUERY EXECUTE format('SELECT row_to_json(r) FROM %s AS r ORDER BY r.id', t); END $$`

func withSettings(settings map[string]string) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) {
		for k, v := range settings {
			c.ConnConfig.RuntimeParams[k] = v
		}
	}
}

// world is a database with the same rows to be read both ways.
type world struct {
	load    *pgx.Conn   // with the pinned settings
	writers []*pgx.Conn // one for each of writers
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, documentsSQL)
	connect := func(settings map[string]string) *pgx.Conn {
		c, err := db.Pool(t, withSettings(settings)).Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Release)
		return c.Conn()
	}
	w := &world{load: connect(pinned)}
	for _, s := range writers {
		w.writers = append(w.writers, connect(s))
	}
	return w
}

func (w *world) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := w.writers[0].Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
}

// columns reads a table's columns as whoever sets up a Decoder does.
func columns(t testing.TB, c *pgx.Conn, table string) []Column {
	t.Helper()
	rows, err := c.Query(t.Context(), `SELECT attname::text, atttypid, attnotnull FROM pg_catalog.pg_attribute
		WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, table)
	if err != nil {
		t.Fatal(err)
	}
	var cols []Column
	var oids []uint32
	var col Column
	var oid uint32
	if _, err := pgx.ForEachRow(rows, []any{&col.Name, &oid, &col.NotNull}, func() error {
		cols, oids = append(cols, col), append(oids, oid)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	types, err := LoadTypes(t.Context(), c, oids)
	if err != nil {
		t.Fatal(err)
	}
	for i, oid := range oids {
		cols[i].Type = types[oid]
	}
	return cols
}

// selectSQL is the query of a load.
func selectSQL(cols []Column, table string) string {
	exprs := make([]string, len(cols))
	for i, c := range cols {
		exprs[i] = c.Select("r")
	}
	return fmt.Sprintf("SELECT %s FROM %s AS r ORDER BY r.id", strings.Join(exprs, ", "), table)
}

// documents reads the documents of a table in a session with foreign settings.
func (w *world) documents(t testing.TB, table string) []string {
	t.Helper()
	rows, err := w.writers[1].Query(t.Context(), "SELECT d::text FROM public.documents($1::text::regclass) AS d", table)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// decoder makes a Decoder whose map is set up like that of the loading session.
func (w *world) decoder(t testing.TB, cols []Column) *Decoder {
	t.Helper()
	d, err := NewDecoder(w.load.TypeMap().Copy(), cols)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// register makes the loading session's map know the types.
func (w *world) register(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		typ, err := w.load.LoadType(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		w.load.TypeMap().RegisterType(typ)
	}
}

// snapshot is what a row offers, copied.
type snapshot struct {
	fields []pgconn.FieldDescription
	raw    [][]byte
	values []any
	err    error
}

func snap(row pgx.CollectableRow) snapshot {
	s := snapshot{fields: append([]pgconn.FieldDescription(nil), row.FieldDescriptions()...)}
	for _, raw := range row.RawValues() {
		if raw != nil {
			raw = append([]byte{}, raw...)
		}
		s.raw = append(s.raw, raw)
	}
	s.values, s.err = row.Values()
	return s
}

func formatName(f int16) string {
	if f == pgtype.BinaryFormatCode {
		return "binary"
	}
	return "text"
}
