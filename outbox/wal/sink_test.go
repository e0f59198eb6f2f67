package wal_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/outbox"
)

// counter is a sink that keeps the header and the last number.
type counter struct {
	header outbox.Header
	last   int64
}

func (c *counter) Begin(h *outbox.Header) error {
	c.header = *h
	return nil
}
func (c *counter) Problem(_ int, err error) error                           { return err }
func (c *counter) Load(int, pgx.CollectableRow) error                       { return nil }
func (c *counter) Reread(int, pgx.CollectableRow, pgx.CollectableRow) error { return nil }
func (c *counter) Event(_ int, ev *outbox.Event, _ pgx.CollectableRow) error {
	c.last = max(c.last, ev.Seq)
	return nil
}

// load loads the table and returns the position.
func load(t *testing.T, s *outbox.Session) outbox.Position {
	t.Helper()
	sink := &counter{}
	if err := s.Fetch(t.Context(), outbox.Request{Reload: []int{0}}, sink); err != nil {
		t.Fatal(err)
	}
	return outbox.Position{}.Tight(sink.header.Snapshot, sink.header.HighestXid)
}

func isChanged(err error) bool { return errors.Is(err, outbox.ErrBellChanged) }
