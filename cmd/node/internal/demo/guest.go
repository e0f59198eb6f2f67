package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/triggers"
)

// claimClass is the first half of the advisory locks that living demos hold
// on servers that are not theirs; the second is the demo's tag.
const claimClass = 0x6c6f636b

// take drops what demos have left on the caller's server that were killed, and
// claims a tag: a session holds it for as long as this process lives.
func (c *cluster) take(ctx context.Context, tag uint32) error {
	conn, err := pgx.ConnectConfig(ctx, c.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	c.claim = conn
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1, $2)", int32(claimClass), int32(tag)); err != nil {
		return fmt.Errorf("claim a name: %w", err)
	}
	rows, _ := conn.Query(ctx, `select nspname from pg_namespace where nspname ~ '^lockstep_demo_[0-9a-f]{8}$'`) // the error comes with the rows
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for what a demo has left: %w", err)
	}
	for _, company := range left {
		if err := c.sweep(ctx, company); err != nil {
			return err
		}
	}
	return nil
}

// sweep drops a company, unless its demo lives.
func (c *cluster) sweep(ctx context.Context, company string) error {
	tag, err := strconv.ParseUint(strings.TrimPrefix(company, "lockstep_demo_"), 16, 32)
	if err != nil {
		return nil // none of ours
	}
	var dead bool
	if err := c.claim.QueryRow(ctx, "select pg_try_advisory_lock($1, $2)", int32(claimClass), int32(uint32(tag))).Scan(&dead); err != nil || !dead {
		return err
	}
	if err := newNames(uint32(tag)).drop(ctx, c.pool); err != nil {
		return fmt.Errorf("drop %s, which a demo has left: %w", company, err)
	}
	c.say(plain, "dropped %s, which a demo had left", company)
	_, err = c.claim.Exec(ctx, "select pg_advisory_unlock($1, $2)", int32(claimClass), int32(uint32(tag)))
	return err
}

// drop takes the schemas away. The company goes last: it is what a sweep looks for.
func (n names) drop(ctx context.Context, pool *pgxpool.Pool) error {
	if err := triggers.Uninstall(ctx, pool, n.install()); err != nil && !errors.Is(err, triggers.ErrNotInstalled) {
		return err
	}
	return execute(ctx, pool, "set client_min_messages = warning; drop schema if exists "+pgx.Identifier{n.company}.Sanitize()+" cascade; reset client_min_messages")
}
