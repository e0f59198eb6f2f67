package rowmap

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type audit struct {
	CreatedAt time.Time
	Updated   *time.Time `db:"updated_at,omitempty"`
}

type Place struct {
	audit
	City string `db:"City"`
}

type employee struct {
	ID           uuid.UUID
	DepartmentID int64
	FullName     string   `db:"name"`
	Place        `db:"-"` // flattened all the same, as by pgx
	Note         *string
	hidden       int
	Skipped      chan int `db:"-"`
	Tags         []string
}

func of[T any](t testing.TB) *Mapping[T] {
	t.Helper()
	m, err := Of[T]()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestColumnsFollowTheFields(t *testing.T) {
	got := of[employee](t).Columns()
	want := []string{"ID", "DepartmentID", "name", "CreatedAt", "updated_at", "City", "Note", "Tags"}
	if !slices.Equal(got, want) {
		t.Errorf("have %q, want %q", got, want)
	}
}

func TestResolveFindsTheTablesSpelling(t *testing.T) {
	m := of[employee](t)
	table := []string{"tags", "unwanted", "NOTE", "name", "Name", "city", "City", "id", "department_id", "created_at", "Updated_At"}
	got, err := m.Resolve(table)
	want := []string{"id", "department_id", "name", "created_at", "Updated_At", "City", "NOTE", "tags"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("have %q, %v", got, err)
	}
}

func TestResolveNamesEveryMissingAndAmbiguousColumn(t *testing.T) {
	_, err := of[employee](t).Resolve([]string{"id", "i_d", "departmentid", "city", "CITY", "note", "tags", "created_at", "updated_at"})
	for _, want := range []string{`"ID" could be any`, `no column "name"`, `"City" could be any`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s in %v", want, err)
		}
	}
	type two struct {
		A string `db:"a"`
		B string `db:"A"`
	}
	if _, err := of[two](t).Resolve([]string{"a"}); err == nil || !strings.Contains(err.Error(), "both") {
		t.Errorf("two fields share a column: %v", err)
	}
	if got, err := of[two](t).Resolve([]string{"A", "a"}); err != nil || !slices.Equal(got, []string{"a", "A"}) {
		t.Error(got, err)
	}
}

type wrong struct {
	A    int `db:"same"`
	B    int `db:"same"`
	C    int `db:""`
	d    int `db:"d"`
	UsID int
	Us   struct{} `db:"usid"`
	place
}

type place struct {
	ID int `db:"us_id"`
}

func TestMistakesAreAllReportedByName(t *testing.T) {
	_, err := Of[wrong]()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"fields A and B", "field C", "field d", "fields UsID and Us ", "fields UsID and place.ID"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	_, noStruct := Of[int]()
	_, pointer := Of[*employee]()
	_, empty := Of[struct{ a int }]()
	for _, err := range []error{noStruct, pointer, empty} {
		if err == nil {
			t.Error("no error")
		}
	}
	_ = wrong{}.d
}

// handRow answers Scan with the destinations that it was given.
type handRow struct {
	dest []any
	err  error
}

func (r *handRow) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r *handRow) Values() ([]any, error)                       { return nil, nil }
func (r *handRow) RawValues() [][]byte                          { return nil }
func (r *handRow) Scan(dest ...any) error {
	r.dest = slices.Clone(dest)
	return r.err
}

func TestScanHandsOutThePointersOfTheFields(t *testing.T) {
	m := of[employee](t)
	var e employee
	row := &handRow{}
	if err := m.Scan(row, &e); err != nil {
		t.Fatal(err)
	}
	want := []any{&e.ID, &e.DepartmentID, &e.FullName, &e.CreatedAt, &e.Updated, &e.City, &e.Note, &e.Tags}
	for i := range want {
		got := row.dest[i]
		if id, ok := got.(*uuidDest); ok {
			got = (*uuid.UUID)(id)
		}
		if got != want[i] {
			t.Errorf("destination %d is %T at another place", i, row.dest[i])
		}
	}
	row.err = errors.New("no row")
	if err := m.Scan(row, &e); !errors.Is(err, row.err) {
		t.Error(err)
	}
	_ = e.hidden
}

func TestAUUIDIsReadFromEveryColumnThatPgxReadsItFrom(t *testing.T) {
	type ids struct{ U, Txt, Bin, Missing uuid.UUID }
	conn := pgtest.New(t).Conn(t)
	for range 2 {
		id := uuid.New()
		rows, err := conn.Query(t.Context(), `SELECT $1::uuid AS u, $1::uuid::text AS txt, uuid_send($1) AS bin, NULL::uuid AS missing`, id)
		if err != nil {
			t.Fatal(err)
		}
		before := uuid.New()
		got := ids{Missing: before}
		m := of[ids](t)
		for rows.Next() {
			if err := m.Scan(rows, &got); err != nil {
				t.Fatal(err)
			}
		}
		if rows.Err() != nil || got != (ids{id, id, id, before}) {
			t.Error(got, rows.Err())
		}
	}
}

func TestARowScannerIsNotTakenForARow(t *testing.T) {
	type single struct{ Whole wholeRow }
	if err := of[single](t).Scan(&handRow{}, &single{}); err == nil {
		t.Error("no error")
	}
}

type wholeRow struct{}

func (*wholeRow) ScanRow(pgx.Rows) error { return nil }

func TestRowsAreTheSameAsByRowToStructByName(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE emp (tags text[], note text, "City" text, updated_at timestamptz, created_at timestamptz, name text, department_id int8, id uuid);
		INSERT INTO emp SELECT ARRAY['a', i::text], NULLIF('x', repeat('x', i)), 'c', now(), now(), 'n' || i, i, gen_random_uuid() FROM generate_series(1, 5) AS i`)
	conn := db.Conn(t)
	m := of[employee](t)
	cols, err := m.Resolve([]string{"tags", "note", "City", "updated_at", "created_at", "name", "department_id", "id"})
	if err != nil {
		t.Fatal(err)
	}
	quoted := make([]string, len(cols))
	for i, c := range cols {
		quoted[i] = pgx.Identifier{c}.Sanitize()
	}
	rows, err := conn.Query(t.Context(), "SELECT "+strings.Join(quoted, ", ")+" FROM emp")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; rows.Next(); n++ {
		want, err := pgx.RowToStructByName[employee](rows)
		if err != nil {
			t.Fatal(err)
		}
		var got employee
		if err := m.Scan(rows, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("have %+v, want %+v", got, want)
		}
	}
	if rows.Err() != nil || n != 5 {
		t.Fatal(n, rows.Err())
	}
}

func TestValuesGoBackIntoTheTable(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `CREATE TABLE emp (id uuid, department_id int8, name text, created_at timestamptz, updated_at timestamptz, "City" text, note text, tags text[])`)
	conn := db.Conn(t)
	m := of[employee](t)
	in := employee{ID: uuid.New(), DepartmentID: 7, FullName: "x", Tags: []string{"a", ""}}
	in.CreatedAt, in.City = time.Unix(1, 1000), "c"
	if _, err := conn.Exec(t.Context(), "INSERT INTO emp VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", m.Values(&in)...); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), "SELECT id, department_id, name, created_at, updated_at, \"City\", note, tags FROM emp")
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (e employee, err error) {
		return e, m.Scan(row, &e)
	})
	if err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%+v\n%+v, %v", in, out, err)
	}
	oids := []uint32{pgtype.UUIDOID, pgtype.Int8OID, pgtype.TextOID, pgtype.TimestamptzOID, pgtype.TimestamptzOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextArrayOID}
	equal, err := Equal(conn.TypeMap(), oids, m.Values(&in), m.Values(&out))
	if !equal || err != nil {
		t.Error(equal, err)
	}
	out.Tags[1] = "b"
	if equal, err = Equal(conn.TypeMap(), oids, m.Values(&in), m.Values(&out)); equal || err != nil {
		t.Error(equal, err)
	}
}

func TestScanAllocatesNothingOfItsOwn(t *testing.T) {
	m := of[employee](t)
	var e employee
	row := discard{}
	if allocs := testing.AllocsPerRun(100, func() {
		if err := m.Scan(row, &e); err != nil {
			t.Fatal(err)
		}
	}); allocs > 0 && !raceEnabled {
		t.Errorf("%v allocations", allocs)
	}
}

type discard struct{}

func (discard) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (discard) Values() ([]any, error)                       { return nil, nil }
func (discard) RawValues() [][]byte                          { return nil }
func (discard) Scan(...any) error                            { return nil }
