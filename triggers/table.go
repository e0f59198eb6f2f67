package triggers

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// querier is what reading the catalogue takes: a transaction, a connection or a pool.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// table is what installing needs to know of a table, as the catalogue has it.
type table struct {
	OID        uint32
	Schema     string
	Name       string
	Quoted     string // as SQL writes it
	Keys       string // the key columns' names, as the text of an array
	Begins     string // how a document begins whose first column is the key; empty: the key has several columns
	Mode       string // "statement" or "row"
	Partitions []partition
	Excluded   string   // the columns that are left out, as the text of an array of names and numbers; none: there is none
	newly      []string // those that were captured until now
	again      []string // those that were left out until now and are not any more
	LeftOut    string   // what is to be remembered for a table of this name, as the text of an array
}

type partition struct {
	Schema, Name string
}

const tableSQL = `
select c.oid, n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
  coalesce((select array_agg(a.attname::text order by o.n)
            from pg_index x cross join lateral unnest((x.indkey::int2[])[:x.indnkeyatts - 1]) with ordinality o(attnum, n)
            join pg_attribute a on a.attrelid = x.indrelid and a.attnum = o.attnum
            where x.indrelid = c.oid and x.indisprimary), '{}')::text,
  coalesce((select '{' || to_json(a.attname::text) || ':'
            from pg_index x join pg_attribute a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
            where x.indrelid = c.oid and x.indisprimary and x.indnkeyatts = 1), ''),
  case when c.relkind = 'p' or exists (select from pg_subscription_rel s where s.srrelid = c.oid) then 'row' else 'statement' end
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.oid = to_regclass($1)`

// lookUp finds a table by its name as SQL writes it, and refuses one that
// cannot be kept right, with a *RefusedError.
func lookUp(ctx context.Context, q querier, o Options, name string) (*table, error) {
	var t table
	err := q.QueryRow(ctx, tableSQL, name).Scan(&t.OID, &t.Schema, &t.Name, &t.Quoted, &t.Keys, &t.Begins, &t.Mode)
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("table %s: %w (is the schema named, and the name quoted where SQL needs it?)", name, ErrNoTable)
	case isNoName(err, &pgErr):
		return nil, fmt.Errorf("table %s: %w: %s", name, ErrNoTable, pgErr.Message)
	case err != nil:
		return nil, fmt.Errorf("triggers: look up table %s: %w", name, err)
	}
	reasons, err := refusals(ctx, q, o, t.OID)
	if err != nil {
		return nil, err
	}
	if len(reasons) > 0 {
		return nil, &RefusedError{Table: t.Quoted, Reasons: reasons}
	}
	if t.Partitions, err = partitions(ctx, q, t.OID); err != nil {
		return nil, err
	}
	return &t, nil
}

// isNoName reports whether to_regclass has said that what it was given is not the name of a table, of whatever database, and how.
func isNoName(err error, how **pgconn.PgError) bool {
	return errors.As(err, how) && ((*how).Code == "42602" || (*how).Code == "42601" || (*how).Code == "0A000")
}

// refusals are the reasons for which a table cannot be kept right; none: it can.
func refusals(ctx context.Context, q querier, o Options, oid uint32) ([]string, error) {
	sql, err := render("refusals.sql", o.vars())
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, sql, oid, o.Schema)
	if err != nil {
		return nil, fmt.Errorf("triggers: inspect table: %w", err)
	}
	reasons, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("triggers: inspect table: %w", err)
	}
	return reasons, nil
}

func partitions(ctx context.Context, q querier, root uint32) ([]partition, error) {
	rows, err := q.Query(ctx, `
select n.nspname, c.relname from pg_partition_tree($1::oid::regclass) p
join pg_class c on c.oid = p.relid join pg_namespace n on n.oid = c.relnamespace
where p.level > 0 order by p.level, n.nspname, c.relname`, root)
	if err != nil {
		return nil, fmt.Errorf("triggers: list partitions: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		return nil, fmt.Errorf("triggers: list partitions: %w", err)
	}
	return found, nil
}

// varsFor are the variables of the per-table files.
func (o Options) varsFor(schema, name string) map[string]string {
	v := o.vars()
	v["table_schema"], v["table_name"] = schema, name
	return v
}
