package lockstep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/replay"
)

// Put inserts the row, or replaces the row of its key, and returns once the
// change is visible in this node, with the transaction's token. Generated
// columns are left out; columns that T does not have keep their value, or get
// their default. Where the table has a NOT NULL column without a default that
// T lacks, Put is refused: use Update. Where T has the key's columns only, a
// row that is there already is left alone, and the token is zero. A column that
// is GENERATED ALWAYS AS IDENTITY is left out like a generated one, unless it is
// part of the key: that one is inserted as the row has it (OVERRIDING SYSTEM VALUE).
//
// While this node cannot reach Postgres but the write can, Put waits until ctx
// ends. Errors are *WriteError; the row is sent once and never tried again.
func (t *Table[K, T]) Put(ctx context.Context, row T) (Token, error) {
	_, token, err := t.put(ctx, row)
	return token, err
}

// put is Put. It knows of documents whether there was no row of the key when the write began.
func (t *Table[K, T]) put(ctx context.Context, row T) (inserted bool, token Token, err error) {
	token, err = t.write(ctx, func(o *owner) (receipt, error) {
		if w := o.node.writer; w != nil {
			return faked(w.Put(ctx, o.index, row))
		}
		p, err := t.putSQL(row)
		if err != nil {
			return receipt{}, err
		}
		var known []any
		if t.doc {
			known = append(known, &inserted)
		}
		n, r, err := o.node.one(ctx, p.sql, p.args, known...)
		switch {
		case err != nil || n > 0:
			return r, err
		case p.keyOnly:
			return receipt{}, o.node.there(ctx)
		}
		return r, o.node.suppressed(ctx, r.token, ErrSuppressed)
	})
	return inserted && err == nil, token, err
}

// Delete deletes the row of a key and returns once it is gone from this node,
// with the transaction's token. ErrNoRow where there is none. Errors are
// *WriteError; it waits as Put does.
func (t *Table[K, T]) Delete(ctx context.Context, k K) (Token, error) {
	return t.write(ctx, func(o *owner) (receipt, error) {
		if w := o.node.writer; w != nil {
			return faked(w.Delete(ctx, o.index, k))
		}
		sql, args, err := t.deleteSQL(k)
		if err != nil {
			return receipt{}, err
		}
		n, r, err := o.node.one(ctx, sql, args)
		if err == nil && n == 0 {
			err = o.node.suppressed(ctx, r.token, ErrNoRow)
		}
		return r, err
	})
}

// Update reads the row of a key from Postgres and locks it, calls fn once with it, and
// writes what fn returns; fn's error ends it without a change. It returns once
// the change is visible in this node, with the transaction's token. ErrNoRow
// where there is no such row. Only columns that T has are written; a
// column that is GENERATED ALWAYS AS IDENTITY cannot be, unless it is of the key.
// Errors are *WriteError; it waits as Put does.
func (t *Table[K, T]) Update(ctx context.Context, k K, fn func(old T) (T, error)) (Token, error) {
	return t.write(ctx, func(o *owner) (receipt, error) {
		if w := o.node.writer; w != nil {
			return faked(w.Update(ctx, o.index, k, func(old any) (any, error) {
				v, ok := old.(T)
				if !ok {
					return nil, fmt.Errorf("lockstep: table %s: the row is a %T", t.name, old)
				}
				return fn(v)
			}))
		}
		return o.node.commit(ctx, func(tx pgx.Tx) error { return t.updateIn(ctx, tx, k, fn) })
	})
}

// Tx runs fn in a transaction of the pool's and commits it, then waits until
// it is visible in this node, and returns its token: the zero Token if it
// wrote nothing. fn runs once and leaves the end of the transaction to Tx; its
// error, or its panic, rolls back. Errors are *WriteError, with fn's error as
// the cause. Where a table of this node is not kept up to date the error is
// ErrNotVisible with ErrTable: whether fn wrote to it is not known.
func (n *Node) Tx(ctx context.Context, fn func(tx pgx.Tx) error) (Token, error) {
	switch {
	case n.closed.Load():
		return Token{}, notCommitted(ErrClosed)
	case n.pool == nil:
		return Token{}, notCommitted(fmt.Errorf("%w: this node has none", ErrUnavailable))
	}
	r, err := n.commit(ctx, fn)
	if err != nil {
		return Token{}, err
	}
	return r.token, n.visible(ctx, r, -1)
}

// receipt is what a write has got.
type receipt struct {
	token Token
	// since is a moment at which the write's connection was there: every fetch
	// that began later was answered by the same run of the server.
	since replay.Mark
}

// faked is the receipt of a write without Postgres.
func faked(token Token, err error) (receipt, error) { return receipt{token: token}, err }

// TokenOf returns the token of the caller's own transaction, before its
// commit: once the commit has succeeded, any node can WaitFor it. It draws a
// transaction id, and needs no rights.
func (n *Node) TokenOf(ctx context.Context, tx pgx.Tx) (Token, error) {
	var xid int64
	if err := tx.QueryRow(ctx, "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		return Token{}, fmt.Errorf("lockstep: read the token: %w", err)
	}
	return n.token(&xid), nil
}

func (n *Node) token(xid *int64) Token {
	if xid == nil {
		return Token{}
	}
	return Token{History: n.engine.History(), Xid: uint64(*xid)}
}

// write runs a write and waits until this node shows it.
func (t *Table[K, T]) write(ctx context.Context, fn func(*owner) (receipt, error)) (Token, error) {
	o, err := t.started()
	if err == nil && o.node.closed.Load() {
		err = ErrClosed
	}
	if err != nil {
		return Token{}, notCommitted(err)
	}
	r, err := fn(o)
	if err != nil {
		return Token{}, notCommitted(err)
	}
	return r.token, o.node.visible(ctx, r, o.index)
}

// visible waits for a commit that has succeeded. The problems of other tables
// than the written one do not count; -1: any may have been written.
func (n *Node) visible(ctx context.Context, r receipt, table int) error {
	if r.token == (Token{}) {
		return nil
	}
	err := n.engine.WaitForSince(ctx, r.token, r.since)
	if err == nil || table >= 0 && ctx.Err() == nil && errors.Is(err, ErrTable) && n.engine.Status().Tables[table].Problem == nil {
		return nil
	}
	return &WriteError{Outcome: ErrNotVisible, Token: r.token, Err: fmt.Errorf("lockstep: %w", err)}
}

// there waits until a row that is in Postgres already is visible here.
func (n *Node) there(ctx context.Context) error {
	if err := n.Barrier(ctx); err != nil && !errors.Is(err, ErrTable) {
		return &WriteError{Outcome: ErrNotVisible, Err: err}
	}
	return nil
}

// suppressed is the error of a statement that wrote no row. What triggers wrote
// in its place is committed, and the caller should see it.
func (n *Node) suppressed(ctx context.Context, token Token, why error) error {
	if token != (Token{}) {
		_ = n.WaitFor(ctx, token) // the error to come says more
	}
	return &WriteError{Outcome: ErrNotCommitted, Token: token, Err: why}
}

// counted makes a statement return the number of rows that it wrote and the
// transaction id, if it has drawn one.
func counted(statement string) string {
	return "with lockstep_wrote as (" + statement + " returning 1) select " + countedList + " from lockstep_wrote"
}

const countedList = "count(*), pg_catalog.pg_current_xact_id_if_assigned()::text::bigint"

// one runs a counted statement as a transaction of its own: one round trip.
// What it returns besides goes into more.
func (n *Node) one(ctx context.Context, sql string, args []any, more ...any) (rows int64, r receipt, err error) {
	conn, err := n.pool.Acquire(ctx)
	if err != nil {
		return 0, r, notBegun(ctx, err)
	}
	defer conn.Release()
	r.since = n.engine.Mark()
	var xid *int64
	if err := conn.QueryRow(ctx, sql, args...).Scan(append([]any{&rows, &xid}, more...)...); err != nil {
		return 0, r, sent(ctx, err, Token{}, conn.Conn().IsClosed())
	}
	r.token = n.token(xid)
	return rows, r, nil
}

// commit runs fn in a transaction and commits it. The token is read last, so
// that a transaction that wrote nothing draws no id.
func (n *Node) commit(ctx context.Context, fn func(pgx.Tx) error) (r receipt, err error) {
	conn, err := n.pool.Acquire(ctx)
	if err != nil {
		return r, notBegun(ctx, err)
	}
	defer conn.Release()
	r.since = n.engine.Mark()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return r, notBegun(ctx, err)
	}
	defer rollback(ctx, tx)
	if err := fn(openTx{tx}); err != nil {
		return r, notSent(ctx, err, conn.Conn().IsClosed())
	}
	if s := conn.Conn().PgConn().TxStatus(); s == 'I' {
		return r, &WriteError{Outcome: ErrOutcomeUnknown, Err: errors.New("the function has ended the transaction itself")}
	}
	var xid *int64
	if err := tx.QueryRow(ctx, "select pg_current_xact_id_if_assigned()::text::bigint").Scan(&xid); err != nil {
		return r, notSent(ctx, err, conn.Conn().IsClosed())
	}
	r.token = n.token(xid)
	if err := ctx.Err(); err != nil {
		return receipt{}, notSent(ctx, err, false)
	}
	if err := tx.Commit(ctx); err != nil {
		return r, sent(ctx, err, r.token, conn.Conn().IsClosed())
	}
	return r, nil
}

// rollback does nothing after a commit. It may come after ctx has ended, and
// a server that does not answer must not hold up whoever waits for the error.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = tx.Rollback(ctx) // where it fails the connection is closed, which rolls back as well
}

// openTx is a transaction whose end is not its user's. Were it, Tx could not
// say what became of it.
type openTx struct{ pgx.Tx }

func (openTx) Commit(context.Context) error {
	return errors.New("lockstep: Node.Tx commits when the function returns nil")
}

func (openTx) Rollback(context.Context) error {
	return errors.New("lockstep: Node.Tx rolls back when the function returns an error")
}
