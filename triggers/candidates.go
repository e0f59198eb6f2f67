package triggers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Candidate is a table of a schema, and why it cannot be captured, if it cannot.
type Candidate struct {
	Name    string   // as SQL writes it
	Refused []string // the reasons; none: it can be captured
}

// Candidates lists the tables of a schema, named as SQL writes it, by name.
// Partitions are left out, as their root stands for them.
func Candidates(ctx context.Context, db DB, o Options, schema string) ([]Candidate, error) {
	o = o.withDefaults()
	rows, err := db.Query(ctx, `
select quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.oid
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.oid = to_regnamespace($1) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition order by 1`, schema)
	if err != nil {
		return nil, fmt.Errorf("triggers: list the tables of %s: %w", schema, err)
	}
	type table struct {
		Name string
		OID  uint32
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		return nil, fmt.Errorf("triggers: list the tables of %s: %w", schema, err)
	}
	found := make([]Candidate, len(tables))
	for i, t := range tables {
		reasons, err := refusals(ctx, db, o, t.OID)
		if err != nil {
			return nil, err
		}
		found[i] = Candidate{Name: t.Name, Refused: reasons}
	}
	return found, nil
}
