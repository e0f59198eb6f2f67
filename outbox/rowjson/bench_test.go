package rowjson

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

var uuidType = baseType(pgtype.UUIDOID, "uuid")

// BenchmarkDecodeAndScan is one event of a row with five columns, made a struct.
func BenchmarkDecodeAndScan(b *testing.B) {
	d, err := NewDecoder(pgtype.NewMap(), []Column{
		{Name: "id", Type: uuidType}, {Name: "name", Type: textType}, {Name: "salary", Type: intType},
		{Name: "hired", Type: stampType}, {Name: "department", Type: uuidType},
	})
	if err != nil {
		b.Fatal(err)
	}
	doc := []byte(`{"id":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","name":"Grace Hopper","salary":123456,"hired":"2024-02-29T12:34:56.789012+00:00","department":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"}`)
	type employee struct {
		ID         uuid.UUID
		Name       string
		Salary     int32
		Hired      time.Time
		Department [16]byte
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		row, err := d.Decode(doc)
		if err != nil {
			b.Fatal(err)
		}
		var e employee
		if err := row.Scan(&e.ID, &e.Name, &e.Salary, &e.Hired, &e.Department); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, doc := range map[string]string{
		"array":     `{"a":[1,2,3,4,5,6,7,8,9,10]}`,
		"composite": `{"p":[{"a":1,"b":["x","y z"]},{"a":2,"b":[]}]}`,
		"escapes":   `{"t":"a \"quoted\" text\nof two lines"}`,
		"unwanted":  `{"id":1,"x":"some text","y":{"k":[1,2,3]},"z":null}`,
	} {
		b.Run(name, func(b *testing.B) {
			d := handDecoder(b, pgtype.NewMap())
			doc := []byte(doc)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
