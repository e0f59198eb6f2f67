package outbox_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/outbox"
)

func TestRowsOfOthersAreWrittenTogetherAndWithoutWaiting(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	row := func(name string) outbox.NodeRow {
		return outbox.NodeRow{Name: name, Position: "10:10:", State: "live", Host: "h", Version: outbox.NodeVersion, Stale: 0.25, Bell: "stream"}
	}
	closed := row("b")
	closed.State = "closed"
	wrote, err := outbox.Enroll(t.Context(), r.pool, "lockstep", closed)
	if err != nil || wrote.IsZero() {
		t.Fatal(wrote, err)
	}
	beats, err := s.Enroll(t.Context(), []outbox.NodeRow{row("a"), row("b"), row("a")})
	if err != nil {
		t.Fatal(err)
	}
	if !beats[1].IsZero() || beats[0].IsZero() || !beats[2].After(beats[0]) {
		t.Errorf("beats %v: the second is of a node that has closed", beats)
	}
	var state string
	var beat time.Time
	if err := r.pool.QueryRow(t.Context(), "select state, beat from lockstep.nodes where name = 'b'").Scan(&state, &beat); err != nil {
		t.Fatal(err)
	}
	if state != "closed" || !beat.Equal(wrote) {
		t.Errorf("the row of a node that has closed is %q of %v, it was of %v", state, beat, wrote)
	}
	if err := r.pool.QueryRow(t.Context(), "select beat from lockstep.nodes where name = 'a' and position = '10:10:' and bell = 'stream' and stale_seconds = 0.25").Scan(&beat); err != nil || !beat.Equal(beats[2]) {
		t.Errorf("beat %v, want %v: %v", beat, beats[2], err)
	}
	tx := r.begin(t)
	if _, err := tx.Exec(t.Context(), "lock lockstep.nodes in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	var pgErr *pgconn.PgError
	if _, err := s.Enroll(t.Context(), []outbox.NodeRow{row("a")}); !errors.As(err, &pgErr) || pgErr.Code != "55P03" {
		t.Errorf("with the register locked: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Enroll(t.Context(), []outbox.NodeRow{row("a")}); err != nil {
		t.Errorf("after that: %v", err)
	}
}
