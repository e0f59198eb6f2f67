package lockstep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/outbox"
)

// attend runs what a node does for the cluster until it is closed: its row in
// the register, and its turns at trimming.
func (n *Node) attend() {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.attended = cancel, make(chan struct{})
	var all sync.WaitGroup
	if n.cfg.Register >= 0 {
		all.Go(func() { n.register(ctx) })
	}
	if n.cfg.Retention >= 0 {
		all.Go(func() { n.trim(ctx) })
	}
	go func() {
		all.Wait()
		close(n.attended)
	}()
}

// register keeps the node's row in the register of nodes, for people and for
// trimming. What it writes decides nothing in this node, so a failure is said
// once and tried again.
func (n *Node) register(ctx context.Context) {
	tick := time.NewTicker(n.cfg.Register)
	defer tick.Stop()
	said := false
	for {
		err := n.writeRegister(ctx, n.engine.Status().State)
		if err != nil && ctx.Err() == nil && !said {
			n.cfg.Logger.Warn("cannot write the register of nodes", "error", err)
		}
		said = err != nil
		select {
		case <-ctx.Done():
			n.sayClosed()
			return
		case <-tick.C:
		}
	}
}

// registerSQL writes a node's row, and returns its time.
const registerSQL = `insert into %s (name, position, state, host, version, bell, beat) values ($1, $2, $3, $4, $5, $6, clock_timestamp())
	on conflict (name) do update set position = excluded.position, state = excluded.state, host = excluded.host,
		version = excluded.version, bell = excluded.bell, beat = excluded.beat
	returning beat`

// registerOldSQL does so in a schema that was last installed when the register had no bells.
const registerOldSQL = `insert into %s (name, position, state, host, version, beat) values ($1, $2, $3, $4, $5, clock_timestamp())
	on conflict (name) do update set position = excluded.position, state = excluded.state, host = excluded.host,
		version = excluded.version, beat = excluded.beat
	returning beat`

func (n *Node) writeRegister(ctx context.Context, state State) error {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is for people only
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, table := n.engine.Status(), pgx.Identifier{n.cfg.Schema, "nodes"}.Sanitize()
	values := []any{n.cfg.Name, s.Position.String(), state.String(), host, outbox.NodeVersion, s.Bell}
	var at time.Time
	since := n.engine.Attesting()
	err = n.pool.QueryRow(ctx, fmt.Sprintf(registerSQL, table), values...).Scan(&at)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42703" {
		err = n.pool.QueryRow(ctx, fmt.Sprintf(registerOldSQL, table), values[:5]...).Scan(&at)
	}
	if errors.As(err, &pgErr) && pgErr.Code == "42501" {
		return fmt.Errorf("the role lacks INSERT and UPDATE on it: %w", err)
	}
	if err == nil {
		n.engine.Attest(since, at)
	}
	return err //nolint:wrapcheck // logged with its place
}

// sayClosed leaves a last word, if it can be had quickly.
func (n *Node) sayClosed() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = n.writeRegister(ctx, Closed) // best effort: the beat's age says the same
}
