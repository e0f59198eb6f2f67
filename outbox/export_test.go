package outbox

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Exec runs SQL on the connection that fetches, as a pooler does that hands it to others.
func (s *Session) Exec(ctx context.Context, sql string) error {
	_, err := s.conn.Exec(ctx, sql)
	return err
}

// EventsPlan is how the server runs the statement that reads events, as this session has it planned.
func (s *Session) EventsPlan(ctx context.Context) (string, error) {
	rows, err := s.conn.Query(ctx, "explain execute "+s.fast.events.name+"('1', '{}')", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}
