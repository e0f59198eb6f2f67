package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep/triggers"
)

func installCommand(o *options) *cobra.Command {
	var tables, excluded, all []string
	var t triggers.Options
	var bell string
	var printSQL, newHistory bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Make the schema and put capture on tables; safe on a busy database, and again at any time",
		Long: `install makes the schema and puts capture on tables. It is safe on a busy database and
may be run again at any time.

How nodes learn of a commit is the bell:
  notify  the commit notifies them, which costs it a little; it forbids PREPARE TRANSACTION
  wal     they read the log: the commit costs nothing more. It needs wal_level = logical, and for
          each node a slot, a walsender and a role with REPLICATION. Nodes without it poll
  off     they poll
Nodes that run go over to another bell by themselves.

--exclude-columns names the columns of a table that are never copied into the outbox, such as secrets
and large documents. The list replaces the one before: what is not named is captured again.
--all-columns public.employees captures all of them. Either flag also installs the table. Without them
nothing changes: what is left out stays so by name, also for a table or a column that is made under that
name later. install says what it changes, inspect what is left out. A node whose Go type has such a
column refuses the table. What the outbox holds already stays until it is trimmed.`,
		Example: `  lockstep install --table public.employees --table public.departments
  lockstep install --table 'public.*'
  lockstep install --table public.employees --print-sql > review.sql
  lockstep install --exclude-columns public.employees=ssn,photo --exclude-columns 'public."Odd=Name"="Some Column"'
  lockstep install --bell wal
  lockstep install --new-history   # after a dump was restored here, or pg_upgrade`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if t.ExcludeColumns, err = columnsByTable(excluded, all); err != nil {
				return err
			}
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			t.Schema, t.Bell, t.Logger = o.schema, triggers.Bell(bell), logger()
			out := cmd.OutOrStdout()
			if printSQL {
				t.Print = out
			}
			names, err := expand(cmd.Context(), pool, o.schema, tables, cmd.ErrOrStderr(), false)
			if err != nil {
				return err
			}
			if newHistory {
				if err := triggers.NewHistory(cmd.Context(), pool, t); err != nil {
					return err
				}
			}
			if err := triggers.Install(cmd.Context(), pool, t, names...); err != nil || printSQL {
				return err
			}
			return sayInstalled(cmd.Context(), pool, t, out)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&tables, "table", nil, "table as SQL writes it, or schema.*; may be given again")
	f.BoolVar(&printSQL, "print-sql", false, "print the SQL instead of running it")
	f.StringVar(&bell, "bell", "", "notify, wal or off; default: as it is, at first notify unless max_prepared_transactions is set")
	f.BoolVar(&newHistory, "new-history", false, "empty the outbox and begin a new history: every node loads again")
	completeWords(cmd, "bell", string(triggers.BellNotify), string(triggers.BellWAL), string(triggers.BellOff))
	f.IntVar(&t.MaxRowBytes, "max-row-bytes", 0, "rows that are stored in more bytes are not copied into the outbox but read by their key; 64 to 131072; default: as it is, at first 131072")
	f.StringArrayVar(&excluded, "exclude-columns", nil, "table=column,... as SQL writes them: never copied into the outbox; may be given again, for another table")
	f.StringArrayVar(&all, "all-columns", nil, "table of which no column is left out any more; may be given again")
	f.BoolVar(&t.Published, "published", false, "make the schema although a publication FOR ALL TABLES carries it: every subscriber has it already")
	f.StringVar(&t.Owner, "owner", "", "NOLOGIN role that owns the functions; default: the schema's name and _capture")
	return cmd
}

func sayInstalled(ctx context.Context, pool *pgxpool.Pool, t triggers.Options, out io.Writer) error {
	tracked, err := triggers.Tables(ctx, pool, t)
	if err != nil {
		return err
	}
	version, err := triggers.InstalledVersion(ctx, pool, t)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "schema %s, version %d; %d tables are captured\n", t.Schema, version, len(tracked))
	for _, tab := range tracked {
		without := ""
		if len(tab.Excluded) > 0 {
			without = ", without " + strings.Join(tab.Excluded, ", ")
		}
		fmt.Fprintf(out, "  %-40s key (%s), %s capture%s\n", tab.Name, strings.Join(tab.Key, ", "), tab.Mode, without)
	}
	return nil
}

func uninstallCommand(o *options) *cobra.Command {
	var t triggers.Options
	var tables []string
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take capture off every table and drop the schema, or off some tables; they are as they were",
		Long: `uninstall takes capture off every table and drops the schema: nodes that run are stale from then on, and
answer from memory.

With --table it takes capture off these tables and leaves the rest: nodes that keep one say at once that it is
captured no more, are stale, and answer from memory. lockstep install --table brings it back, and nodes load it again.
A node that starts meanwhile and declares such a table does not start: do not deploy until it is back, or take it out first.

It locks the table as a whole: it waits for those who read or write it, and new reads and writes wait for it, for three seconds at
a time and eleven times at the most.`,
		Example: `  lockstep uninstall
  lockstep uninstall --table public.employees`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			t.Schema, t.Logger = o.schema, logger()
			if len(tables) > 0 {
				return detach(cmd, pool, t, tables)
			}
			if err := triggers.Uninstall(cmd.Context(), pool, t); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "schema %s is gone, and no table is captured any more\n", pgx.Identifier{o.schema}.Sanitize())
			return nil
		},
	}
	cmd.Flags().StringVar(&t.Owner, "owner", "", "role that owns the functions; default: the schema's name and _capture")
	cmd.Flags().StringArrayVar(&tables, "table", nil, "take capture off this table only, as SQL writes it, or schema.* for all that are captured; may be given again")
	return cmd
}

// detach takes capture off tables, and says of each what has become of it.
func detach(cmd *cobra.Command, pool *pgxpool.Pool, t triggers.Options, tables []string) error {
	tracked, err := trackedNames(cmd.Context(), pool, t)
	if err != nil {
		return err
	}
	names, err := expandBy(tables, func(from string) ([]string, error) {
		found := slices.DeleteFunc(slices.Clone(tracked), func(table string) bool { return !strings.HasPrefix(table, from+".") })
		if len(found) == 0 {
			return nil, fmt.Errorf("no table of schema %s is captured", from)
		}
		return found, nil
	})
	if err != nil {
		return err
	}
	errs := make([]error, len(names))
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		if errs[i] = triggers.Detach(cmd.Context(), pool, t, name); errs[i] == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "%s is not captured any more\n", name)
		}
	}
	return errors.Join(errs...)
}

// errDrift is the exit status of inspect; its findings have been printed.
var errDrift = errors.New("the install has drifted: see above")

func inspectCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "inspect",
		Short:   "Say what is captured and what has drifted; exit status 1 on drift",
		Example: "  lockstep inspect",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			t := triggers.Options{Schema: o.schema}
			found, err := triggers.Inspect(cmd.Context(), pool, t)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := sayInstalled(cmd.Context(), pool, t, out); err != nil {
				return err
			}
			for _, f := range found {
				where := f.Table
				if where == "" {
					where = "the install"
				}
				fmt.Fprintf(out, "drift: %s: %s: %s; mend it with: %s\n", where, f.Kind, f.What, f.Mend)
			}
			if len(found) > 0 {
				return errDrift
			}
			fmt.Fprintln(out, "nothing has drifted")
			return nil
		},
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  lockstep version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
			}
			fmt.Fprintf(cmd.OutOrStdout(), "lockstep %s, schema version %d\n", version, triggers.Version)
			return nil
		},
	}
}
