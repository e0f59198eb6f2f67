package outbox_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/outbox"
)

// idle is a sink that scans rows and keeps nothing.
type idle struct{ recorder }

func (*idle) Event(_ int, _ *outbox.Event, row pgx.CollectableRow) error {
	var id int
	var v string
	return row.Scan(&id, &v)
}

// BenchmarkFetch is one fetch from a position that lacks one transaction, over TCP.
func BenchmarkFetch(b *testing.B) {
	r := newRig(b)
	s := r.open(b)
	pos, _ := r.load(b, s)
	r.Exec(b, "insert into a values (1, 'one')")
	for b.Loop() {
		if err := s.Fetch(b.Context(), outbox.Request{From: pos}, &idle{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRoundTrip is what a fetch cannot be faster than.
func BenchmarkRoundTrip(b *testing.B) {
	conn := newRig(b).Conn(b)
	for b.Loop() {
		if _, err := conn.Exec(b.Context(), "select 1"); err != nil {
			b.Fatal(err)
		}
	}
}
