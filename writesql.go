package lockstep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/outbox"
)

// refused is an ErrRefused with its reason.
func (t *Table[K, T]) refused(format string, args ...any) error {
	return fmt.Errorf("%w: table %s: %s", ErrRefused, t.name, fmt.Sprintf(format, args...))
}

// written are the columns that a write may set, with the row's values: not
// those that Postgres computes, nor an identity column that is GENERATED ALWAYS,
// unless it is part of the key, which says which row is meant.
func (t *Table[K, T]) written(row T) (l *layout, columns []outbox.ColumnInfo, args []any, err error) {
	values := t.values()
	if values == nil {
		return nil, nil, nil, t.refused("it has no inverse mapping: give it WithEncode")
	}
	if l = t.layout.Load(); l == nil {
		return nil, nil, nil, fmt.Errorf("table %s: %w", t.name, ErrNotStarted)
	}
	all := values(row)
	if len(all) != len(l.mapped) {
		return nil, nil, nil, t.refused("the encode function gave %d values for %d columns", len(all), len(l.mapped))
	}
	for i, c := range l.mapped {
		if !c.Generated && (!c.Identity || c.KeyPlace > 0) {
			columns, args = append(columns, c), append(args, all[i])
		}
	}
	return l, columns, args, nil
}

func quote(c outbox.ColumnInfo) string { return pgx.Identifier{c.Name}.Sanitize() }

func quoteList(columns []outbox.ColumnInfo) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quote(c)
	}
	return strings.Join(names, ", ")
}

// put is the upsert of a row.
type put struct {
	sql     string
	args    []any
	keyOnly bool // there is nothing to replace: a row that is there is left alone
}

func (t *Table[K, T]) putSQL(row T) (put, error) {
	if doc, ok := any(row).(json.RawMessage); ok && t.doc {
		return t.putDocumentSQL(doc)
	}
	l, columns, args, err := t.written(row)
	if err != nil {
		return put{}, err
	}
	for _, c := range l.have {
		if c.Required && !slices.ContainsFunc(columns, func(w outbox.ColumnInfo) bool { return w.Name == c.Name }) {
			return put{}, t.refused("column %s is NOT NULL without a default and the row type lacks it: use Update", c.Name)
		}
	}
	holes := make([]string, len(columns))
	for i := range columns {
		holes[i] = "$" + strconv.Itoa(i+1)
	}
	instead, keyOnly := onConflict(l, columns)
	sql := counted("insert into " + t.name + " (" + quoteList(columns) + ") overriding system value values (" + strings.Join(holes, ", ") + ")" + instead)
	return put{sql: sql, args: args, keyOnly: keyOnly}, nil
}

// onConflict replaces what is there by these columns. With the key's alone
// there is nothing to replace.
func onConflict(l *layout, columns []outbox.ColumnInfo) (sql string, keyOnly bool) {
	var sets []string
	for _, c := range columns {
		if c.KeyPlace == 0 {
			sets = append(sets, quote(c)+" = excluded."+quote(c))
		}
	}
	instead := "nothing"
	if len(sets) > 0 {
		instead = "update set " + strings.Join(sets, ", ")
	}
	return " on conflict (" + quoteList(l.key) + ") do " + instead, len(sets) == 0
}

// deleteSQL is the deletion of one key's row, and its arguments.
func (t *Table[K, T]) deleteSQL(k K) (string, []any, error) {
	if key, ok := any(k).(string); ok && t.doc {
		return t.deleteDocumentSQL(key)
	}
	where, args, err := t.whereKey(k)
	return counted("delete from " + t.name + " where " + where), args, err
}

// whereKey is the condition for one key, and its arguments.
func (t *Table[K, T]) whereKey(k K) (string, []any, error) {
	l := t.layout.Load()
	if l == nil {
		return "", nil, fmt.Errorf("table %s: %w", t.name, ErrNotStarted)
	}
	args, err := t.keyValues(k, l.key)
	if err != nil {
		return "", nil, err
	}
	parts := make([]string, len(l.key))
	for i, c := range l.key {
		parts[i] = quote(c) + " = $" + strconv.Itoa(i+1)
	}
	return strings.Join(parts, " and "), args, nil
}

// keyValues are the values of the key's columns. The fields of a key that is a
// struct are found by name: in another order than the primary key's they would
// name another row.
func (t *Table[K, T]) keyValues(k K, columns []outbox.ColumnInfo) ([]any, error) {
	n, v := len(columns), reflect.ValueOf(k)
	args := []any{k}
	switch {
	case t.keyArgs != nil:
		args = t.keyArgs(k)
	case n == 1:
	case t.keys != nil:
		names := make([]string, n)
		for i, c := range columns {
			names[i] = c.Name
		}
		fields, err := t.keys.Resolve(names)
		if err != nil {
			return nil, t.refused("the key's fields are not the columns of its primary key: use WithKeyArgs: %v", err)
		}
		values := t.keys.Values(&k)
		args = args[:0]
		for _, name := range names {
			if i := slices.Index(fields, name); i >= 0 {
				args = append(args, values[i])
			}
		}
	case v.Kind() == reflect.Array && v.Len() == n:
		args = args[:0]
		for i := range n {
			args = append(args, v.Index(i).Interface())
		}
	}
	if len(args) != n {
		return nil, t.refused("its primary key has %d columns and the key gives %d values: use WithKeyArgs", n, len(args))
	}
	return args, nil
}

// updateIn is Update inside its transaction.
func (t *Table[K, T]) updateIn(ctx context.Context, tx pgx.Tx, k K, fn func(T) (T, error)) error {
	if t.doc {
		return t.refused("documents are not updated: use Put")
	}
	where, args, err := t.whereKey(k)
	if err != nil {
		return err
	}
	l := t.layout.Load()
	rows, err := tx.Query(ctx, "select "+quoteList(l.mapped)+" from "+t.name+" where "+where+" for no key update", args...)
	if err != nil {
		return fmt.Errorf("read the row: %w", err)
	}
	old, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (v T, err error) {
		err = t.scan(row, &v)
		return v, err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNoRow
	case err != nil:
		return fmt.Errorf("read the row: %w", err)
	}
	row, err := fn(old)
	if err != nil {
		return err
	}
	_, columns, values, err := t.written(row)
	if err != nil {
		return err
	}
	var sets []string
	for i, c := range columns {
		// An identity column may not be set, even to what it is.
		if c.KeyPlace > 0 && t.key(row) == t.key(old) {
			continue
		}
		args = append(args, values[i])
		sets = append(sets, quote(c)+" = $"+strconv.Itoa(len(args)))
	}
	if len(sets) == 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, "update "+t.name+" set "+strings.Join(sets, ", ")+" where "+where, args...)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrSuppressed
	}
	return err
}

// scan reads a row into a zero T.
func (t *Table[K, T]) scan(row pgx.CollectableRow, into *T) (err error) {
	if t.row == nil {
		return t.mapping.Scan(row, into)
	}
	*into, err = t.row(row)
	return err
}
