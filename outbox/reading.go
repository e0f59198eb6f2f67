package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Reading is a transaction with one snapshot in which tables are read as a
// load reads them, to hold a node against them. It belongs to one goroutine.
type Reading struct {
	f        *fetch
	problems map[int]error
	given    bool // the snapshot is another transaction's
}

// Read begins a Reading of tables, by their index, which are locked (ACCESS
// SHARE) until it ends. It takes no snapshot yet, unless it is given the name of
// one that another transaction, which has locked the tables as well, has exported.
// While it is open the session is used for nothing else.
func (s *Session) Read(ctx context.Context, snapshot string, tables ...int) (*Reading, error) {
	// Sequential scans are off, as in every session: ranges go by the key, whatever the statistics say.
	f := &fetch{Session: s, req: Request{Reload: tables, Snapshot: snapshot}}
	r := &Reading{f: f, given: snapshot != ""}
	var err error
	if r.problems, err = f.lock(ctx); err != nil {
		return nil, err
	}
	if r.given {
		return r, r.describe(ctx)
	}
	return r, nil
}

// Export takes the snapshot and returns the name under which other
// transactions may share it until the reading ends.
func (r *Reading) Export(ctx context.Context) (name string, err error) {
	if err = r.f.conn.QueryRow(ctx, "select pg_export_snapshot()").Scan(&name); err != nil {
		return "", fmt.Errorf("outbox: export a snapshot: %w", err)
	}
	return name, nil
}

// Describe finds out, in the snapshot, how the tables are laid out. It comes
// before Range; a reading in a given snapshot has done so.
func (r *Reading) Describe(ctx context.Context) error {
	if r.given {
		return nil
	}
	return r.describe(ctx)
}

func (r *Reading) describe(ctx context.Context) error {
	for _, i := range r.f.concerned() {
		if r.problems[i] != nil {
			continue
		}
		d, err := r.f.Session.describe(ctx, i)
		if err != nil {
			if r.f.conn.PgConn().TxStatus() != 'T' {
				return err
			}
			r.problems[i] = err
			continue
		}
		r.f.src.tables[i] = d
		if r.f.decoders != nil {
			r.f.decoders[i] = nil
		}
	}
	return nil
}

// Problem says why a table cannot be read, or nil.
func (r *Reading) Problem(table int) error { return r.problems[table] }

// Range reads up to limit rows of a table in the order of its primary key,
// those above the key whose columns, as text, are after; from the first one
// where after is nil. fn gets the rows as a load brings them, each good until
// it returns, and may end the reading of the range with an error. last is the key of the
// last row, n how many there were: fewer than limit means that there are no more.
func (r *Reading) Range(ctx context.Context, table int, after []string, limit int, fn func(pgx.CollectableRow) error) (last []string, n int, err error) {
	d := r.f.src.tables[table]
	if p := r.problems[table]; p != nil || d == nil {
		return nil, 0, fmt.Errorf("outbox: table %s cannot be read: %w", r.f.src.cfg.Tables[table].Name, p)
	}
	formats, err := r.f.formats(table)
	if err != nil {
		return nil, 0, err
	}
	sql, args := d.rangeSQL(after, limit)
	formats = slices.Clone(formats)
	columns := len(formats)
	for range d.key {
		formats = append(formats, pgx.TextFormatCode)
	}
	rows, err := r.f.conn.Query(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec, formats}, args...)...)
	if err != nil {
		return nil, 0, fmt.Errorf("outbox: read table %s: %w", d.registered, err)
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		row := &wireRow{conn: r.f.conn, fields: rows.FieldDescriptions()[:columns], raw: raw[:columns]}
		if err := fn(row); err != nil {
			return nil, n, err
		}
		last = last[:0]
		for _, k := range raw[columns:] {
			last = append(last, string(k))
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return nil, n, fmt.Errorf("outbox: read table %s: %w", d.registered, err)
	}
	return last, n, nil
}

// rangeSQL pages by the whole key, so that the primary key's index gives the
// order and the place.
func (d *described) rangeSQL(after []string, limit int) (sql string, args []any) {
	names, texts, holes := make([]string, len(d.key)), make([]string, len(d.key)), make([]string, len(d.key))
	for i, k := range d.key {
		names[i] = "t." + pgx.Identifier{k.Name}.Sanitize()
		texts[i] = names[i] + "::text"
		holes[i] = fmt.Sprintf("$%d::%s", i+1, k.Type)
	}
	where := ""
	if after != nil {
		where = fmt.Sprintf(" where (%s) > (%s)", strings.Join(names, ", "), strings.Join(holes, ", "))
		for _, a := range after {
			args = append(args, a) // text, whatever the type is
		}
	}
	return fmt.Sprintf("select %s, %s from %s%s order by %s limit %d", d.list(), strings.Join(texts, ", "), d.from(), where, strings.Join(names, ", "), limit), args
}

// KeyColumns are those of a table's columns that make its primary key, in its order.
func KeyColumns(columns []ColumnInfo) (key []ColumnInfo) {
	for _, c := range columns {
		if c.KeyPlace > 0 {
			key = append(key, c)
		}
	}
	slices.SortFunc(key, func(a, b ColumnInfo) int { return a.KeyPlace - b.KeyPlace })
	return key
}

// KeyMembers are the key columns of a document's key by their names: the key itself
// where there is one column, else the members of a JSON array.
func KeyMembers(columns []string, key string) (map[string]json.RawMessage, error) {
	parts := []json.RawMessage{json.RawMessage(key)}
	if len(columns) > 1 {
		if err := json.Unmarshal([]byte(key), &parts); err != nil || len(parts) != len(columns) {
			return nil, fmt.Errorf("outbox: key %s, and the primary key has %d columns", key, len(columns))
		}
	}
	members := make(map[string]json.RawMessage, len(columns))
	for i, c := range columns {
		members[c] = parts[i]
	}
	return members, nil
}

// Holds reports which of some keys of a table, each a JSON object of its key
// columns as row_to_json writes them, have a row.
func (r *Reading) Holds(ctx context.Context, table int, keys []string) ([]bool, error) {
	d := r.f.src.tables[table]
	columns, same := make([]string, len(d.key)), make([]string, len(d.key))
	for i, k := range d.key {
		name := pgx.Identifier{k.Name}.Sanitize()
		columns[i], same[i] = name+" "+k.Type.String(), "t."+name+" = k."+name
	}
	var b pgx.Batch
	for _, key := range keys {
		b.Queue("select 1 from "+d.from()+", json_to_record($1::json) as k("+strings.Join(columns, ", ")+") where "+strings.Join(same, " and "), key)
	}
	results := r.SendBatch(ctx, &b)
	held := make([]bool, len(keys))
	for i := range keys {
		tag, err := results.Exec()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("outbox: look for key %s of %s: %w", keys[i], d.registered, err), results.Close())
		}
		held[i] = tag.RowsAffected() > 0
	}
	return held, results.Close() //nolint:wrapcheck // nothing is left to fail
}

// SendBatch runs queries of the caller's in the snapshot. Names are found in pg_catalog only.
func (r *Reading) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return r.f.conn.SendBatch(ctx, b)
}

// End ends the transaction, and with it the snapshot and the locks. After an
// error the session is good for Close only.
func (r *Reading) End(ctx context.Context) error {
	if _, err := r.f.conn.Exec(ctx, "rollback"); err != nil {
		return fmt.Errorf("outbox: end a reading: %w", err)
	}
	return nil
}
