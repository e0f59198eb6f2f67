package rowmap

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// fields has every kind of field that is read without pgx, and some that are not.
type fields struct {
	S, Vc, Bp, Nm, En string
	B                 bool
	I16               int16
	I32               int32
	I64               int64
	I, ISmall         int
	F32               float32
	F64               float64
	By                []byte
	U                 uuid.UUID
	Tz, Ti, D         time.Time
	Arr               []string
	Num               pgtype.Numeric
	Own               ownText
}

type optional struct {
	S, Vc, Bp, Nm, En *string
	B                 *bool
	I16               *int16
	I32               *int32
	I64               *int64
	I, ISmall         *int
	F32               *float32
	F64               *float64
	By                *[]byte
	U                 *uuid.UUID
	Tz, Ti, D         *time.Time
	Arr               *[]string
	Num               *pgtype.Numeric
	Own               *ownText
}

type ownText string

const fieldsTable = `CREATE TYPE mood AS ENUM ('calm', 'wild');
	CREATE TABLE f (s text, vc varchar(9), bp char(3), nm name, en mood, b bool, i16 int2, i32 int4, i64 int8, i int8, ismall int2,
		f32 float4, f64 float8, "by" bytea, u uuid, tz timestamptz, ti timestamp, d date, arr text[], num numeric, own text);
	INSERT INTO f VALUES
		('s', 'v', 'b', 'n', 'calm', true, -32768, -2147483648, -9223372036854775808, 9223372036854775807, -1,
			'-inf', 'nan', '\x0001', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '1970-01-01 00:00:00.000001+00', '1969-12-31', '0001-01-01', '{a,b}', 1.50, 'o'),
		('', '', '', '', 'wild', false, 32767, 2147483647, 9223372036854775807, -1, 7,
			'1e-45', '-0', '', '00000000-0000-0000-0000-000000000000', '0044-03-15 12:00:00.5+00 BC', '2000-01-01', '2024-02-29', '{}', 'nan', ''),
		('ü', 'ß', '€', 'x', 'calm', true, 0, 0, 0, 0, 0,
			0, 5e-324, '\xff', gen_random_uuid(), '294276-12-31 23:59:59.999999+00', '294276-12-31', '2000-01-01', '{"a b"}', 0, 'p')`

func TestFieldsAreReadAsPgxReadsThem(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, fieldsTable)
	conn := db.Conn(t)
	for name, formats := range map[string]any{
		"in the formats that pgx prefers": pgx.QueryExecModeDescribeExec,
		"as text":                         pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(name, func(t *testing.T) {
			sameAsPgx[fields](t, conn, formats, "TABLE f")
			sameAsPgx[optional](t, conn, formats, "TABLE f")
			sameAsPgx[optional](t, conn, formats, "SELECT n.* FROM (VALUES (1)) AS one LEFT JOIN f AS n ON false")
		})
	}
}

// sameAsPgx compares what Scan reads, or its error, with what pgx reads.
func sameAsPgx[T any](t *testing.T, conn *pgx.Conn, mode any, sql string) {
	t.Helper()
	m := of[T](t)
	read := func(fn func(pgx.CollectableRow) (T, error)) []T {
		t.Helper()
		rows, _ := conn.Query(t.Context(), sql, mode) // the error comes with the rows
		got, err := pgx.CollectRows(rows, fn)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := read(pgx.RowToStructByName[T])
	got := read(func(row pgx.CollectableRow) (v T, err error) {
		err = m.Scan(row, &v)
		return v, err
	})
	same := func(what string, got []T) {
		t.Helper()
		if len(want) == 0 || len(got) != len(want) {
			t.Fatalf("%s: %d rows, want %d", what, len(got), len(want))
		}
		for i := range want {
			if !Identical(&got[i], &want[i]) {
				t.Errorf("%s: have %+v\nwant %+v", what, got[i], want[i])
			}
		}
	}
	same("read", got)
	for _, peek := range []bool{false, true} {
		same(fmt.Sprint("decoded, only to look at: ", peek), read(func(row pgx.CollectableRow) (T, error) { return decoded(m, row, peek) }))
	}
}

// decoded encodes the columns of a row and has them decoded.
func decoded[T any](m *Mapping[T], row pgx.CollectableRow, peek bool) (v T, err error) {
	types := pgtype.NewMap()
	if typed, ok := row.(interface{ TypeMap() *pgtype.Map }); ok {
		types = typed.TypeMap()
	} else if rows, ok := row.(pgx.Rows); ok {
		types = rows.Conn().TypeMap()
	}
	src := AppendEncoded(nil, row.RawValues())
	err = m.Decoder(NewCoder(types, slices.Clone(row.FieldDescriptions())), peek)(src, &v)
	return v, err
}

// A row that is cut short, or is followed by something, is refused wherever it ends.
func TestEncodedRowsOfAnotherLengthAreRefused(t *testing.T) {
	type row struct {
		A int
		B *string
		C string
	}
	m := of[row](t)
	fields := []pgconn.FieldDescription{
		{Name: "a", DataTypeOID: pgtype.Int4OID, Format: 1}, {Name: "b", DataTypeOID: pgtype.TextOID, Format: 1}, {Name: "c", DataTypeOID: pgtype.TextOID, Format: 1},
	}
	for _, peek := range []bool{false, true} {
		decode := m.Decoder(NewCoder(pgtype.NewMap(), fields), peek)
		src := AppendEncoded(nil, [][]byte{{0, 0, 0, 9}, nil, []byte("text")})
		var v row
		if err := decode(src, &v); err != nil || !Identical(&v, &row{A: 9, C: "text"}) {
			t.Errorf("%+v, %v", v, err)
		}
		for n := range src {
			if err := decode(src[:n], new(row)); err == nil {
				t.Errorf("%d of %d bytes are read", n, len(src))
			}
		}
		if err := decode(append(src, 0), new(row)); err == nil {
			t.Error("a byte more is read")
		}
		if err := decode(AppendEncoded(nil, [][]byte{nil, nil, nil}), new(row)); err == nil {
			t.Error("a NULL is read into an int")
		}
	}
}

// What does not fit is refused, in pgx's own words.
func TestWhatDoesNotFitIsPgxsError(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	refused[int16](t, conn, "SELECT 32768::int8 AS v")
	refused[int32](t, conn, "SELECT (-2147483649)::int8 AS v")
	refused[string](t, conn, "SELECT NULL::text AS v")
	refused[int](t, conn, "SELECT NULL::int4 AS v")
	refused[time.Time](t, conn, "SELECT 'infinity'::timestamptz AS v")
	refused[time.Time](t, conn, "SELECT '-infinity'::timestamptz AS v")
	refused[bool](t, conn, "SELECT 'x'::text AS v")
}

func refused[V any](t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	type row struct{ V V }
	m := of[row](t)
	fail := func(fn func(pgx.CollectableRow) (row, error)) string {
		t.Helper()
		rows, _ := conn.Query(t.Context(), sql) // the error comes with the rows
		_, err := pgx.CollectExactlyOneRow(rows, fn)
		if err == nil {
			t.Errorf("%s is read", sql)
			return ""
		}
		return err.Error()
	}
	want := fail(pgx.RowToStructByName[row])
	got := fail(func(r pgx.CollectableRow) (v row, err error) {
		err = m.Scan(r, &v)
		return v, err
	})
	if got != want {
		t.Errorf("%s: %q, pgx says %q", sql, got, want)
	}
}

// loud is a codec of the application's own.
type loud struct{ pgtype.Int4Codec }

func (loud) PlanScan(*pgtype.Map, uint32, int16, any) pgtype.ScanPlan { return louder{} }

type louder struct{}

func (louder) Scan(_ []byte, dst any) error {
	*dst.(*int32) = 42
	return nil
}

func TestACodecOfTheApplicationsOwnIsAsked(t *testing.T) {
	type row struct{ V int32 }
	db := pgtest.New(t)
	m := of[row](t)
	plain, registered := db.Conn(t), db.Conn(t)
	registered.TypeMap().RegisterType(&pgtype.Type{Name: "int4", OID: pgtype.Int4OID, Codec: loud{}})
	for range 2 { // the scanner has seen the other connection's columns just before
		for conn, want := range map[*pgx.Conn]int32{plain: 7, registered: 42} {
			rows, _ := conn.Query(t.Context(), "SELECT 7::int4 AS v") // the error comes with the rows
			got, err := pgx.CollectExactlyOneRow(rows, func(r pgx.CollectableRow) (v row, err error) {
				err = m.Scan(r, &v)
				return v, err
			})
			if err != nil || got.V != want {
				t.Errorf("%d, %v, want %d", got.V, err, want)
			}
		}
	}
}

func TestEveryDirectIsFound(t *testing.T) {
	types := pgtype.NewMap()
	for typ, oids := range plainTypes {
		for _, oid := range oids {
			if typ == reflect.TypeFor[time.Time]() && oid != pgtype.TimestamptzOID {
				continue // pgx reads these
			}
			for _, field := range []reflect.Type{typ, reflect.PointerTo(typ)} {
				if directOf(types, oid, types.FormatCodeForOID(oid), field) == nil {
					t.Errorf("a column of type %d is read into %s by pgx", oid, field)
				}
			}
		}
	}
}
