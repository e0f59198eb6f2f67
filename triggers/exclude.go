package triggers

import (
	"cmp"
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

// The numbers of columns that are left out and have none.
const (
	unknown = 0  // a dump, or another table of the name, has it under a number that only its name can tell
	absent  = -1 // it was dropped: the next one of its name is left out
)

// leftOutVersion is the first version of the schema in which columns can be left out.
const leftOutVersion = 4

// excluded is a column that is left out, by its name and its number when it was installed so.
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

// askedTables are the tables of Options.ExcludeColumns, each of which must be there once.
func (in *installer) askedTables(ctx context.Context) ([]string, error) {
	names, found := slices.Sorted(maps.Keys(in.ExcludeColumns)), map[uint32]string{}
	for _, name := range names {
		var oid *uint32
		err := in.db.QueryRow(ctx, "select to_regclass($1)::oid", name).Scan(&oid)
		var pgErr *pgconn.PgError
		switch {
		case errors.As(err, &pgErr):
			return nil, fmt.Errorf("columns to be left out: table %s: %w: %s", name, ErrNoTable, pgErr.Message)
		case err != nil:
			return nil, fmt.Errorf("triggers: look up table %s: %w", name, err)
		case oid == nil:
			return nil, fmt.Errorf("columns to be left out: table %s: %w (is the schema named, and the name quoted where SQL needs it?)", name, ErrNoTable)
		case found[*oid] != "":
			return nil, fmt.Errorf("columns to be left out: %s and %s are the same table: name it once", found[*oid], name)
		}
		found[*oid] = name
	}
	return names, nil
}

// asked are the columns that Options.ExcludeColumns has for a table. What its names find may
// change while an install waits for a lock, so they are looked up each time.
func (in *installer) asked(ctx context.Context, q querier, t *table) (columns []string, ok bool, err error) {
	if len(in.ExcludeColumns) == 0 {
		return nil, false, nil
	}
	names := slices.Sorted(maps.Keys(in.ExcludeColumns))
	var name string
	err = q.QueryRow(ctx, "select n from unnest($1::text[]) n where to_regclass(n)::oid = $2 limit 1", names, t.OID).Scan(&name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("triggers: look up the tables of which columns are left out: %w", err)
	}
	return in.ExcludeColumns[name], true, nil
}

// leftOut are the columns of a table that are left out now, and the names of those that are remembered for a table of its name.
func (in *installer) leftOut(ctx context.Context, q querier, t *table) (now []excluded, registered bool, remembered []string, err error) {
	if in.found < leftOutVersion {
		return nil, false, nil, nil // only to be printed
	}
	rows, err := q.Query(ctx, `select t.excluded[i][1], t.excluded[i][2]::int2 from `+tablesOf(in.Options)+` t
		left join lateral generate_subscripts(t.excluded, 1) i on true where t.relid = $1 order by i`, t.OID)
	if err != nil {
		return nil, false, nil, fmt.Errorf("triggers: read the register: %w", err)
	}
	var name *string
	var number *int16
	_, err = pgx.ForEachRow(rows, []any{&name, &number}, func() error {
		if registered = true; name != nil && number != nil {
			now = append(now, excluded{*name, *number})
		}
		return nil
	})
	var there bool // not where an earlier version is only to be printed for
	if err == nil {
		err = q.QueryRow(ctx, "select to_regclass($1) is not null", leftOutOf(in.Options)).Scan(&there)
	}
	if err == nil && there {
		err = q.QueryRow(ctx, "select columns from "+leftOutOf(in.Options)+" where name = $1", t.Quoted).Scan(&remembered)
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil, fmt.Errorf("triggers: read the register: %w", err)
	}
	return now, registered, remembered, nil
}

// columns are those that a table has or had.
func columns(ctx context.Context, q querier, t *table) ([]column, error) {
	rows, err := q.Query(ctx, `select a.attname, a.attnum, a.attisdropped, exists (
			select from pg_index x where x.indrelid = a.attrelid and x.indisprimary and a.attnum = any ((x.indkey::int2[])[:x.indnkeyatts - 1]))
		from pg_attribute a where a.attrelid = $1 and a.attnum > 0 order by a.attnum`, t.OID)
	if err != nil {
		return nil, fmt.Errorf("triggers: read the columns of %s: %w", t.Quoted, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		return nil, fmt.Errorf("triggers: read the columns of %s: %w", t.Quoted, err)
	}
	return found, nil
}

// lookUp looks a table up, and with it the columns that are to be left out of it.
func (in *installer) lookUp(ctx context.Context, q querier, name string) (*table, error) {
	t, err := lookUp(ctx, q, in.Options, name)
	if err != nil {
		return nil, err
	}
	all, err := columns(ctx, q, t)
	if err != nil {
		return nil, err
	}
	now, registered, remembered, err := in.leftOut(ctx, q, t)
	if err != nil {
		return nil, err
	}
	before := slices.Clone(now)
	for _, name := range remembered {
		// A table that is captured already need not have what another one of its name had.
		if _, there := named(all, name); (there || !registered) && !slices.ContainsFunc(now, func(b excluded) bool { return b.Name == name }) {
			before = append(before, excluded{name, unknown})
		}
	}
	asked, told, err := in.asked(ctx, q, t)
	if err != nil {
		return nil, err
	}
	var keep []column
	var reasons []string
	if told {
		keep, reasons = choose(all, asked)
		remembered = nil
	} else {
		keep, reasons = keepOut(t, all, before)
		// What was left out of this table has the names that it has now.
		remembered = slices.DeleteFunc(slices.Clone(remembered), func(name string) bool {
			return slices.ContainsFunc(now, func(b excluded) bool { return b.Name == name })
		})
	}
	if len(reasons) > 0 {
		return nil, &RefusedError{Table: t.Quoted, Reasons: reasons}
	}
	t.compare(all, keep, now, before)
	return t, t.write(ctx, q, keep, remembered)
}

// compare says which columns are captured no more, or again.
func (t *table) compare(all, keep []column, now, before []excluded) {
	is := func(c column) func(excluded) bool {
		return func(b excluded) bool { return b.Number == c.Number || b.Name == c.Name }
	}
	for _, c := range all {
		switch kept := slices.Contains(keep, c); {
		case c.Dropped:
		case kept && !slices.ContainsFunc(now, is(c)):
			t.newly = append(t.newly, c.Name)
		case !kept && slices.ContainsFunc(before, is(c)):
			t.again = append(t.again, c.Name)
		}
	}
}

// write makes the texts of what is left out and of what is to be remembered. Postgres writes
// the arrays, so that they are as it writes them later.
func (t *table) write(ctx context.Context, q querier, keep []column, remembered []string) error {
	slices.SortFunc(keep, func(a, b column) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Name, b.Name))
	})
	keep = slices.Compact(keep)
	pairs, names := make([][]string, len(keep)), append([]string{}, remembered...)
	for i, c := range keep {
		pairs[i] = []string{c.Name, strconv.Itoa(int(c.Number))}
		names = append(names, c.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if err := q.QueryRow(ctx, "select $1::text[]::text", names).Scan(&t.LeftOut); err != nil {
		return fmt.Errorf("triggers: write the columns of %s: %w", t.Quoted, err)
	}
	if t.Excluded = none; len(pairs) > 0 {
		if err := q.QueryRow(ctx, "select $1::text[]::text", pairs).Scan(&t.Excluded); err != nil {
			return fmt.Errorf("triggers: write the columns of %s: %w", t.Quoted, err)
		}
	}
	return nil
}

// named finds a column by its name.
func named(all []column, name string) (column, bool) {
	i := slices.IndexFunc(all, func(c column) bool { return c.Name == name && !c.Dropped })
	if i < 0 {
		return column{}, false
	}
	return all[i], true
}

// choose are the columns that are asked for.
func choose(all []column, asked []string) (keep []column, reasons []string) {
	for _, name := range asked {
		c, ok := named(all, name)
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

// keepOut are the columns that were left out before, under whatever names they have now.
func keepOut(t *table, all []column, before []excluded) (keep []column, reasons []string) {
	var unsure, say []string // say: the list that settles it
	for _, b := range before {
		c, found := named(all, b.Name)
		var byNumber column
		if i := slices.IndexFunc(all, func(c column) bool { return c.Number == b.Number }); i >= 0 {
			byNumber = all[i]
		}
		switch {
		case found && (byNumber == c || byNumber.Dropped || b.Number == unknown || b.Number == absent):
		case !found && (byNumber.Dropped || b.Number == absent):
			keep = append(keep, column{Name: b.Name, Number: absent})
			continue
		case !found && byNumber.Number > 0:
			c = byNumber // it has another name
		default:
			unsure, say = append(unsure, b.Name), append(say, "COLUMN")
			continue
		}
		if c.Key {
			reasons = append(reasons, fmt.Sprintf("column %q, which is left out of capture, is part of the primary key by now", c.Name))
			continue
		}
		keep, say = append(keep, c), append(say, quoted(c.Name))
	}
	for _, name := range unsure {
		gone := "without COLUMN where it is gone"
		if len(say) == 1 {
			gone = "--all-columns " + t.Quoted + " where it is gone"
		}
		reasons = append(reasons, fmt.Sprintf("column %q was left out of capture, and which one that is now cannot be told: say --exclude-columns %s=%s, with its name for COLUMN, or %s",
			name, t.Quoted, strings.Join(say, ","), gone))
	}
	return keep, reasons
}

// quoted is a column's name as --exclude-columns takes it.
func quoted(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == "" {
		return name
	}
	return pgx.Identifier{name}.Sanitize()
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
