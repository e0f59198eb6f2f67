package outbox

import "context"

// Exec runs SQL on the connection that fetches, as a pooler does that hands it to others.
func (s *Session) Exec(ctx context.Context, sql string) error {
	_, err := s.conn.Exec(ctx, sql)
	return err
}
