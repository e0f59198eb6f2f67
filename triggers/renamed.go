package triggers

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// take puts capture on a table under its present name, and in the same
// transaction puts right whoever is registered under that name: a table that was
// renamed, and whose triggers write it. Were both to go on under one name, nodes
// would take the events of one for the other's. Two tables may have changed names.
func (in *installer) take(ctx context.Context, tx pgx.Tx, t *table) error {
	before, err := in.holder(ctx, tx, t)
	if err != nil {
		return err
	}
	if before == nil {
		return in.attach(ctx, tx, t)
	}
	vars := in.vars()
	vars["relation"] = t.Quoted
	if err := in.run(ctx, tx, "vacate.sql", vars); err != nil {
		return err
	}
	if err := in.attach(ctx, tx, t); err != nil {
		return err
	}
	renamed, err := in.lookUp(ctx, in.reader(tx), before.quoted())
	if errors.Is(err, ErrRefused) {
		in.Logger.Info("a table that was renamed cannot be kept and is captured no more", "table", before.quoted(), "because", err)
		return in.letGo(ctx, tx, *before)
	}
	if err != nil {
		return err
	}
	return in.take(ctx, tx, renamed)
}

// holder is the other table that is registered under the name of t, locked; nil: none is.
func (in *installer) holder(ctx context.Context, tx pgx.Tx, t *table) (*partition, error) {
	if _, err := installedVersion(ctx, in.db, in.Schema); errors.Is(err, ErrNotInstalled) {
		return nil, nil // only to be printed
	}
	var p partition
	err := in.reader(tx).QueryRow(ctx, `select n.nspname, c.relname from `+tablesOf(in.Options)+` r
		join pg_class c on c.oid = r.relid join pg_namespace n on n.oid = c.relnamespace where r.name = $1 and r.relid <> $2`,
		t.Quoted, t.OID).Scan(&p.Schema, &p.Name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("triggers: read the register: %w", err)
	case tx == nil:
		return &p, nil
	}
	return &p, in.lock(ctx, tx, p.quoted(), writers)
}

// letGo takes capture off one table and its partitions.
func (in *installer) letGo(ctx context.Context, tx pgx.Tx, p partition) error {
	var oid uint32
	if err := in.reader(tx).QueryRow(ctx, "select $1::text::regclass::oid", p.quoted()).Scan(&oid); err != nil {
		return fmt.Errorf("triggers: look up table %s: %w", p.quoted(), err)
	}
	parts, err := partitions(ctx, in.reader(tx), oid)
	if err != nil {
		return err
	}
	for _, site := range append([]partition{p}, parts...) { // the root first, whose trigger was cloned
		if err := in.run(ctx, tx, "detach.sql", in.varsFor(site.Schema, site.Name)); err != nil {
			return err
		}
	}
	vars := in.vars()
	vars["relation"] = p.quoted()
	return in.run(ctx, tx, "forget.sql", vars)
}

// writers is the mode in which a lock waits for whoever writes the table: they have committed once we have it.
const writers = "share row exclusive"

// lock locks a table in a mode.
func (in *installer) lock(ctx context.Context, tx pgx.Tx, quoted, mode string) error {
	if _, err := tx.Exec(ctx, "lock table "+quoted+" in "+mode+" mode"); err != nil {
		return fmt.Errorf("triggers: lock table %s: %w", quoted, err)
	}
	return nil
}

// reader is what the catalogue is read through: the transaction, where there is one.
func (in *installer) reader(tx pgx.Tx) querier {
	if tx == nil {
		return in.db
	}
	return tx
}

func (p partition) quoted() string { return pgx.Identifier{p.Schema, p.Name}.Sanitize() }
