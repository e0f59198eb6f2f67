package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/psql"
)

// Overview is what the database knows of the log and of those who follow it.
type Overview struct {
	Bell    string    `json:"bell"`
	History string    `json:"history"`
	Version int       `json:"version"`
	Horizon uint64    `json:"horizon"`
	Trimmed time.Time `json:"trimmed"` // when the horizon last moved
	Bytes   int64     `json:"bytes"`   // of the outbox with its indexes
	Rows    int64     `json:"rows"`    // as the server's statistics have it
	Oldest  time.Time `json:"oldest,omitzero"`
	Rate    float64   `json:"events_per_second"` // of the last minute
	// OldestWriter and OldestPrepared are the transactions, older than a minute,
	// below whose ids nothing can be trimmed; "" where there are none.
	OldestWriter   string `json:"oldest_writer,omitempty"`
	OldestPrepared string `json:"oldest_prepared,omitempty"`
	// LogKept is how much of the server's log the WAL bells of nodes keep, in
	// bytes: back to the beginning of the oldest transaction that was running
	// when the log was last read.
	LogKept int64 `json:"log_kept_bytes"`
	// Relay leads the relays; nil where none does.
	Relay *RelaySeen `json:"relay,omitempty"`
	Nodes []NodeSeen `json:"nodes"`
}

// RelaySeen is the relay that leads.
type RelaySeen struct {
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// NodeSeen is a node as its last beat left it in the register.
type NodeSeen struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Position string    `json:"position"`
	Host     string    `json:"host"`
	Version  int       `json:"version"`
	Beat     time.Time `json:"beat"`
	// Age is how long ago that was, in seconds, by the server's clock.
	Age float64 `json:"beat_age_seconds"`
	// Behind counts the events that the position did not cover, at most
	// 100,001 of them; BehindSeconds is the age of the oldest of them.
	Behind        int64   `json:"behind_events"`
	BehindSeconds float64 `json:"behind_seconds"`
	// Staleness is how long ago the node's last completed fetch, or beat that found nothing to fetch, had begun, at
	// that beat, in seconds; nil where the node, or the schema, is of a version that does not say.
	Staleness *float64 `json:"staleness_seconds,omitempty"`
	// Bell is the doorbell that the node uses: "wal", "notify", "poll", "stream"; "" as above.
	Bell string `json:"bell,omitempty"`
}

// Look reads the overview of the outbox in a schema ("" means lockstep). It
// needs what a node needs.
func Look(ctx context.Context, pool *pgxpool.Pool, schema string) (*Overview, error) {
	schema = cmp.Or(schema, "lockstep")
	vars := map[string]string{"schema": schema, "schema_quoted": pgx.Identifier{schema}.Sanitize()}
	logSQL, err := psql.Render(files, "sql/overview_log.sql", vars)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	nodesSQL, err := psql.Render(files, "sql/overview_nodes.sql", vars)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	var o Overview
	var oldest *time.Time
	err = pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, psql.ByIndex); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, logSQL).Scan(&o.Bell, &o.History, &o.Version, &o.Horizon, &o.Trimmed, &o.Bytes, &o.Rows, &oldest, &o.Rate, &o.OldestWriter, &o.OldestPrepared, &o.LogKept)
		if err != nil {
			return notInstalled(err, schema)
		}
		rows, err := tx.Query(ctx, nodesSQL)
		if err != nil {
			return err
		}
		o.Nodes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[NodeSeen])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: look at the log: %w", err)
	}
	if oldest != nil {
		o.Oldest = *oldest
	}
	o.Relay, err = lookForRelay(ctx, pool, vars)
	return &o, err
}

// lookForRelay finds none in a schema of a version that knows of none.
func lookForRelay(ctx context.Context, pool *pgxpool.Pool, vars map[string]string) (*RelaySeen, error) {
	sql, err := psql.Render(files, "sql/running.sql", vars)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	var r RelaySeen
	err = pool.QueryRow(ctx, "select host, at from (\n"+sql+") r").Scan(&r.Host, &r.Since) // not the key, which is a secret
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "42501"):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("outbox: look for the relay: %w", err)
	}
	return &r, nil
}
