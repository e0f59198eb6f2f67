package triggers_test

import (
	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/outbox"
)

// countingSink counts what a load brings.
type countingSink struct {
	rows    int
	problem error
}

func (s *countingSink) Begin(*outbox.Header) error                               { return nil }
func (s *countingSink) Event(int, *outbox.Event, pgx.CollectableRow) error       { return nil }
func (s *countingSink) Reread(int, pgx.CollectableRow, pgx.CollectableRow) error { return nil }
func (s *countingSink) Problem(_ int, err error) error {
	s.problem = err
	return nil
}

func (s *countingSink) Load(int, pgx.CollectableRow) error {
	s.rows++
	return nil
}
