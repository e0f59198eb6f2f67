//go:build unix

package robust

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pause"
)

func sortKeys(keys []rowKey) {
	slices.SortFunc(keys, func(a, b rowKey) int { return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.id, b.id)) })
}

// client works on registers through its node, one operation after another.
type client struct {
	*member
	id  int
	rng *rand.Rand
	n   int
}

// Registers change every few seconds: operations of unknown outcome stay open for ever, and a search through
// many of them would not end.
const (
	registerFor   = 8 * time.Second
	registersEach = 4
)

// register draws a register of the present.
func (c *client) register() int {
	epoch := int(time.Duration(now())/registerFor) % 100_000
	return 1000 + epoch*registersEach + c.rng.IntN(registersEach)
}

// deletable registers are those that may be deleted; what follows a write is not checked on them.
func deletable(key int) bool { return key%registersEach == 0 }

// callWithin bounds an operation.
const callWithin = 4 * time.Second

func (c *client) run(ctx context.Context) {
	for pause.For(ctx, time.Duration(5+c.rng.IntN(30))*time.Millisecond) {
		c.step(ctx)
	}
}

// step is one operation, unless clients are held.
func (c *client) step(ctx context.Context) {
	c.gate.RLock()
	defer c.gate.RUnlock()
	key := c.register()
	switch n := c.rng.IntN(10); {
	case n < 3:
		c.put(ctx, key)
	case n < 5:
		c.update(ctx, key)
	case n == 5 && deletable(key):
		c.remove(ctx, key)
	case n == 6:
		c.waited(ctx)
	default:
		c.barrier(ctx, key)
	}
}

// do records an operation before and after it.
func (c *client) do(ctx context.Context, op *Op, call func(context.Context) (outcome string, err error)) {
	c.n++
	op.Client, op.N, op.Call = c.id, c.n, now()
	before := *op
	c.rec.add(record{Op: &before})
	c.rec.flush() // if this process is killed now, the operation may have taken effect
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
	defer cancel()
	outcome, err := call(ctx)
	op.Outcome, op.Return = outcome, now()
	if err != nil {
		op.Err = err.Error()
	}
	c.rec.add(record{Op: op})
}

// stamp names this operation's write.
func (c *client) stamp() string { return fmt.Sprintf("%s.%d.%d", c.cfg.Name, c.id, c.n+1) }

// wrote sorts the error of a write.
func wrote(err error) (string, error) {
	switch {
	case err == nil:
		return OK, nil
	case errors.Is(err, lockstep.ErrNotVisible): // it is committed; that it cannot be seen yet was said
		return OK, err
	case errors.Is(err, lockstep.ErrNotCommitted):
		return Failed, err
	}
	return Unknown, err
}

func (c *client) put(ctx context.Context, key int) {
	row := Row{ID: key, V: c.rng.Int64N(1000), Stamp: c.stamp()}
	var token lockstep.Token
	op := &Op{Kind: OpPut, Key: key, New: row.Stamp}
	visible := false
	c.do(ctx, op, func(ctx context.Context) (string, error) {
		var err error
		token, err = c.tables["register"].Put(ctx, row)
		visible = err == nil
		return wrote(err)
	})
	c.after(ctx, op, token, visible)
}

func (c *client) update(ctx context.Context, key int) {
	op := &Op{Kind: OpUpdate, Key: key, New: c.stamp()}
	var token lockstep.Token
	visible := false
	c.do(ctx, op, func(ctx context.Context) (string, error) {
		var err error
		token, err = c.tables["register"].Update(ctx, key, func(r Row) (Row, error) {
			op.Old = r.Stamp
			r.Stamp, r.V = op.New, r.V+1
			return r, nil
		})
		visible = err == nil
		return wrote(err)
	})
	c.after(ctx, op, token, visible)
}

func (c *client) remove(ctx context.Context, key int) {
	op := &Op{Kind: OpDelete, Key: key}
	c.do(ctx, op, func(ctx context.Context) (string, error) {
		_, err := c.tables["register"].Delete(ctx, key)
		if errors.Is(err, lockstep.ErrNoRow) {
			op.New = "nothing"
			return OK, nil
		}
		return wrote(err)
	})
}

// after reads right after a write of its own, and hands the token on to the others.
func (c *client) after(ctx context.Context, op *Op, token lockstep.Token, visible bool) {
	if !visible || deletable(op.Key) {
		return
	}
	mine := &Op{Kind: OpMine, Key: op.Key, New: op.New}
	c.do(ctx, mine, func(context.Context) (string, error) {
		row, _ := c.tables["register"].Get(op.Key)
		mine.Old = row.Stamp
		return OK, nil
	})
	handing, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	// Where it fails nobody waits for this one.
	_, _ = c.pool.Exec(handing, "insert into handoff (token, id, stamp, node) values ($1, $2, $3, $4)", token.String(), op.Key, op.New, c.cfg.Name)
}

// waited takes another node's token, waits for it, and reads what it wrote.
func (c *client) waited(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	var text string
	op := &Op{Kind: OpWaited}
	err := c.pool.QueryRow(asking, "select token, id, stamp from handoff where node <> $1 order by n desc limit 1", c.cfg.Name).Scan(&text, &op.Key, &op.New)
	if err != nil {
		return // nobody has handed anything on, or the server is away
	}
	c.do(ctx, op, func(ctx context.Context) (string, error) {
		token, err := lockstep.ParseToken(text)
		if err == nil {
			err = c.node.WaitFor(ctx, token)
		}
		if err != nil {
			return Failed, err
		}
		row, _ := c.tables["register"].Get(op.Key)
		op.Old = row.Stamp
		return OK, nil
	})
}

// barrier reads a register linearizably.
func (c *client) barrier(ctx context.Context, key int) {
	op := &Op{Kind: OpRead, Key: key}
	c.do(ctx, op, func(ctx context.Context) (string, error) {
		if err := c.node.Barrier(ctx); err != nil {
			return Failed, err
		}
		row, _ := c.tables["register"].Get(key)
		op.New = row.Stamp
		return OK, nil
	})
}
