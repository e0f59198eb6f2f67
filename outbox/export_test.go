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

// KnowsAsPlain reports whether the session would ask for the short fingerprints of these relations.
func KnowsAsPlain(s *Session, oids []uint32) bool { return s.fast.allPlain(oids) }

// ShortFingerprints asks for the short fingerprints of these relations, whatever the session knows of them.
func ShortFingerprints(ctx context.Context, s *Session, oids []uint32) ([]string, error) {
	rows, err := s.conn.Query(ctx, s.fast.plainFingerprints.sql, oids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (fingerprint string, err error) {
		err = row.Scan(nil, &fingerprint)
		return fingerprint, err
	})
}

// EventsPlans are how the server runs the statements that read events, as this session has them planned.
func (s *Session) EventsPlans(ctx context.Context) (string, error) {
	var plans []string
	for _, call := range []string{s.fast.events.name + "('1', '{}')", s.fast.eventsAfter.name + "('1')"} {
		rows, err := s.conn.Query(ctx, "explain execute "+call, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return "", err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return "", err
		}
		plans = append(plans, lines...)
	}
	return strings.Join(plans, "\n"), nil
}
