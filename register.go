package lockstep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/pause"
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
	if n.cfg.Audit > 0 {
		all.Go(func() { newAuditor(n).run(ctx) })
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
	said := false
	for {
		err := n.writeRegister(ctx, "")
		if err != nil && ctx.Err() == nil && !said {
			n.cfg.Logger.Warn("cannot write the register of nodes", "error", err)
		}
		said = err != nil
		if !pause.For(ctx, n.cfg.Register*3/4+rand.N(n.cfg.Register/2+1)) { // nodes that were started together part
			n.sayClosed()
			return
		}
	}
}

// writeRegister writes what the status says, under another state where one is given.
func (n *Node) writeRegister(ctx context.Context, state string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is for people only
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var at time.Time
	since, s := n.engine.Attesting(), n.engine.Status()
	names := []string{"name", "position", "state", "host", "version", "stale_seconds", "bell"}
	values := []any{n.cfg.Name, s.Position.String(), cmp.Or(state, s.State.String()), host, outbox.NodeVersion, s.Staleness.Seconds(), s.Bell}
	err = n.pool.QueryRow(ctx, registerSQL(n.cfg.Schema, names), values...).Scan(&at)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42703" { // a schema of version 1
		err = n.pool.QueryRow(ctx, registerSQL(n.cfg.Schema, names[:5]), values[:5]...).Scan(&at)
	}
	if errors.As(err, &pgErr) && pgErr.Code == "42501" {
		return fmt.Errorf("the role lacks INSERT and UPDATE on it: %w", err)
	}
	if err == nil {
		n.engine.Attest(since, at)
	}
	return err //nolint:wrapcheck // logged with its place
}

// registerSQL writes these columns of the node's row, the first of which is its key.
func registerSQL(schema string, columns []string) string {
	params, sets := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		params[i], sets[i] = "$"+itoa(i+1), c+" = excluded."+c
	}
	return "insert into " + pgx.Identifier{schema, "nodes"}.Sanitize() + " (beat, " + strings.Join(columns, ", ") + ")" +
		" values (clock_timestamp(), " + strings.Join(params, ", ") + ")" +
		" on conflict (name) do update set beat = excluded.beat, " + strings.Join(sets[1:], ", ") +
		" returning beat"
}

// sayClosed leaves a last word, if it can be had quickly.
func (n *Node) sayClosed() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = n.writeRegister(ctx, Closed.String()) // best effort: the beat's age says the same
}
