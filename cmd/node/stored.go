package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/cmd/node/internal/stored"
	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
	"github.com/pglockstep/lockstep/triggers"
)

// checkpointed is a checkpoint that a command works on, in the place of its node.
type checkpointed struct {
	place  *checkpoint.Store
	name   string
	info   replay.CheckpointInfo
	tables []*stored.Table
	left   map[string]string // tables that it has, or had, and that are not worked on, and why
}

// openCheckpoint reads what the checkpoint in a directory is; node names it where there are several.
func openCheckpoint(dir, node string) (*checkpointed, error) {
	names, err := checkpoint.Names(dir)
	switch {
	case err != nil:
		return nil, err //nolint:wrapcheck // names the file
	case len(names) == 0:
		return nil, fmt.Errorf("there is no checkpoint in %s", dir)
	case node == "" && len(names) > 1:
		return nil, fmt.Errorf("%s has checkpoints of %s: say by --node which", dir, strings.Join(names, ", "))
	case node == "":
		node = names[0]
	case !slices.Contains(names, node):
		return nil, fmt.Errorf("%s has no checkpoint of %s, only of %s", dir, node, strings.Join(names, ", "))
	}
	c := &checkpointed{place: checkpoint.New(dir, node), name: node}
	if err := c.describe(); err != nil {
		_ = c.place.Close() // only its lock was taken
		if errors.Is(err, checkpoint.ErrHeld) {
			err = fmt.Errorf("node %s is running and keeps this checkpoint itself: stop it first, or ask it (lockstep status, lockstep verify --url)", node)
		}
		return nil, err
	}
	return c, nil
}

func (c *checkpointed) describe() error {
	r, err := c.place.Open()
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no checkpoint of %s", c.name)
	}
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	defer func() { _ = r.Close() }() // it was only read
	if c.info, err = replay.DescribeCheckpoint(r.Head()); err != nil {
		return fmt.Errorf("%s: %w", c.place.Path(), err)
	}
	c.left = maps.Clone(c.info.Without)
	if c.left == nil {
		c.left = map[string]string{}
	}
	for _, t := range c.info.Tables {
		table, err := stored.New(t.Name, t.Shape)
		if err != nil {
			c.left[t.Name] = err.Error()
			continue
		}
		c.tables = append(c.tables, table)
	}
	return nil
}

// place of checkpoints as replay wants it.
type keptPlace struct {
	*checkpoint.Store
	readOnly bool
}

var errReadOnly = errors.New("nothing is to be written")

func (p keptPlace) Open() (replay.CheckpointReader, error) {
	r, err := p.Store.Open()
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file
	}
	return r, nil
}

func (p keptPlace) Create(head []byte) (replay.CheckpointWriter, error) {
	if p.readOnly {
		return nil, errReadOnly
	}
	w, err := p.Store.Create(head)
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file
	}
	return w, nil
}

// Remove leaves the file as it is: whether it is of use is for its node to say.
func (p keptPlace) Remove() error { return nil }

// caughtUp is a checkpoint in memory, at the position that the database had reached.
type caughtUp struct {
	c      *checkpointed
	engine *replay.Engine
	store  *cache.Store
	src    *outbox.Source // another one, for reading beside it
	pool   *pgxpool.Pool
}

// catchUp brings the checkpoint to where the database is, in memory. Close writes it, unless that is not wanted.
// Tables that no longer fit what the checkpoint has of them are left out.
func (c *checkpointed) catchUp(ctx context.Context, from *pgxpool.Pool, schema string, opts catchUpOptions) (*caughtUp, error) {
	for {
		if len(c.tables) == 0 {
			return nil, fmt.Errorf("none of the checkpoint's tables can be worked on: %s", c.leftOut())
		}
		up, err := c.once(ctx, from, schema, opts)
		if err == nil {
			return up, nil
		}
		before := len(c.tables)
		c.tables = slices.DeleteFunc(c.tables, func(t *stored.Table) bool {
			if t.Unfit() != nil {
				c.left[t.Name] = t.Unfit().Error()
			}
			return t.Unfit() != nil
		})
		if len(c.tables) == before {
			return nil, err
		}
		for _, t := range c.tables {
			t.Renew()
		}
	}
}

type catchUpOptions struct {
	readOnly bool
	load     bool                                // the tables, where the checkpoint is worthless
	wrap     func(replay.Session) replay.Session // sees what comes; nil: nobody does
}

func (c *checkpointed) once(ctx context.Context, from *pgxpool.Pool, schema string, opts catchUpOptions) (up *caughtUp, err error) {
	cfg := from.Config()
	after := cfg.AfterConnect
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		stored.Register(conn.TypeMap(), c.tables)
		if after != nil {
			return after(ctx, conn)
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the connection string cannot be used: %w", err)
	}
	up = &caughtUp{c: c, pool: pool}
	defer func() {
		if err != nil {
			up.close()
		}
	}()
	caches, bindings, specs := make([]cache.AnyTable, len(c.tables)), make([]replay.Table, len(c.tables)), make([]outbox.TableSpec, len(c.tables))
	for i, t := range c.tables {
		caches[i], bindings[i], specs[i] = t.Cache, t.Binding(), t.Spec()
	}
	check := func(ctx context.Context, q outbox.Querier, table string) error {
		return triggers.Check(ctx, q, triggers.Options{Schema: schema}, table)
	}
	sc := outbox.Config{Schema: schema, Node: c.name, Pool: pool, Tables: specs, Bell: outbox.BellPoll, Check: check}
	src, err := outbox.NewSource(sc)
	if err != nil {
		return up, err //nolint:wrapcheck // said as it is
	}
	if up.src, err = outbox.NewSource(sc); err != nil {
		return up, err //nolint:wrapcheck // said as it is
	}
	if up.store, err = cache.NewStore(cache.Options{}, caches...); err != nil {
		return up, err //nolint:wrapcheck // said as it is
	}
	up.engine, err = replay.New(up.store, wrapped{replay.Direct(src), opts.wrap}, bindings, replay.Config{
		Checkpoints: keptPlace{c.place, opts.readOnly}, CheckpointEvery: -1, WarmOnly: !opts.load, FetchTimeout: time.Minute,
	})
	if err != nil {
		return up, err //nolint:wrapcheck // said as it is
	}
	return up, up.engine.Start(ctx) //nolint:wrapcheck // said as it is
}

// wrapped is a source whose sessions are looked at.
type wrapped struct {
	replay.Source
	wrap func(replay.Session) replay.Session // nil: nobody looks
}

func (w wrapped) Open(ctx context.Context) (replay.Session, error) {
	session, err := w.Source.Open(ctx)
	if err != nil || w.wrap == nil {
		return session, err //nolint:wrapcheck // named there
	}
	return w.wrap(session), nil
}

// write ends it and leaves the checkpoint, as it is now, in the place of the one before.
func (up *caughtUp) write() error {
	defer up.close()
	if err := up.engine.Close(context.Background()); err != nil {
		return err //nolint:wrapcheck // said as it is
	}
	s := up.engine.Status().Checkpoint
	switch {
	case s.LastError != nil:
		return fmt.Errorf("the checkpoint could not be written, and is as it was: %w", s.LastError)
	case s.Written.IsZero():
		return errors.New("the checkpoint was not written, and is as it was")
	}
	return nil
}

// close ends it and writes nothing that was not to be written.
func (up *caughtUp) close() {
	if up.engine != nil {
		_ = up.engine.Close(context.Background()) // without an end of its context there is no error
	}
	if up.store != nil {
		up.store.Close()
	}
	up.pool.Close()
}

// leftOut says which tables are not worked on, and why.
func (c *checkpointed) leftOut() string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(c.left)) {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString("table " + name + ": " + c.left[name])
	}
	return b.String()
}
