package lockstep

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/outbox"
)

// claim takes the tables for this node. It returns those without a mistake of
// their own, which are claimed now, and the mistakes of the others.
func (n *Node) claim() (good []AnyTable, mistakes error) {
	if len(n.tables) == 0 {
		return nil, errors.New("lockstep: Start without a table")
	}
	var bad []error
	names := make(map[string]bool, len(n.tables))
	for i, t := range n.tables {
		switch {
		case t == nil:
			bad = append(bad, fmt.Errorf("lockstep: table %d is nil", i))
		case t.declared() != nil:
			bad = append(bad, t.declared())
		case names[t.Name()]:
			bad = append(bad, fmt.Errorf("lockstep: table %s is given twice", t.Name()))
		case !t.claim():
			bad = append(bad, fmt.Errorf("lockstep: table %s is kept by another node: declare it once for each", t.Name()))
		default:
			good = append(good, t)
			names[t.Name()] = true
		}
	}
	return good, errors.Join(bad...)
}

// release gives the claimed tables free, as they were before.
func (n *Node) release(claimed []AnyTable) {
	for _, t := range claimed {
		t.release()
	}
}

// askPool copies what the pool's connections know about types, and finds tables that
// are given twice under two spellings: the log has one name for both, and one
// of them would never hear of a change.
func askPool(ctx context.Context, pool *pgxpool.Pool, tables []AnyTable) (types *pgtype.Map, twice, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("lockstep: start: %w", err)
	}
	defer conn.Release()
	first := make(map[uint32]string, len(tables))
	for _, t := range tables {
		var oid *uint32
		// A name that cannot be read, or a table that is not there, is found out by the load.
		if err := conn.QueryRow(ctx, "select to_regclass($1)::oid", t.Name()).Scan(&oid); err != nil || oid == nil {
			continue
		}
		if other, ok := first[*oid]; ok {
			twice = errors.Join(twice, fmt.Errorf("lockstep: table %s is given twice, also as %s", t.Name(), other))
			continue
		}
		first[*oid] = t.Name()
	}
	return conn.Conn().TypeMap().Copy(), twice, nil
}

// errProbed ends a probe once the tables' problems are known.
var errProbed = errors.New("lockstep: every table has been looked at")

// probe asks Postgres what is wrong with the tables, without loading them.
func probe(ctx context.Context, src *outbox.Source, tables []AnyTable) error {
	if len(tables) == 0 {
		return nil
	}
	session, err := src.Open(ctx)
	if err != nil {
		return fmt.Errorf("lockstep: start: %w", err)
	}
	defer session.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &prober{tables: tables, stop: cancel}
	var req outbox.Request
	for i := range tables {
		req.Reload = append(req.Reload, i)
	}
	err = session.Fetch(ctx, req, p)
	if p.done {
		err = nil
	}
	return errors.Join(append(p.found, err)...)
}

// prober is the sink of a probe. Problems come before rows.
type prober struct {
	tables []AnyTable
	stop   context.CancelFunc
	found  []error
	done   bool
}

func (p *prober) Begin(*outbox.Header) error { return nil }
func (p *prober) Problem(table int, err error) error {
	p.found = append(p.found, fmt.Errorf("lockstep: %w: %w", ErrTable, err))
	return nil
}
func (p *prober) Event(int, *outbox.Event, pgx.CollectableRow) error { return p.end() }
func (p *prober) Load(int, pgx.CollectableRow) error                 { return p.end() }
func (p *prober) Reread(int, pgx.CollectableRow, pgx.CollectableRow) error {
	return p.end()
}

// end cuts the connection: the rest of the rows would be read before the query could end.
func (p *prober) end() error {
	p.done = true
	p.stop()
	return errProbed
}
