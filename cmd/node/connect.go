package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// secrets are the passwords that this process knows: they are struck out of
// whatever it prints.
var secrets []string

// connect opens a pool and makes sure that somebody answers.
func (o *options) connect(ctx context.Context) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(cmp.Or(o.dsn, os.Getenv("LOCKSTEP_DSN")))
	if err != nil {
		return nil, fmt.Errorf("the connection string cannot be read: %w (want postgres://user@host/database, or set PGHOST, PGUSER, PGDATABASE)", err)
	}
	if p := cfg.ConnConfig.Password; p != "" {
		secrets = append(secrets, p)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the connection string cannot be used: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, unreachable(cfg, err)
	}
	return pool, nil
}

// unreachable says what to do about a server that does not let us in.
func unreachable(cfg *pgxpool.Config, err error) error {
	c := cfg.ConnConfig
	where := fmt.Sprintf("%s:%d as %s", c.Host, c.Port, c.User)
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

// oneLine is an error as a person reads it on a terminal: one line, what is
// wrong and what to do, without a password.
func oneLine(err error) string {
	text := err.Error()
	if tables := tableErrors(err); len(tables) > 0 {
		text = strings.Join(tables, "; ") // what is wrong with each, without the way that it took
	}
	for cut := true; cut; {
		cut = false
		for _, place := range []string{"lockstep: ", "start: ", "replay: ", "open: ", "outbox: ", "triggers: "} {
			if rest, ok := strings.CutPrefix(text, place); ok {
				text, cut = rest, true
			}
		}
	}
	for _, known := range []struct {
		is   error
		hint string
	}{
		{outbox.ErrNotInstalled, "lockstep install"},
		{triggers.ErrNotInstalled, "lockstep install"},
	} {
		if errors.Is(err, known.is) && !strings.Contains(text, known.hint) {
			text += ": run " + known.hint
		}
	}
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "********")
	}
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}

// tableErrors are the problems of tables inside an error, however they are joined.
func tableErrors(err error) []string {
	var found []string
	var walk func(error)
	walk = func(err error) {
		if t, ok := err.(*outbox.TableError); ok { //nolint:errorlint // the tree is walked by hand
			found = append(found, t.Error())
			return
		}
		switch e := err.(type) { //nolint:errorlint // the tree is walked by hand
		case interface{ Unwrap() error }:
			if inner := e.Unwrap(); inner != nil {
				walk(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return found
}
