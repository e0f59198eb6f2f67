package triggers

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Uninstall takes capture off every table, one transaction each, then drops
// the schema and, unless another database of the cluster still uses it, the
// functions' owner. The application's tables are as they were before Install.
// ErrNotInstalled where there is nothing to take away.
func Uninstall(ctx context.Context, db DB, o Options) error {
	in := &installer{Options: o.withDefaults(), db: db}
	if _, err := installedVersion(ctx, db, in.Schema); err != nil {
		return err
	}
	sites, err := in.sites(ctx)
	if err != nil {
		return err
	}
	for _, s := range sites {
		err := in.tx(ctx, "take capture off "+pgx.Identifier{s.Schema, s.Name}.Sanitize(), func(tx pgx.Tx) error {
			return in.run(ctx, tx, "detach.sql", in.varsFor(s.Schema, s.Name))
		})
		if err != nil {
			return err
		}
	}
	err = in.tx(ctx, "drop the schema", func(tx pgx.Tx) error {
		return in.run(ctx, tx, "uninstall.sql", in.vars())
	})
	if err != nil {
		return err
	}
	return in.dropOwner(ctx)
}

// Detach takes capture off tables, named as SQL writes them, one transaction each; the schema and the other tables stay, and so
// does what is known of columns that are left out. Each is as it was before Install. Nodes that follow one find out at
// once that it is captured no more, call it not live and answer from memory; one that starts with it does not start. It waits for locks as Install does. All errors are joined, and wrap
// ErrNotCaptured where a table is not captured.
func Detach(ctx context.Context, db DB, o Options, tables ...string) error {
	in := &installer{Options: o.withDefaults(), db: db}
	if _, err := installedVersion(ctx, db, in.Schema); err != nil {
		return err
	}
	errs := make([]error, len(tables))
	for i, name := range tables {
		errs[i] = in.tx(ctx, "take capture off "+name, func(tx pgx.Tx) error { return in.part(ctx, tx, name) })
	}
	return errors.Join(errs...)
}

// part takes capture off a table of that name. DROP TRIGGER would hold a lock of its own while it waits for the whole table, and
// whoever has read it and then locks it would be in its way for ever: so the table is locked first.
func (in *installer) part(ctx context.Context, tx pgx.Tx, name string) error {
	p, err := in.captured(ctx, tx, name)
	if err != nil {
		return err
	}
	if tx != nil {
		if err := in.lock(ctx, tx, p.quoted(), "access exclusive"); err != nil {
			return err
		}
		now, err := in.captured(ctx, tx, name)
		if err != nil {
			return err
		}
		if now != p {
			return fmt.Errorf("triggers: table %s is another one by now (%s): run this again", name, now.quoted())
		}
	}
	vars := in.vars()
	vars["relation"] = p.quoted()
	if err := in.run(ctx, tx, "read_again.sql", vars); err != nil {
		return err
	}
	return in.letGo(ctx, tx, p)
}

// captured finds a table that is captured by its present name.
func (in *installer) captured(ctx context.Context, tx pgx.Tx, name string) (p partition, err error) {
	err = in.reader(tx).QueryRow(ctx, "select n.nspname, c.relname from "+tablesOf(in.Options)+` r
		join pg_class c on c.oid = r.relid join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)`, name).Scan(&p.Schema, &p.Name)
	var pgErr *pgconn.PgError
	switch {
	case isNoName(err, &pgErr):
		err = fmt.Errorf("table %s: %w: %s", name, ErrNoTable, pgErr.Message)
	case errors.Is(err, pgx.ErrNoRows):
		err = fmt.Errorf("table %s: %w (lockstep inspect lists those that are)", name, ErrNotCaptured)
	case err != nil:
		err = fmt.Errorf("triggers: look up table %s: %w", name, err)
	}
	return p, err
}

// sites are the tables and partitions that carry one of our triggers: roots
// first, since dropping a cloned trigger goes through its root.
func (in *installer) sites(ctx context.Context) ([]partition, error) {
	rows, err := in.db.Query(ctx, `
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where exists (select from pg_trigger g join pg_proc p on p.oid = g.tgfoid
              where g.tgrelid = c.oid and not g.tgisinternal and p.pronamespace = $1::text::regnamespace)
  and n.nspname <> $2
order by c.relispartition, n.nspname, c.relname`, pgx.Identifier{in.Schema}.Sanitize(), in.Schema)
	if err != nil {
		return nil, fmt.Errorf("triggers: list tables: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		return nil, fmt.Errorf("triggers: list tables: %w", err)
	}
	return found, nil
}

// dropOwner drops the role. It belongs to the whole cluster: where another database
// still uses it, or the caller may not drop roles, it stays, which is said.
func (in *installer) dropOwner(ctx context.Context) error {
	if in.Print != nil {
		return in.run(ctx, nil, "drop_owner.sql", in.vars())
	}
	err := in.tx(ctx, "drop the owner", func(tx pgx.Tx) error {
		return in.run(ctx, tx, "drop_owner.sql", in.vars())
	})
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == "2BP01" || pgErr.Code == "42501") {
		in.Logger.Info("the functions' owner stays", "role", in.Owner, "because", pgErr.Message)
		return nil
	}
	return err
}
