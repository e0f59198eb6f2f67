package triggers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// none is the text of an empty array: no column is left out.
const none = "{}"

// exclusions are the columns that are to be left out, and those that are.
type exclusions struct {
	asked  map[uint32]asked      // Options.ExcludeColumns by the table's oid
	names  []string              // of the tables in asked
	byName map[string][]excluded // of the register as Install found it, by the registered name
	byOID  map[uint32][]excluded // of the register once it is up to date; every registered table has an entry
}

// asked are the columns that Options.ExcludeColumns has for a table.
type asked struct {
	table   string
	columns []string
}

// excluded is a column that is left out, by its name and its number when it was installed so.
// Number 0: it was not found by its name in a table that a dump has brought.
type excluded struct {
	Name   string
	Number int16
}

// column is a column of a table as it is.
type column struct {
	Name    string
	Number  int16
	Dropped bool
	Key     bool
}

// readExcluded finds the tables of Options.ExcludeColumns and brings the register up to date. What it has
// before counts for tables that have taken the name of one that is gone.
func (in *installer) readExcluded(ctx context.Context) error {
	e := exclusions{asked: map[uint32]asked{}}
	for _, name := range slices.Sorted(maps.Keys(in.ExcludeColumns)) {
		var oid *uint32
		err := in.db.QueryRow(ctx, "select to_regclass($1)::oid", name).Scan(&oid)
		var pgErr *pgconn.PgError
		switch {
		case errors.As(err, &pgErr):
			return fmt.Errorf("columns to be left out: table %s: %w: %s", name, ErrNoTable, pgErr.Message)
		case err != nil:
			return fmt.Errorf("triggers: look up table %s: %w", name, err)
		case oid == nil:
			return fmt.Errorf("columns to be left out: table %s: %w (is the schema named, and the name quoted where SQL needs it?)", name, ErrNoTable)
		case e.asked[*oid].table != "":
			return fmt.Errorf("columns to be left out: %s and %s are the same table: name it once", e.asked[*oid].table, name)
		}
		e.asked[*oid] = asked{name, in.ExcludeColumns[name]}
		e.names = append(e.names, name)
	}
	var err error
	if _, e.byName, err = in.registered(ctx); err != nil {
		return err
	}
	if err := in.register(ctx); err != nil {
		return err
	}
	e.byOID, _, err = in.registered(ctx)
	in.excluded = e
	return err
}

// registered are the columns that are left out as the register has them, in two ways.
func (in *installer) registered(ctx context.Context) (byOID map[uint32][]excluded, byName map[string][]excluded, err error) {
	byOID, byName = map[uint32][]excluded{}, map[string][]excluded{}
	if _, err := installedVersion(ctx, in.db, in.Schema); errors.Is(err, ErrNotInstalled) {
		return byOID, byName, nil // only to be printed
	}
	rows, err := in.db.Query(ctx, `select t.relid, t.name, e ->> 0, (e ->> 1)::int2
		from `+tablesOf(in.Options)+` t left join lateral jsonb_array_elements(to_jsonb(t) -> 'excluded') with ordinality x(e, n) on true
		order by t.relid, n`)
	if err != nil {
		return nil, nil, fmt.Errorf("triggers: read the register: %w", err)
	}
	var oid uint32
	var name string
	var column *string
	var number *int16
	_, err = pgx.ForEachRow(rows, []any{&oid, &name, &column, &number}, func() error {
		out := byOID[oid]
		if column != nil && number != nil {
			out = append(out, excluded{*column, *number})
		}
		byOID[oid], byName[name] = out, out
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("triggers: read the register: %w", err)
	}
	return byOID, byName, nil
}

// lookUp is lookUp with the columns that are to be left out.
func (in *installer) lookUp(ctx context.Context, q querier, name string) (*table, error) {
	t, err := lookUp(ctx, q, in.Options, name)
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, `select a.attname, a.attnum, a.attisdropped,
			exists (select from pg_index x where x.indrelid = a.attrelid and x.indisprimary and a.attnum = any (x.indkey::int2[]))
		from pg_attribute a where a.attrelid = $1 and a.attnum > 0 order by a.attnum`, t.OID)
	if err != nil {
		return nil, fmt.Errorf("triggers: read the columns of %s: %w", t.Quoted, err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		return nil, fmt.Errorf("triggers: read the columns of %s: %w", t.Quoted, err)
	}
	before, registered := in.excluded.byOID[t.OID]
	before = slices.Clone(before)
	if !registered { // one that has taken the place of another
		before = slices.Clone(in.excluded.byName[t.Quoted])
		for i := range before {
			before[i].Number = 0
		}
	}
	keep, reasons := in.keep(t, columns, before)
	if len(reasons) > 0 {
		return nil, &RefusedError{Table: t.Quoted, Reasons: reasons}
	}
	slices.SortFunc(keep, func(a, b column) int { return int(a.Number) - int(b.Number) })
	keep = slices.Compact(keep)
	pairs := make([][]string, len(keep))
	for i, c := range keep {
		pairs[i] = []string{c.Name, strconv.Itoa(int(c.Number))}
	}
	was := func(c column) bool {
		return slices.ContainsFunc(before, func(b excluded) bool { return b.Number == c.Number || b.Name == c.Name })
	}
	for _, c := range columns {
		switch {
		case c.Dropped || slices.Contains(keep, c) == was(c):
		case was(c):
			t.again = append(t.again, c.Name)
		default:
			t.newly = append(t.newly, c.Name)
		}
	}
	if t.Excluded = none; len(pairs) > 0 { // Postgres writes the array, so that it is as it writes it later
		if err := q.QueryRow(ctx, "select $1::text[]::text", pairs).Scan(&t.Excluded); err != nil {
			return nil, fmt.Errorf("triggers: write the columns of %s: %w", t.Quoted, err)
		}
	}
	return t, nil
}

// keep are the columns of a table that are left out: those that are asked for, or else those
// that were left out before, under whatever names they have now.
func (in *installer) keep(t *table, columns []column, before []excluded) (keep []column, reasons []string) {
	named := func(name string) (column, bool) {
		i := slices.IndexFunc(columns, func(c column) bool { return c.Name == name && !c.Dropped })
		if i < 0 {
			return column{}, false
		}
		return columns[i], true
	}
	if a, ok := in.excluded.asked[t.OID]; ok {
		for _, name := range a.columns {
			c, ok := named(name)
			switch {
			case !ok:
				reasons = append(reasons, fmt.Sprintf("column %q cannot be left out: there is no such column", name))
			case c.Key:
				reasons = append(reasons, fmt.Sprintf("column %q cannot be left out: it is part of the primary key, which every event carries", name))
			default:
				keep = append(keep, c)
			}
		}
		return keep, reasons
	}
	for _, b := range before {
		byName, found := named(b.Name)
		var byNumber column
		if i := slices.IndexFunc(columns, func(c column) bool { return c.Number == b.Number }); i >= 0 {
			byNumber = columns[i]
		}
		c := byName
		switch {
		case found && (byNumber == byName || byNumber.Dropped || b.Number == 0):
		case !found && byNumber.Dropped:
			continue // it is gone
		case !found && byNumber.Number > 0:
			c = byNumber // it has another name
		default:
			reasons = append(reasons, fmt.Sprintf("column %q was left out of capture, and which one that is now cannot be told: say --exclude-columns %s=COLUMN,...", b.Name, t.Quoted))
			continue
		}
		if c.Key {
			reasons = append(reasons, fmt.Sprintf("column %q, which is left out of capture, is part of the primary key by now", c.Name))
			continue
		}
		keep = append(keep, c)
	}
	return keep, reasons
}

// sayExcluded says which columns are not captured any more, and which are again.
func (in *installer) sayExcluded(t *table) error {
	for _, change := range []struct {
		what    string
		columns []string
	}{{"columns are left out of capture from now on (what the outbox has of them stays until it is trimmed)", t.newly}, {"columns that were left out are captured again", t.again}} {
		if len(change.columns) == 0 {
			continue
		}
		columns := strings.Join(change.columns, ", ")
		in.Logger.Info(change.what, "table", t.Quoted, "columns", columns)
		if in.Print != nil {
			if _, err := fmt.Fprintf(in.Print, "-- %s: %q\n", change.what, columns); err != nil {
				return err //nolint:wrapcheck // the caller's own writer
			}
		}
	}
	return nil
}
