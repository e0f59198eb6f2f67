package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// patience bounds the first connection where the connection string does not:
// a server that swallows packets must not hold up a person for minutes.
const patience = 15 * time.Second

// connect opens a pool and makes sure that a primary answers.
func (o *options) connect(ctx context.Context) (*pgxpool.Pool, error) {
	cfg, err := parse(cmp.Or(o.dsn, os.Getenv("LOCKSTEP_DSN")))
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the connection string cannot be used: %w", err)
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var standby bool
	err = pool.QueryRow(asking, "select pg_is_in_recovery()").Scan(&standby)
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		err = unreachable(cfg, err)
	case standby:
		err = fmt.Errorf("Postgres at %s is a standby, whose snapshots leave out the transactions in flight: name the primary", place(cfg)) //nolint:staticcheck // a name
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// parse reads a connection string and keeps its password for scrub.
func parse(dsn string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err == nil {
		keepSecret(cfg.ConnConfig.Password)
		return cfg, nil
	}
	// The error cites the string, and knows only some of the ways in which a password stands in it.
	why := err.Error()
	if at := strings.LastIndex(why, "`: "); at >= 0 {
		why = why[at+len("`: "):]
	}
	keepSecret(dsn)
	return nil, fmt.Errorf("the connection string cannot be read: %s (want postgres://user@host/database, or set PGHOST, PGUSER, PGDATABASE)", why)
}

func place(cfg *pgxpool.Config) string {
	c := cfg.ConnConfig
	return fmt.Sprintf("%s:%d as %s", c.Host, c.Port, c.User)
}

// unreachable says what to do about a server that does not let us in.
func unreachable(cfg *pgxpool.Config, err error) error {
	where := place(cfg)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return fmt.Errorf("no Postgres answers at %s: start it, or name another one with --dsn or $LOCKSTEP_DSN (%w)", where, err)
	}
	switch pgErr.Code {
	case "28P01", "28000":
		return fmt.Errorf("Postgres at %s refuses the login: %s: check the user, and give the password by PGPASSWORD, a password file or $LOCKSTEP_DSN", where, pgErr.Message) //nolint:staticcheck // a name
	case "3D000":
		return fmt.Errorf("%s (at %s): create it, or name another one", pgErr.Message, where)
	}
	return fmt.Errorf("Postgres at %s: %s", where, pgErr.Message) //nolint:staticcheck // a name
}
