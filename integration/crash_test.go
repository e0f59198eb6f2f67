package integration

import (
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// eventSink collects the transaction ids of what is new.
type eventSink struct {
	header outbox.Header
	xids   []uint64
}

func (s *eventSink) Begin(h *outbox.Header) error {
	s.header = *h
	return nil
}
func (s *eventSink) Problem(int, error) error                                 { return nil }
func (s *eventSink) Load(int, pgx.CollectableRow) error                       { return nil }
func (s *eventSink) Reread(int, pgx.CollectableRow, pgx.CollectableRow) error { return nil }
func (s *eventSink) Event(_ int, ev *outbox.Event, _ pgx.CollectableRow) error {
	s.xids = append(s.xids, ev.Xid)
	return nil
}

// After a crash Postgres hands out again every transaction id that had not
// reached the log. A position that is the fetch's own snapshot covers such ids, and
// misses what is then written under them. A tight one does not.
func TestOnlyATightPositionSurvivesTransactionIDsThatAreUsedAgain(t *testing.T) {
	c := pgtest.Own(t, pgtest.With("wal_writer_delay", "10s"), pgtest.With("autovacuum", "off"), pgtest.With("fsync", "on"))
	db := c.New(t)
	db.Exec(t, "create table a (id int primary key)")
	pool := db.Pool(t)
	if err := triggers.Install(t.Context(), pool, triggers.Options{Bell: triggers.BellOff, Logger: slog.New(slog.DiscardHandler)}, "public.a"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "insert into a values (1)")
	src, err := outbox.NewSource(outbox.Config{Pool: pool, Tables: []outbox.TableSpec{{Name: "public.a"}}})
	if err != nil {
		t.Fatal(err)
	}
	session, err := src.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := db.Conn(t)
	for range 5 { // ids that only memory knows of
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var before eventSink
	if err := session.Fetch(t.Context(), outbox.Request{Reload: []int{0}}, &before); err != nil {
		t.Fatal(err)
	}
	session.Close()
	loose := before.header.Snapshot
	tight := outbox.Position{}.Tight(loose, before.header.HighestXid)

	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "insert into a values (2)")
	if session, err = src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	fetch := func(from outbox.Position) []uint64 {
		var s eventSink
		if err := session.Fetch(t.Context(), outbox.Request{From: from}, &s); err != nil {
			t.Fatal(err)
		}
		return s.xids
	}
	if got := fetch(tight); len(got) != 1 {
		t.Errorf("from the tight position %v came %v, want the one new event", tight, got)
	}
	if got := fetch(loose); len(got) != 0 {
		t.Errorf("from the snapshot %v came %v: no id was used again, so this test no longer shows why the position is tight", loose, got)
	}
}
