package triggers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// schemaFiles make the schema, in this order.
var schemaFiles = []string{"schema.sql", "capture.sql", "capture_without.sql", "announce.sql", "guard.sql", "rights.sql"}

// installer is one run: the SQL goes to the server, or to a writer.
type installer struct {
	Options
	db    DB
	found int             // the schema's version as it is to be read; 0: there is none
	done  map[uint32]bool // tables by their oid
}

// Install makes the schema, or brings it up to this package's version, and
// puts capture on the tables, named as SQL writes them. It may be run again at
// any time, and mends what has drifted. It is safe on a busy database: one
// table per transaction, each wait for a lock bounded by LockTimeout and tried again.
//
// A table that cannot be kept right is refused with a *RefusedError; the
// others are installed all the same, and all errors are joined.
func Install(ctx context.Context, db DB, o Options, tables ...string) error {
	in := &installer{Options: o.withDefaults(), db: db, done: map[uint32]bool{}}
	if err := in.schema(ctx); err != nil {
		return err
	}
	asked, err := in.askedTables(ctx)
	if err != nil {
		return err
	}
	if err := in.register(ctx); err != nil {
		return err
	}
	var errs []error
	for _, name := range append(slices.Clone(tables), asked...) {
		errs = append(errs, in.table(ctx, name))
	}
	return errors.Join(errs...)
}

// NewHistory empties the outbox by DELETE, draws a new history id, takes
// this cluster's identity, and registers the tables under the oids that they have here: for an outbox that came with a dump restored into another cluster, or
// through pg_upgrade. Every node loads its tables again.
func NewHistory(ctx context.Context, db DB, o Options) error {
	in := &installer{Options: o.withDefaults(), db: db}
	if _, err := installedVersion(ctx, db, in.Schema); err != nil {
		return err
	}
	return in.tx(ctx, "start a new history", func(tx pgx.Tx) error {
		if err := in.run(ctx, tx, "new_history.sql", in.vars()); err != nil {
			return err
		}
		return in.run(ctx, tx, "by_name.sql", in.vars())
	})
}

// schema makes or upgrades the schema, and sets the bell.
func (in *installer) schema(ctx context.Context) error {
	version, err := installedVersion(ctx, in.db, in.Schema)
	if err != nil && !errors.Is(err, ErrNotInstalled) {
		return err
	}
	if err := in.mayInstall(ctx, version > 0); err != nil {
		return err
	}
	if version > Version {
		return fmt.Errorf("%w: schema %s has version %d, this program knows %d: install with a newer one", ErrNewerSchema, in.Schema, version, Version)
	}
	bell, err := in.bell(ctx, version > 0)
	if err != nil {
		return err
	}
	if err := in.rowBytes(ctx, version > 0); err != nil {
		return err
	}
	if in.found = version; in.Print == nil {
		in.found = Version
	}
	return in.tx(ctx, "install the schema", func(tx pgx.Tx) error {
		for _, f := range schemaFiles {
			if err := in.run(ctx, tx, f, in.vars()); err != nil {
				return err
			}
		}
		if bell != "" {
			return in.run(ctx, tx, bell, in.vars())
		}
		return nil
	})
}

// rowBytes checks Options.MaxRowBytes, or finds what it was.
func (in *installer) rowBytes(ctx context.Context, installed bool) error {
	switch n := in.MaxRowBytes; {
	case n != 0 && (n < leastRowBytes || n > mostRowBytes):
		return fmt.Errorf("triggers: MaxRowBytes %d: it must be from %d to %d", n, leastRowBytes, mostRowBytes)
	case n != 0 || !installed:
		return nil
	}
	// The source is asked and not the function: who installs may not be allowed to run it.
	err := in.db.QueryRow(ctx, `select coalesce((select substring(pg_get_function_sqlbody(p.oid) from '[0-9]+')::int
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = $1 and p.proname = 'row_limit'), 0)`, in.Schema).Scan(&in.MaxRowBytes)
	if err != nil {
		return fmt.Errorf("triggers: read the largest row that is copied: %w", err)
	}
	return nil
}

// installedVersion is the version in the schema's meta; ErrNotInstalled where
// there is none.
func installedVersion(ctx context.Context, q querier, schema string) (int, error) {
	var version int
	meta := pgx.Identifier{schema, "meta"}.Sanitize()
	err := q.QueryRow(ctx, "select version from "+meta).Scan(&version)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000"), errors.Is(err, pgx.ErrNoRows):
		return 0, fmt.Errorf("%w (schema %s): run lockstep install", ErrNotInstalled, schema)
	case err != nil:
		return 0, fmt.Errorf("triggers: read the schema's version: %w", err)
	}
	return version, nil
}

// table puts capture on one table, in a transaction of its own.
func (in *installer) table(ctx context.Context, name string) error {
	t, err := in.lookUp(ctx, in.db, name)
	if err != nil {
		return err
	}
	if in.done[t.OID] {
		return nil
	}
	in.done[t.OID] = true
	if right, err := in.isRight(ctx, t); err != nil || right {
		return err
	}
	return in.tx(ctx, "put capture on "+t.Quoted, func(tx pgx.Tx) error {
		if in.Print != nil {
			return in.take(ctx, tx, t)
		}
		// Whoever wrote the table before us has committed once we have the lock, and what
		// it is, and what is left out of it, may have changed while we waited.
		if err := in.lock(ctx, tx, t.Quoted, writers); err != nil {
			return err
		}
		now, err := in.lookUp(ctx, tx, name)
		if err != nil {
			return err
		}
		return in.take(ctx, tx, now)
	})
}

func (in *installer) attach(ctx context.Context, tx pgx.Tx, t *table) error {
	// The triggers carry the registered name and the key: capture need not look them up.
	about := map[string]string{"relation": t.Quoted, "mode": t.Mode, "keys": t.Keys, "excluded": t.Excluded, "capture": "capture", "told": t.Begins, "left_out": t.LeftOut}
	if t.Excluded != none {
		about["capture"], about["told"] = "capture_without", t.Excluded
	}
	vars := in.varsFor(t.Schema, t.Name)
	maps.Copy(vars, about)
	steps := []string{"grant_owner.sql", "attach_statement.sql"}
	switch {
	case t.Mode == "row" && t.Excluded != none:
		steps = []string{steps[0], "attach_row_without.sql", "attach_partition.sql"}
	case t.Mode == "row":
		steps[1] = "attach_row.sql"
	}
	if err := in.sayExcluded(t); err != nil {
		return err
	}
	for _, f := range steps {
		if err := in.run(ctx, tx, f, vars); err != nil {
			return err
		}
	}
	if err := in.dropOther(ctx, tx, t); err != nil {
		return err
	}
	for _, p := range t.Partitions {
		of := in.varsFor(p.Schema, p.Name)
		maps.Copy(of, about)
		if err := in.run(ctx, tx, "attach_partition.sql", of); err != nil {
			return err
		}
	}
	return in.run(ctx, tx, "register.sql", vars)
}

// isRight reports whether nothing needs to be done: no lock is taken then.
func (in *installer) isRight(ctx context.Context, t *table) (bool, error) {
	if in.Print != nil {
		return false, nil
	}
	var name, mode, excluded, leftOut string
	err := in.db.QueryRow(ctx, `select t.name, t.mode, t.excluded::text, coalesce(l.columns::text, '{}')
		from `+tablesOf(in.Options)+" t left join "+leftOutOf(in.Options)+" l on l.name = t.name where t.relid = $1", t.OID).Scan(&name, &mode, &excluded, &leftOut)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("triggers: read the register: %w", err)
	}
	found, err := drift(ctx, in.db, in.Options) // what it is refused for has been looked at
	if err != nil {
		return false, err
	}
	for _, f := range found {
		if f.Table == name {
			return false, nil
		}
	}
	return mode == t.Mode && excluded == t.Excluded && leftOut == t.LeftOut, nil
}

// register brings the register to the tables that are there.
func (in *installer) register(ctx context.Context) error {
	return in.tx(ctx, "bring the register up to date", func(tx pgx.Tx) error {
		return in.run(ctx, tx, "by_name.sql", in.vars())
	})
}

// run renders one file and runs or prints it.
func (in *installer) run(ctx context.Context, tx pgx.Tx, file string, vars map[string]string) error {
	sql, err := render(file, vars)
	if err != nil {
		return err
	}
	if in.Print != nil {
		_, err := fmt.Fprintf(in.Print, "%s\n", strings.TrimRight(sql, "\n"))
		return err
	}
	if _, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("triggers: %s: %w", file, err)
	}
	return nil
}

// tx runs fn in a transaction whose waits for locks are bounded, and tries
// again when a lock was not to be had. When printing it prints the frame.
func (in *installer) tx(ctx context.Context, what string, fn func(pgx.Tx) error) error {
	timeout := fmt.Sprintf("set local lock_timeout = %d;", in.LockTimeout.Milliseconds())
	if in.Print != nil {
		fmt.Fprintf(in.Print, "-- %s\nbegin;\n%s\n", strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(what), timeout) // a name may have a line's end
		if err := fn(nil); err != nil {
			return err
		}
		_, err := io.WriteString(in.Print, "commit;\n\n")
		return err
	}
	var err error
	for try := range in.Retries + 1 {
		if err = in.try(ctx, timeout, fn); !isLockTimeout(err) {
			return err
		}
		in.Logger.Info("waiting for a lock", "to", what, "try", try+1)
		pause := time.Duration(min(1<<try, 32)) * 100 * time.Millisecond
		select {
		case <-ctx.Done():
			return fmt.Errorf("triggers: %s: %w", what, ctx.Err())
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
	return fmt.Errorf("triggers: %s: %w in %d tries of %s (a long transaction writes the table): lockstep doctor names such; end it, or run this again when the table is quieter (what was done before it is done): %w", what, ErrLocked, in.Retries+1, in.LockTimeout, err)
}

func (in *installer) try(ctx context.Context, timeout string, fn func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, in.db, func(tx pgx.Tx) error {
		// One install at a time: CREATE OR REPLACE of one function by two fails. What an
		// earlier one has left must be seen, once it is over.
		if _, err := tx.Exec(ctx, "set transaction isolation level read committed;"+timeout+"select pg_advisory_xact_lock(hashtext('lockstep install'))"); err != nil {
			return err
		}
		return fn(tx)
	})
}

func isLockTimeout(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "55P03" || pgErr.Code == "40P01")
}
