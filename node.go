package lockstep

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/bridge"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// Node keeps tables in memory as Postgres has them. Its methods may be called
// by any number of goroutines.
type Node struct {
	cfg    Config
	pool   *pgxpool.Pool // nil under locksteptest
	writer bridge.Writer // writes without Postgres; nil with it
	store  *cache.Store
	engine *replay.Engine
	tables []AnyTable

	stop   context.CancelFunc // ends the background work
	behind sync.WaitGroup
}

// Start loads the tables and follows them. It returns when the first load is
// complete, or with every mistake of every declaration in one error. ctx
// bounds Start only; Close ends the node.
//
// The node opens at most two connections of its own, as the pool would open
// them; writes, and a short one every few seconds for the register of nodes, go through the pool.
func Start(ctx context.Context, pool *pgxpool.Pool, cfg Config, tables ...AnyTable) (*Node, error) {
	if pool == nil {
		return nil, errors.New("lockstep: Start without a pool")
	}
	cfg = cfg.withDefaults()
	specs := make([]outbox.TableSpec, len(tables))
	if err := declared(tables); err != nil {
		return nil, err
	}
	for i, t := range tables {
		specs[i] = t.spec()
	}
	src, err := outbox.NewSource(outbox.Config{
		Schema: cfg.Schema, Pool: pool, Tables: specs, Bell: cfg.Bell, Check: check(cfg.Schema), Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("lockstep: %w", err)
	}
	types, err := typeMap(ctx, pool)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, pool: pool, tables: tables}
	if err := n.start(ctx, pgSource{src}, types); err != nil {
		return nil, err
	}
	n.register()
	return n, nil
}

func init() {
	bridge.Start = func(ctx context.Context, src replay.Source, w bridge.Writer, config any, tables []any) (any, error) {
		cfg, ok := config.(Config)
		if !ok {
			return nil, fmt.Errorf("lockstep: the configuration is a %T", config)
		}
		n := &Node{cfg: cfg.withDefaults(), writer: w, tables: make([]AnyTable, len(tables))}
		for i, t := range tables {
			if n.tables[i], ok = t.(AnyTable); !ok {
				return nil, fmt.Errorf("lockstep: table %d is a %T", i, t)
			}
		}
		if err := declared(n.tables); err != nil {
			return nil, err
		}
		if err := n.start(ctx, src, pgtype.NewMap()); err != nil {
			return nil, err
		}
		return n, nil
	}
	bridge.Key = func(table, row any) any {
		t, _ := table.(AnyTable)
		return t.keyOf(row)
	}
}

// declared joins the mistakes of all declarations.
func declared(tables []AnyTable) error {
	if len(tables) == 0 {
		return errors.New("lockstep: Start without a table")
	}
	errs := make([]error, 0, len(tables))
	for i, t := range tables {
		if t == nil {
			errs = append(errs, fmt.Errorf("lockstep: table %d is nil", i))
			continue
		}
		errs = append(errs, t.declared())
	}
	return errors.Join(errs...)
}

// start puts the parts together and waits for the first load.
func (n *Node) start(ctx context.Context, src replay.Source, types *pgtype.Map) error {
	caches := make([]cache.AnyTable, len(n.tables))
	bindings := make([]replay.Table, len(n.tables))
	eq := &comparer{types: types}
	for i, t := range n.tables {
		caches[i], bindings[i] = t.cached(), t.bind(eq)
	}
	store, err := cache.NewStore(cache.Options{
		MaxLag: n.cfg.MaxLag, CoalesceAfter: n.cfg.CoalesceAfter, DetectMutation: n.cfg.DetectMutation,
	}, caches...)
	if err != nil {
		return fmt.Errorf("lockstep: %w", err)
	}
	n.store = store
	n.engine, err = replay.New(store, src, bindings, replay.Config{
		Beat: n.cfg.Beat, MaxStale: n.cfg.MaxStale, MaxBytes: n.cfg.MaxBytes, Logger: n.cfg.Logger, OnCut: n.cfg.OnCut,
	})
	if err != nil {
		return fmt.Errorf("lockstep: %w", err)
	}
	for i, t := range n.tables {
		t.attach(n, i)
	}
	if err := n.engine.Start(ctx); err != nil {
		store.Close()
		return fmt.Errorf("lockstep: start: %w", err)
	}
	return nil
}

// typeMap copies what the pool's connections know about types.
func typeMap(ctx context.Context, pool *pgxpool.Pool) (*pgtype.Map, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("lockstep: start: %w", err)
	}
	defer conn.Release()
	return conn.Conn().TypeMap().Copy(), nil
}

// pgSource is the outbox as replay wants it.
type pgSource struct{ *outbox.Source }

func (s pgSource) Open(ctx context.Context) (replay.Session, error) {
	session, err := s.Source.Open(ctx)
	if err != nil {
		return nil, err //nolint:wrapcheck // named there
	}
	return session, nil
}

// Close stops the node and waits until everything that it runs has ended, or
// until ctx ends. Reads go on from what it had; subscribers get ErrClosed.
func (n *Node) Close(ctx context.Context) error {
	if n.stop != nil {
		n.stop()
	}
	err := n.engine.Close(ctx)
	n.store.Close()
	n.behind.Wait()
	return err
}

// View calls fn with one instant of all tables. Readers and the writer do not
// wait for it, but what changes while it is open is kept in both versions. The
// view is valid inside fn only.
func (n *Node) View(fn func(*View)) { n.store.View(fn) }

// OpenView is a View for whoever streams: it must be closed.
func (n *Node) OpenView() *View { return n.store.OpenView() }

// Changes yields whole transactions across tables, from now on. The first one
// has Reset set and no changes: open a View for the rows, and skip
// transactions whose Revision is not above the view's. It ends with ctx's
// error or ErrClosed. A subscriber that falls behind gets one coalesced change
// per row, and past Config.MaxLag a Reset; it never holds up the node.
func (n *Node) Changes(ctx context.Context) iter.Seq2[Tx, error] { return n.store.Changes(ctx) }

// Changes yields the current rows (OpCurrent), OpLive, and then every change
// as it happens. It ends with ctx's error or cache.ErrClosed. A subscriber
// that falls behind gets one coalesced change per key, whose Old is the last row it saw,
// and past Config.MaxLag OpReset and the current rows; it never holds up the node.
func (t *Table[K, T]) Changes(ctx context.Context) iter.Seq2[Change[K, T], error] {
	return t.cache.Changes(ctx)
}

// Barrier waits until everything that was committed before the call is visible
// here: reads after it are linearizable. It costs one fetch, which concurrent
// callers share. While Postgres is away it waits until ctx ends.
func (n *Node) Barrier(ctx context.Context) error {
	if err := n.engine.Barrier(ctx); err != nil {
		return fmt.Errorf("lockstep: %w", err)
	}
	return nil
}

// WaitFor waits until the transaction of a token, from any node, is visible
// here. The zero token is visible everywhere. While the transaction is not
// committed, or Postgres is away, it waits until ctx ends. ErrHistory where
// the token belongs to another history.
func (n *Node) WaitFor(ctx context.Context, t Token) error {
	if t == (Token{}) {
		return nil
	}
	if err := n.engine.WaitFor(ctx, t); err != nil {
		return fmt.Errorf("lockstep: %w", err)
	}
	return nil
}

// Reload loads tables again, all of them if none is named. Readers are served
// meanwhile, and only rows that differ count as changed.
func (n *Node) Reload(ctx context.Context, tables ...AnyTable) error {
	var which []int
	for _, t := range tables {
		i, err := n.indexOf(t)
		if err != nil {
			return err
		}
		which = append(which, i)
	}
	if err := n.engine.Reload(ctx, which...); err != nil {
		return fmt.Errorf("lockstep: %w", err)
	}
	return nil
}

func (n *Node) indexOf(t AnyTable) (int, error) {
	for i, have := range n.tables {
		if have == t {
			return i, nil
		}
	}
	return 0, fmt.Errorf("lockstep: reload: table %s is not kept by this node", t.Name())
}
