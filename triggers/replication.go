package triggers

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// mayInstall refuses a session whose writes guard.sql would take for a
// replica's, and a first install under a publication FOR ALL TABLES: a subscriber
// that lacks a published table stops, with everything else that it replicates.
func (in *installer) mayInstall(ctx context.Context, installed bool) error {
	var role string
	var names []string
	err := in.db.QueryRow(ctx, `select current_setting('session_replication_role'),
		array(select quote_ident(pubname) from pg_publication where puballtables order by 1)`).Scan(&role, &names)
	switch {
	case err != nil:
		return fmt.Errorf("triggers: look for publications: %w", err)
	case role == "replica":
		return fmt.Errorf("%w: install with session_replication_role at origin", ErrReplica)
	case installed || in.Published || len(names) == 0:
		return nil
	}
	return fmt.Errorf("%w: %s is FOR ALL TABLES, and a subscriber without schema %s stops at once, with all that it replicates: "+
		"run lockstep install at every subscriber first, or publish tables by name; then run it here with --published", ErrPublished, strings.Join(names, ", "), in.Schema)
}

// dropOther drops the triggers of the other mode: a table that a subscription feeds from
// now on, or no more, would be captured twice.
func (in *installer) dropOther(ctx context.Context, tx pgx.Tx, t *table) error {
	file, kinds := "drop_row.sql", []int{4}
	if t.Mode == "row" {
		file, kinds = "drop_statement.sql", []int{0, 1, 2}
	}
	var names []string
	for _, k := range kinds {
		names = append(names, in.triggerNames()[k])
	}
	var have bool // DROP TRIGGER would stop readers, also where there is nothing to drop
	err := in.reader(tx).QueryRow(ctx, "select exists (select from pg_trigger where tgrelid = $1 and tgname = any ($2))", t.OID, names).Scan(&have)
	if err != nil {
		return fmt.Errorf("triggers: look for triggers: %w", err)
	}
	if !have {
		return nil
	}
	return in.run(ctx, tx, file, in.varsFor(t.Schema, t.Name))
}
