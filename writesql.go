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
func (d *definition) refused(format string, args ...any) error {
	return fmt.Errorf("%w: table %s: %s", ErrRefused, d.name, fmt.Sprintf(format, args...))
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
	columns, args, err = t.settable(l, values(row))
	return l, columns, args, err
}

func (d *definition) settable(l *layout, values []any) (columns []outbox.ColumnInfo, args []any, err error) {
	if len(values) != len(l.mapped) {
		return nil, nil, d.refused("the encode function gave %d values for %d columns", len(values), len(l.mapped))
	}
	for i, c := range l.mapped {
		if !c.Generated && (!c.Identity || c.KeyPlace > 0) {
			columns, args = append(columns, c), append(args, values[i])
		}
	}
	return columns, args, nil
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
	return t.putColumnsSQL(l, columns, args)
}

func (d *definition) putColumnsSQL(l *layout, columns []outbox.ColumnInfo, args []any) (put, error) {
	for _, c := range l.have {
		if c.Required && !slices.ContainsFunc(columns, func(w outbox.ColumnInfo) bool { return w.Name == c.Name }) {
			return put{}, d.refused("column %s is NOT NULL without a default and the row type lacks it: use Update", c.Name)
		}
	}
	holes := make([]string, len(columns))
	for i := range columns {
		holes[i] = "$" + strconv.Itoa(i+1)
	}
	instead, keyOnly := onConflict(l, columns)
	sql := counted("insert into " + d.name + " (" + quoteList(columns) + ") overriding system value values (" + strings.Join(holes, ", ") + ")" + instead)
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
	return whereColumns(l.key), args, nil
}

// whereColumns is the condition for a key, whose values are the first parameters.
func whereColumns(key []outbox.ColumnInfo) string {
	parts := make([]string, len(key))
	for i, c := range key {
		parts[i] = quote(c) + " = $" + strconv.Itoa(i+1)
	}
	return strings.Join(parts, " and ")
}

// keyValues are the values of the key's columns.
func (t *Table[K, T]) keyValues(k K, columns []outbox.ColumnInfo) (args []any, err error) {
	if t.keyArgs != nil {
		args = t.keyArgs(k)
	} else if args, err = t.partsOf(k, columns); err != nil {
		return nil, err
	}
	if len(args) != len(columns) {
		return nil, t.refused("its primary key has %d columns and the key gives %d values: use WithKeyArgs", len(columns), len(args))
	}
	return args, nil
}

// partsOf takes a key apart. The fields of a key that is a
// struct are found by name: in another order than the primary key's they would
// name another row.
func (d *definition) partsOf(k any, columns []outbox.ColumnInfo) ([]any, error) {
	n, v := len(columns), reflect.ValueOf(k)
	switch {
	case n == 1:
	case d.keys != nil:
		names := columnNames(columns)
		fields, err := d.keys.Resolve(names)
		if err != nil {
			return nil, d.refused("the key's fields are not the columns of its primary key: use WithKeyArgs: %v", err)
		}
		var args []any
		values := d.keys.ValuesOf(v)
		for _, name := range names {
			if i := slices.Index(fields, name); i >= 0 {
				args = append(args, values[i])
			}
		}
		return args, nil
	case v.Kind() == reflect.Array && v.Len() == n:
		args := make([]any, n)
		for i := range args {
			args[i] = v.Index(i).Interface()
		}
		return args, nil
	}
	return []any{k}, nil
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
	var old T
	_, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, t.scan(row, &old) })
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
	return t.set(ctx, tx, where, args, columns, values, t.key(row) == t.key(old))
}

// set updates the row of a key, whose values are args. An identity column may not be set, even to what it is: the key's
// are set only where another one is meant.
func (d *definition) set(ctx context.Context, tx pgx.Tx, where string, args []any, columns []outbox.ColumnInfo, values []any, sameKey bool) error {
	var sets []string
	for i, c := range columns {
		if c.KeyPlace > 0 && sameKey {
			continue
		}
		args = append(args, values[i])
		sets = append(sets, quote(c)+" = $"+strconv.Itoa(len(args)))
	}
	if len(sets) == 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, "update "+d.name+" set "+strings.Join(sets, ", ")+" where "+where, args...)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrSuppressed
	}
	return err //nolint:wrapcheck // the write's error wraps it
}

// scan reads a row into a zero T.
func (t *Table[K, T]) scan(row pgx.CollectableRow, into *T) (err error) {
	if t.row == nil {
		return t.mapping.Scan(row, into)
	}
	*into, err = t.row(row)
	return err
}
