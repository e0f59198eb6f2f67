package locksteptest

import (
	"context"
	"errors"
	"slices"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/bridge"
	"github.com/pglockstep/lockstep/outbox"
)

// Option changes what Commit or Disconnect does.
type Option int

const (
	// NoWait makes Commit return before the node shows the change.
	NoWait Option = iota + 1
	// NoEvents makes Commit change the tables without a word in the log, as
	// ALTER TABLE ... USING does: only a reload shows it.
	NoEvents
	// KeepWrites makes Disconnect leave the node's writes alone: they are
	// committed and, when their context ends, ErrNotVisible.
	KeepWrites
)

// seeded is a table with the rows that it has at the beginning.
type seeded struct {
	lockstep.AnyTable
	keyed func() map[any]any
}

// With gives a table the rows that it has when the node starts.
func With[K comparable, T any](t *lockstep.Table[K, T], rows ...T) lockstep.AnyTable {
	return seeded{t, func() map[any]any {
		keyed := make(map[any]any, len(rows))
		for _, r := range rows {
			keyed[bridge.Key(t, r)] = r
		}
		return keyed
	}}
}

// Tx is a transaction while it is written. It belongs to one goroutine.
type Tx struct {
	db  *DB
	ops []op
}

// op is one write.
type op struct {
	table int
	kind  outbox.Op // Update for an insert too
	key   any
	row   any
}

// Put inserts the row, or replaces that of its key.
func Put[K comparable, T any](tx *Tx, t *lockstep.Table[K, T], rows ...T) {
	i := tx.db.indexOf(t)
	for _, r := range rows {
		tx.ops = append(tx.ops, op{i, outbox.Update, bridge.Key(t, r), r})
	}
}

// Delete deletes the rows of these keys; a key without a row is nothing to do.
func Delete[K comparable, T any](tx *Tx, t *lockstep.Table[K, T], keys ...K) {
	i := tx.db.indexOf(t)
	for _, k := range keys {
		tx.ops = append(tx.ops, op{i, outbox.Delete, k, nil})
	}
}

// Truncate empties tables.
func Truncate(tx *Tx, tables ...lockstep.AnyTable) {
	for _, t := range tables {
		tx.ops = append(tx.ops, op{table: tx.db.indexOf(t), kind: outbox.Truncate})
	}
}

// Commit commits what fn writes as one transaction, of somebody else than the
// node, and returns its token once the node shows it; at once with
// NoWait, or where the node is cut off or closed. A fn that writes nothing gives the zero token.
func (db *DB) Commit(fn func(tx *Tx), opts ...Option) lockstep.Token {
	tx := &Tx{db: db}
	fn(tx)
	if err := db.wait(context.Background(), tx.ops); err != nil { // holds mu afterwards
		db.failed("locksteptest: %v", err)
	}
	token := db.apply(tx.ops, slices.Contains(opts, NoEvents))
	db.mu.Unlock()
	if slices.Contains(opts, NoWait) || token == (lockstep.Token{}) || db.cutOff() {
		return token
	}
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	err := db.node.WaitFor(ctx, token)
	if err != nil && !errors.Is(err, lockstep.ErrClosed) && !db.cutOff() {
		db.failed("%v", err)
	}
	return token
}

// wait returns, holding mu, once no Update holds a row of the ops. On an error
// mu is not held.
func (db *DB) wait(ctx context.Context, ops []op) error {
	db.mu.Lock()
	for {
		held := db.holder(ops)
		if held == nil {
			return nil
		}
		db.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
		db.mu.Lock()
	}
}

func (db *DB) holder(ops []op) chan struct{} {
	for _, o := range ops {
		if held, ok := db.locks[lock{o.table, o.key}]; ok {
			return held
		}
		for l, held := range db.locks {
			if o.kind == outbox.Truncate && l.table == o.table {
				return held
			}
		}
	}
	return nil
}

// apply commits a transaction. Caller holds mu.
func (db *DB) apply(ops []op, silent bool) lockstep.Token {
	if len(ops) == 0 {
		return lockstep.Token{}
	}
	xid, lead := db.next, true
	db.next++
	for _, o := range ops {
		rows := db.rows[o.table]
		old, there := rows[o.key]
		switch o.kind {
		case outbox.Truncate:
			clear(rows)
		case outbox.Delete:
			if !there {
				continue
			}
			delete(rows, o.key)
			o.row = old
		default:
			if !there {
				o.kind = outbox.Insert
			}
			rows[o.key] = o.row
		}
		if !silent {
			db.append(event{outbox.Event{Xid: xid, Table: db.tables[o.table].Name(), Op: o.kind, Lead: lead}, o.row})
			lead = false
		}
	}
	db.ring()
	return lockstep.Token{History: db.history, Xid: xid}
}
