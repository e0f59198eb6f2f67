package lockstep

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/bridge"
	"github.com/pglockstep/lockstep/internal/checkpoint"
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
	source replay.Source
	tables []AnyTable
	closed atomic.Bool
	types  *pgtype.Map // what the pool's connections know, for the audit, which copies it
	audit  auditAccount

	stop     context.CancelFunc // ends the writing of the register
	attended chan struct{}      // closed when that has ended; nil where it was never begun
}

// Start loads the tables and follows them. It returns when the first load is
// complete, or with every mistake of every declaration in one error. ctx
// bounds Start only; Close ends the node. After an error the tables may be
// given to Start again; a table that another node keeps is a mistake.
//
// The node opens at most two connections of its own, three with Config.Audit, as the pool would open
// them; writes, and a short one for the register of nodes every few seconds (with a Source whoever feeds it writes that), go through the pool.
func Start(ctx context.Context, pool *pgxpool.Pool, cfg Config, tables ...AnyTable) (*Node, error) {
	n := &Node{cfg: cfg.withDefaults(), pool: pool, tables: tables}
	good, mistakes := n.claim()
	if cfg.Checkpoint != "" && cfg.Name == "" {
		mistakes = errors.Join(mistakes, errors.New("lockstep: Config.Checkpoint without Config.Name: the default name is another one for each process, and no checkpoint would be found again"))
	}
	err := n.startOn(ctx, good, mistakes)
	if err != nil {
		n.release(good)
		return nil, err
	}
	n.attend()
	return n, nil
}

// startOn starts the node on Postgres. What Postgres knows of the declarations
// joins the mistakes found before.
func (n *Node) startOn(ctx context.Context, good []AnyTable, mistakes error) error {
	if n.pool == nil {
		return errors.Join(mistakes, errors.New("lockstep: Start without a pool"))
	}
	if n.cfg.Audit < 0 {
		mistakes = errors.Join(mistakes, fmt.Errorf("lockstep: Config.Audit is %d, which is negative", n.cfg.Audit))
	}
	types, twice, err := askPool(ctx, n.pool, good)
	if mistakes = errors.Join(mistakes, twice); err != nil {
		return errors.Join(mistakes, err)
	}
	src, err := outbox.NewSource(n.sourceConfig(good))
	if err != nil {
		return errors.Join(mistakes, fmt.Errorf("lockstep: %w", err))
	}
	if mistakes != nil {
		return errors.Join(mistakes, probe(ctx, src, good))
	}
	n.types = types.Copy()
	from := replay.Direct(src)
	if n.cfg.Source != nil {
		if from, err = n.cfg.Source.Over(src, n.cfg.Logger); err != nil {
			return fmt.Errorf("lockstep: %w", err)
		}
	}
	return n.start(ctx, from, types)
}

func (n *Node) sourceConfig(tables []AnyTable) outbox.Config {
	specs := make([]outbox.TableSpec, len(tables))
	for i, t := range tables {
		specs[i] = t.spec()
	}
	return outbox.Config{
		Schema: n.cfg.Schema, Node: n.cfg.Name, Pool: n.pool, Tables: specs, Bell: n.cfg.Bell, WAL: n.cfg.WAL, Check: check(n.cfg.Schema), Logger: n.cfg.Logger,
	}
}

func init() {
	bridge.Start = func(ctx context.Context, src replay.Source, w bridge.Writer, config any, tables []any) (any, error) {
		cfg, ok := config.(Config)
		if !ok {
			return nil, fmt.Errorf("lockstep: the configuration is a %T", config)
		}
		n := &Node{cfg: cfg.withDefaults(), writer: w, tables: make([]AnyTable, len(tables))}
		for i, t := range tables {
			n.tables[i], _ = t.(AnyTable) // what is none is found to be nil
		}
		good, err := n.claim()
		if err == nil {
			err = n.start(ctx, src, pgtype.NewMap())
		}
		if err != nil {
			n.release(good)
			return nil, err
		}
		return n, nil
	}
	bridge.Key = func(table, row any) any {
		t, _ := table.(AnyTable)
		return t.keyOf(row)
	}
}

// start puts the parts together and waits for the first load.
func (n *Node) start(ctx context.Context, src replay.Source, types *pgtype.Map) error {
	caches := make([]cache.AnyTable, len(n.tables))
	bindings := make([]replay.Table, len(n.tables))
	eq := &comparer{types: types}
	for i, t := range n.tables {
		caches[i], bindings[i] = t.cached(), t.bind(eq, n.cfg.Checkpoint != "" && n.writer == nil)
	}
	store, err := cache.NewStore(cache.Options{
		MaxLag: n.cfg.MaxLag, CoalesceAfter: n.cfg.CoalesceAfter, DetectMutation: n.cfg.DetectMutation,
	}, caches...)
	if err != nil {
		return fmt.Errorf("lockstep: %w", err)
	}
	n.store = store
	rc := replay.Config{Beat: n.cfg.Beat, MaxStale: n.cfg.MaxStale, MaxBytes: n.cfg.MaxBytes, MaxLoads: max(0, n.cfg.MaxLoads), Logger: n.cfg.Logger, OnCut: n.cfg.OnCut}
	if n.writer != nil { // nobody is spared by waiting for a fake
		rc.BackoffMin, rc.BackoffMax = time.Millisecond, time.Millisecond
	}
	if n.cfg.Checkpoint != "" && n.writer == nil { // locksteptest's rows have no columns
		rc.Checkpoints, rc.CheckpointEvery = checkpoints{checkpoint.New(n.cfg.Checkpoint, n.cfg.Name)}, n.cfg.CheckpointEvery
	}
	n.source = src
	if n.engine, err = replay.New(store, src, bindings, rc); err != nil {
		return fmt.Errorf("lockstep: %w", err)
	}
	if err := n.engine.Start(ctx); err != nil {
		store.Close()
		return fmt.Errorf("lockstep: start: %w", err)
	}
	for i, t := range n.tables {
		t.attach(n, i)
	}
	return nil
}

// Close stops the node and waits until everything that it runs has ended, or
// until ctx ends; closing again waits again. Reads go on from what it had;
// subscribers and whoever waits get ErrClosed, and so do writes.
func (n *Node) Close(ctx context.Context) error {
	n.closed.Store(true)
	if n.stop != nil {
		n.stop()
	}
	err := n.engine.Close(ctx)
	n.store.Close()
	if n.attended == nil {
		return err
	}
	select {
	case <-n.attended:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("lockstep: close: %w", context.Cause(ctx)))
	}
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
func (n *Node) Changes(ctx context.Context) iter.Seq2[Tx, error] {
	return ownErrors(n.store.Changes(ctx))
}

// Changes yields the current rows (OpCurrent), OpLive, and then every change
// as it happens. It ends with ctx's error, ErrClosed, or ErrNotStarted. A subscriber
// that falls behind gets one coalesced change per key, whose Old is the last row it saw,
// and past Config.MaxLag OpReset and the current rows; it never holds up the node.
func (t *Table[K, T]) Changes(ctx context.Context) iter.Seq2[Change[K, T], error] {
	return func(yield func(Change[K, T], error) bool) {
		ownErrors(t.cache.Load().Changes(ctx))(yield)
	}
}

// ownErrors gives the errors that end a subscription this package's names.
func ownErrors[C any](changes iter.Seq2[C, error]) iter.Seq2[C, error] {
	return func(yield func(C, error) bool) {
		for c, err := range changes {
			switch {
			case errors.Is(err, cache.ErrClosed):
				err = ErrClosed
			case errors.Is(err, cache.ErrDetached):
				err = ErrNotStarted
			}
			if !yield(c, err) {
				return
			}
		}
	}
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
// here. It costs one fetch, which concurrent callers share; the zero token is visible
// everywhere and costs none. While the transaction is not
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
	if t == nil {
		return 0, errors.New("lockstep: reload: a table is nil")
	}
	return 0, fmt.Errorf("lockstep: reload: table %s is not kept by this node", t.Name())
}
