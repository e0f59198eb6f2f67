package lockstep

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/outbox"
)

// PutDocument is Put on a table of documents. It also says whether the row is
// new: whether there was none of its key when the write began.
//
// A document need not have every column: those that it lacks keep their value,
// or get their default, and where such a column is NOT NULL without a default
// the document is refused. It must have the key's, each as row_to_json writes
// its type. Columns that Postgres computes are left out, so that a document that
// was read can be put again. One that the table does not have, or that the
// document has twice, is refused. The values are read by Postgres' json_to_record.
// A key that can be written in several ways (a uuid, a timestamp) names the row
// that Postgres takes it for, which the node keeps under the way in which Postgres writes it.
func PutDocument(ctx context.Context, t *Table[string, json.RawMessage], doc json.RawMessage) (inserted bool, token Token, err error) {
	if t == nil || !t.doc {
		return false, Token{}, notCommitted(ErrNotStarted)
	}
	return t.put(ctx, doc)
}

// putDocumentSQL is the upsert of a document. Besides the count and the
// transaction id it returns whether there was no row of the key.
func (d *definition) putDocumentSQL(doc json.RawMessage) (put, error) {
	l := d.layout.Load()
	if l == nil {
		return put{}, ErrNotStarted
	}
	members, err := d.members(l, doc)
	if err != nil {
		return put{}, err
	}
	var columns []outbox.ColumnInfo
	for _, c := range l.have {
		v, given := members[c.Name]
		switch {
		case c.KeyPlace > 0 && !given:
			return put{}, d.refused("the document lacks column %s of the primary key", c.Name)
		case c.KeyPlace > 0 && !asPostgresWritesIt(c, v):
			return put{}, d.refused("%s is no key: its column %s is written as %s", v, c.Name, lookOf(c))
		case !given && c.Required:
			return put{}, d.refused("column %s is NOT NULL without a default and the document lacks it", c.Name)
		case given && !c.Generated && (!c.Identity || c.KeyPlace > 0):
			columns = append(columns, c)
		}
	}
	instead, keyOnly := onConflict(l, columns)
	sql := "with lockstep_row as materialized (select * from " + record("r", columns) + "), " +
		"lockstep_old as materialized (select from " + d.name + " lockstep_t, lockstep_row where " + sameKey("lockstep_t", "lockstep_row", l.key) + "), " +
		"lockstep_wrote as (insert into " + d.name + " (" + quoteList(columns) + ") overriding system value select " + quoteList(columns) + " from lockstep_row" + instead + " returning 1) " +
		"select " + countedList + ", not exists (select from lockstep_old) from lockstep_wrote"
	return put{sql: sql, args: []any{string(doc)}, keyOnly: keyOnly}, nil
}

// deleteDocumentSQL is the deletion of the row of a key as DocumentKey writes it.
func (d *definition) deleteDocumentSQL(key string) (string, []any, error) {
	l := d.layout.Load()
	if l == nil {
		return "", nil, ErrNotStarted
	}
	object, err := keyObject(l.key, key)
	if err != nil {
		return "", nil, err
	}
	sql := counted("delete from " + d.name + " lockstep_t using " + record("lockstep_row", l.key) + " where " + sameKey("lockstep_t", "lockstep_row", l.key))
	return sql, []any{object}, nil
}

// record is $1, a JSON object, as a row of these columns.
func record(alias string, columns []outbox.ColumnInfo) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = quote(c) + " " + c.Type
	}
	return "pg_catalog.json_to_record($1::json) as " + alias + "(" + strings.Join(list, ", ") + ")"
}

func sameKey(a, b string, key []outbox.ColumnInfo) string {
	parts := make([]string, len(key))
	for i, c := range key {
		parts[i] = a + "." + quote(c) + " = " + b + "." + quote(c)
	}
	return strings.Join(parts, " and ")
}

// members takes a document apart.
func (d *definition) members(l *layout, doc json.RawMessage) (map[string]json.RawMessage, error) {
	if !json.Valid(doc) || !utf8.Valid(doc) {
		return nil, d.refused("the document is no JSON in UTF-8")
	}
	in := json.NewDecoder(bytes.NewReader(doc))
	if open, err := in.Token(); err != nil || open != json.Delim('{') {
		return nil, d.refused("the document is no JSON object")
	}
	members := make(map[string]json.RawMessage)
	for in.More() {
		name, _ := in.Token() // the document is valid
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return nil, d.refused("the document cannot be read: %v", err)
		}
		column, _ := name.(string)
		if _, twice := members[column]; twice {
			return nil, d.refused("the document has %q twice", column)
		}
		if !slices.ContainsFunc(l.have, func(c outbox.ColumnInfo) bool { return c.Name == column }) {
			return nil, d.refused("it has no column %q", column)
		}
		members[column] = value
	}
	return members, nil
}

// lookOf is the sort of JSON that row_to_json makes of a key column.
func lookOf(c outbox.ColumnInfo) string {
	switch c.OID {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		return "an integer"
	case pgtype.BoolOID:
		return "true or false"
	}
	return "a string"
}

// asPostgresWritesIt reports whether a key's value is of the sort of JSON that
// row_to_json makes of its column. Postgres would take 7 for the text key "7",
// which is another row's address.
func asPostgresWritesIt(c outbox.ColumnInfo, v json.RawMessage) bool {
	switch lookOf(c) {
	case "an integer":
		n, err := strconv.ParseInt(string(v), 10, 64)
		return err == nil && strconv.FormatInt(n, 10) == string(v)
	case "true or false":
		return string(v) == "true" || string(v) == "false"
	}
	return len(v) > 0 && v[0] == '"'
}
