package locksteptest

import (
	"context"
	"errors"
	"fmt"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/bridge"
	"github.com/pglockstep/lockstep/outbox"
)

var errCutOff = errors.New("locksteptest: the node is cut off")

// writer takes the node's own writes.
type writer struct{ db *DB }

// Put implements bridge.Writer.
func (w writer) Put(ctx context.Context, table int, row any) (outbox.Token, error) {
	return w.write(ctx, op{table, outbox.Update, bridge.Key(w.db.tables[table], row), row})
}

// Delete implements bridge.Writer.
func (w writer) Delete(ctx context.Context, table int, key any) (outbox.Token, error) {
	return w.write(ctx, op{table, outbox.Delete, key, nil})
}

// Update implements bridge.Writer. It holds the row's lock while fn runs, and
// nothing else.
func (w writer) Update(ctx context.Context, table int, key any, fn func(any) (any, error)) (token outbox.Token, err error) {
	db := w.db
	old, unlock, err := w.lock(ctx, table, key)
	if err != nil {
		return token, err
	}
	defer unlock() // also when fn panics
	row, err := fn(old)
	if err != nil {
		return token, err
	}
	ops := []op{{table, outbox.Update, bridge.Key(db.tables[table], row), row}}
	if ops[0].key == key {
		db.mu.Lock()
	} else {
		ops = append([]op{{table, outbox.Delete, key, nil}}, ops...)
		if err := db.wait(ctx, ops[1:]); err != nil {
			return token, err
		}
	}
	defer db.mu.Unlock()
	if err := db.refused(); err != nil {
		return token, err
	}
	return db.apply(ops, false), nil
}

// lock takes the lock of a row that is there.
func (w writer) lock(ctx context.Context, table int, key any) (old any, unlock func(), err error) {
	db, row := w.db, lock{table, key}
	if err := w.begin(ctx, op{table: table, key: key}); err != nil { // holds mu afterwards
		return nil, nil, err
	}
	defer db.mu.Unlock()
	old, there := db.rows[table][key]
	if !there {
		return nil, nil, lockstep.ErrNoRow
	}
	held := make(chan struct{})
	db.locks[row] = held
	return old, func() {
		db.mu.Lock()
		defer db.mu.Unlock()
		delete(db.locks, row)
		close(held)
	}, nil
}

// write is a transaction of one operation.
func (w writer) write(ctx context.Context, o op) (outbox.Token, error) {
	if err := w.begin(ctx, o); err != nil { // holds mu afterwards
		return outbox.Token{}, err
	}
	defer w.db.mu.Unlock()
	if _, there := w.db.rows[o.table][o.key]; o.kind == outbox.Delete && !there {
		return outbox.Token{}, lockstep.ErrNoRow
	}
	return w.db.apply([]op{o}, false), nil
}

// begin returns, holding mu, when the row is free and writes are possible.
func (w writer) begin(ctx context.Context, o op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.db.wait(ctx, []op{o}); err != nil {
		return err
	}
	err := w.db.refused()
	if err != nil {
		w.db.mu.Unlock()
	}
	return err
}

// refused says why no write is possible. Caller holds mu.
func (db *DB) refused() error {
	if db.away && db.mute {
		return fmt.Errorf("%w: %w", lockstep.ErrUnavailable, errCutOff)
	}
	return db.refusal
}
