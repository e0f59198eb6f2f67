package rowmap

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// BenchmarkLoad reads rows of a table by Mapping.Scan and by pgx's own way.
func BenchmarkLoad(b *testing.B) {
	type row struct {
		ID         uuid.UUID
		Name       string
		Salary     int32
		Hired      time.Time
		Department [16]byte
	}
	const n = 100_000
	db := pgtest.New(b)
	db.Exec(b, fmt.Sprintf(`CREATE TABLE emp AS SELECT gen_random_uuid() AS id, 'name ' || i AS name, i AS salary, now() AS hired, gen_random_uuid() AS department
		FROM generate_series(1, %d) AS i`, n))
	conn := db.Conn(b)
	m := of[row](b)
	for name, scan := range map[string]pgx.RowToFunc[row]{
		"mapping":           func(r pgx.CollectableRow) (v row, err error) { return v, m.Scan(r, &v) },
		"rowToStructByName": pgx.RowToStructByName[row],
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rows, err := conn.Query(b.Context(), "SELECT id, name, salary, hired, department FROM emp")
				if err != nil {
					b.Fatal(err)
				}
				if got, err := pgx.CollectRows(rows, scan); err != nil || len(got) != n {
					b.Fatal(len(got), err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
