package triggers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Finding is one thing that is not as Install left it.
type Finding struct {
	Table string // registered name; "" for the install as a whole
	Kind  string // a short fixed phrase: "trigger missing", "key changed", ...
	What  string // one line for a person
	Mend  string // the command that puts it right
}

// Table is one registered table.
type Table struct {
	OID  uint32
	Name string   // as SQL writes it
	Key  []string // the primary key's columns at install
	Mode string   // "statement" or "row"
	// Excluded are the columns that are left out, as they were called at install. One that was dropped stays among
	// them: the next one of its name is left out.
	Excluded []string
}

// InstalledVersion is the version of the schema in the database; ErrNotInstalled
// where there is none.
func InstalledVersion(ctx context.Context, db DB, o Options) (int, error) {
	return installedVersion(ctx, db, o.withDefaults().Schema)
}

// Tables lists what is tracked, by name. ErrNotInstalled where nothing is installed.
func Tables(ctx context.Context, db DB, o Options) ([]Table, error) {
	o = o.withDefaults()
	if _, err := installedVersion(ctx, db, o.Schema); err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, `select relid, name, key_columns, mode,
		coalesce((select array_agg(e ->> 0 order by n) from jsonb_array_elements(to_jsonb(t) -> 'excluded') with ordinality x(e, n)), '{}')
		from `+tablesOf(o)+" t order by name")
	if err != nil {
		return nil, fmt.Errorf("triggers: read the register: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Table])
	if err != nil {
		return nil, fmt.Errorf("triggers: read the register: %w", err)
	}
	return found, nil
}

// Inspect compares the install with what it should be. No findings: all is
// well. It only reads catalogues and the register, and takes no lock that
// writers would notice. ErrNotInstalled where nothing is installed.
func Inspect(ctx context.Context, db DB, o Options) ([]Finding, error) {
	o = o.withDefaults()
	if _, err := installedVersion(ctx, db, o.Schema); err != nil {
		return nil, err
	}
	found, err := drift(ctx, db, o)
	if err != nil {
		return nil, err
	}
	tables, err := Tables(ctx, db, o)
	if err != nil {
		return nil, err
	}
	b, err := bellOf(ctx, db, o)
	if err != nil {
		return nil, err
	}
	found = append(b.drift(o), found...)
	for _, t := range tables {
		reasons, err := refusals(ctx, db, o, t.OID)
		if err != nil {
			return nil, err
		}
		for _, r := range reasons {
			found = append(found, Finding{Table: t.Name, Kind: "refused", What: r, Mend: "change the table, then lockstep install --table " + t.Name})
		}
	}
	return found, nil
}

func drift(ctx context.Context, q querier, o Options) ([]Finding, error) {
	sql, err := render("inspect.sql", o.vars())
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, sql, o.Owner, o.triggerNames())
	if err != nil {
		return nil, fmt.Errorf("triggers: inspect: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Finding])
	if err != nil {
		return nil, fmt.Errorf("triggers: inspect: %w", err)
	}
	return found, nil
}
