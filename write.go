package lockstep

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Put inserts the row, or replaces the row of its key, and returns once the
// change is visible in this node, with the transaction's token. Generated
// columns are left out; columns that T does not have keep their value, or get
// their default. Where the table has a NOT NULL column without a default that
// T lacks, Put is refused: use Update.
//
// Errors are *WriteError; the row is sent once and never tried again.
func (t *Table[K, T]) Put(ctx context.Context, row T) (Token, error) {
	return t.write(ctx, func(ctx context.Context, o *owner) (Token, error) {
		if w := o.node.writer; w != nil {
			return w.Put(ctx, o.index, row)
		}
		sql, args, err := t.putSQL(row)
		if err != nil {
			return Token{}, err
		}
		return o.node.one(ctx, sql, args)
	})
}

// Delete deletes the row of a key and returns once it is gone from this node,
// with the transaction's token. ErrNoRow where there is none.
func (t *Table[K, T]) Delete(ctx context.Context, k K) (Token, error) {
	return t.write(ctx, func(ctx context.Context, o *owner) (Token, error) {
		if w := o.node.writer; w != nil {
			return w.Delete(ctx, o.index, k)
		}
		where, args, err := t.whereKey(k)
		if err != nil {
			return Token{}, err
		}
		return o.node.one(ctx, "delete from "+t.name+" where "+where+returning, args)
	})
}

// Update reads the row of a key from Postgres and locks it, calls fn once with it, and
// writes what fn returns; fn's error ends it without a change. It returns once
// the change is visible in this node, with the transaction's token. ErrNoRow
// where there is no such row. Only columns that T has are written.
func (t *Table[K, T]) Update(ctx context.Context, k K, fn func(old T) (T, error)) (Token, error) {
	return t.write(ctx, func(ctx context.Context, o *owner) (Token, error) {
		if w := o.node.writer; w != nil {
			return w.Update(ctx, o.index, k, func(old any) (any, error) {
				v, ok := old.(T)
				if !ok {
					return nil, fmt.Errorf("lockstep: table %s: the row is a %T", t.name, old)
				}
				return fn(v)
			})
		}
		return o.node.commit(ctx, func(tx pgx.Tx) error { return t.updateIn(ctx, tx, k, fn) })
	})
}

// Tx runs fn in a transaction of the pool's and commits it, then waits until
// it is visible in this node, and returns its token: the zero Token if it
// wrote nothing. fn runs once; its error rolls back and is the cause of the *WriteError.
func (n *Node) Tx(ctx context.Context, fn func(tx pgx.Tx) error) (Token, error) {
	if n.pool == nil {
		return Token{}, &WriteError{Outcome: ErrNotCommitted, Err: fmt.Errorf("%w: this node has no Postgres", ErrUnavailable)}
	}
	token, err := n.commit(ctx, fn)
	if err != nil {
		return token, err
	}
	return token, n.visible(ctx, token)
}

// TokenOf returns the token of the caller's own transaction, before its
// commit: once the commit has succeeded, any node can WaitFor it. It draws a
// transaction id, and needs no rights.
func (n *Node) TokenOf(ctx context.Context, tx pgx.Tx) (Token, error) {
	var xid int64
	if err := tx.QueryRow(ctx, "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		return Token{}, fmt.Errorf("lockstep: read the token: %w", err)
	}
	return Token{History: n.engine.Status().History, Xid: uint64(xid)}, nil
}

// write runs a write and waits until this node shows it.
func (t *Table[K, T]) write(ctx context.Context, fn func(context.Context, *owner) (Token, error)) (Token, error) {
	o, err := t.started()
	if err != nil {
		return Token{}, &WriteError{Outcome: ErrNotCommitted, Err: err}
	}
	token, err := fn(ctx, o)
	if err != nil {
		if errors.Is(err, ErrRefused) {
			err = &WriteError{Outcome: ErrNotCommitted, Err: err}
		}
		return token, err
	}
	return token, o.node.visible(ctx, token)
}

// visible waits for a commit that has succeeded.
func (n *Node) visible(ctx context.Context, token Token) error {
	if err := n.WaitFor(ctx, token); err != nil {
		return &WriteError{Outcome: ErrNotVisible, Token: token, Err: err}
	}
	return nil
}

// returning gives the transaction id of a statement that is its own transaction.
const returning = " returning pg_current_xact_id()::text::bigint"

// one runs a statement that is a transaction of its own: one round trip.
func (n *Node) one(ctx context.Context, sql string, args []any) (Token, error) {
	conn, err := n.pool.Acquire(ctx)
	if err != nil {
		return Token{}, notBegun(err)
	}
	defer conn.Release()
	var xid int64
	err = conn.QueryRow(ctx, sql, args...).Scan(&xid)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Token{}, &WriteError{Outcome: ErrNotCommitted, Err: ErrNoRow}
	case err != nil:
		return Token{}, writeFailed(err, Token{})
	}
	return Token{History: n.engine.Status().History, Xid: uint64(xid)}, nil
}

// commit runs fn in a transaction and commits it. The token is read last, so
// that a transaction that wrote nothing draws no id.
func (n *Node) commit(ctx context.Context, fn func(pgx.Tx) error) (token Token, err error) {
	tx, err := n.pool.Begin(ctx)
	if err != nil {
		return token, notBegun(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // does nothing after a commit
	if err := fn(tx); err != nil {
		return token, &WriteError{Outcome: ErrNotCommitted, Err: cause(err)}
	}
	var xid *int64
	if err := tx.QueryRow(ctx, "select pg_current_xact_id_if_assigned()::text::bigint").Scan(&xid); err != nil {
		return token, &WriteError{Outcome: ErrNotCommitted, Err: err}
	}
	if xid != nil {
		token = Token{History: n.engine.Status().History, Xid: uint64(*xid)}
	}
	if err := tx.Commit(ctx); err != nil {
		return Token{}, writeFailed(err, token)
	}
	return token, nil
}

// cause sorts an error from inside a transaction that was not committed.
func cause(err error) error {
	var sorted *WriteError
	if errors.As(writeFailed(err, Token{}), &sorted) && errors.Is(sorted.Err, ErrReadOnly) {
		return sorted.Err
	}
	return err
}
