package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// NodeRow is a node's row in the register of nodes, which people read and trimming spares.
type NodeRow struct {
	Name     string  `json:"name"` // the key
	Position string  `json:"position"`
	State    string  `json:"state"`
	Host     string  `json:"host"`
	Version  int32   `json:"version"` // NodeVersion of the node
	Stale    float64 `json:"stale"`   // seconds
	Bell     string  `json:"bell"`
}

// nodeColumns are those of the register, its key first; a schema of version 1 has the first five.
var nodeColumns = []string{"name", "position", "state", "host", "version", "stale_seconds", "bell"}

func (r *NodeRow) values() []any {
	return []any{r.Name, r.Position, r.State, r.Host, r.Version, r.Stale, r.Bell}
}

// Enroll writes a node's row by db, which is a pool or a connection, and returns its beat: the time, by the server's
// clock, that Session.Beat has of it. It waits for locks, and for the commit, until ctx ends.
func Enroll(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, schema string, row NodeRow) (beat time.Time, err error) {
	values := row.values()
	err = db.QueryRow(ctx, enrollSQL(schema, nodeColumns, ""), values...).Scan(&beat)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42703" { // a schema of version 1
		err = db.QueryRow(ctx, enrollSQL(schema, nodeColumns[:5], ""), values[:5]...).Scan(&beat)
	}
	if errors.As(err, &pgErr) && pgErr.Code == "42501" {
		err = fmt.Errorf("the role lacks INSERT and UPDATE: %w", err)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("outbox: write the register of nodes: %w", err)
	}
	return beat, nil
}

// enrollSQL writes these columns of a node's row, where the one that is there, n, is so.
func enrollSQL(schema string, columns []string, where string) string {
	params, sets := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		params[i], sets[i] = "$"+strconv.Itoa(i+1), c+" = excluded."+c
	}
	return "insert into " + pgx.Identifier{schema, "nodes"}.Sanitize() + " as n (beat, " + strings.Join(columns, ", ") + ")" +
		" values (pg_catalog.clock_timestamp(), " + strings.Join(params, ", ") + ")" +
		" on conflict (name) do update set beat = excluded.beat, " + strings.Join(sets[1:], ", ") +
		where + " returning beat"
}

// enrollSettings are for who enrolls others, and has better to do than to wait for a lock, or for a standby. Rows that a crash
// takes are written again.
const enrollSettings = "select pg_catalog.set_config('lock_timeout', '100ms', true), pg_catalog.set_config('synchronous_commit', 'off', true)"

// Enroll writes rows of other nodes on this session's connection and returns their beats. It waits at most 100 ms for
// each lock, and for no standby. A row that says that its node is closed is left as it is, with a zero beat for it: the node has
// written it itself, perhaps after it asked for this one. A *pgconn.PgError says why no row was written; the session goes on.
func (s *Session) Enroll(ctx context.Context, rows []NodeRow) ([]time.Time, error) {
	var b pgx.Batch
	b.Queue("begin isolation level read committed") // else a node that writes its own at that moment makes all fail
	b.Queue(enrollSettings)
	sql := enrollSQL(s.src.cfg.Schema, nodeColumns, " where n.state <> 'closed'")
	beats := make([]time.Time, len(rows))
	for i := range rows {
		b.Queue(sql, rows[i].values()...).QueryRow(func(row pgx.Row) error {
			if err := row.Scan(&beats[i]); !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			return nil
		})
	}
	b.Queue("commit")
	err := s.conn.SendBatch(ctx, &b).Close()
	if err != nil && s.conn.PgConn().TxStatus() != 'I' {
		_, endErr := s.conn.Exec(ctx, "rollback")
		err = errors.Join(err, endErr)
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: write the register of nodes: %w", err)
	}
	return beats, nil
}
