package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep/triggers"
)

// expand turns schema.* into the tables of the schema that can be captured, or
// are, and says which it leaves out, and why.
func expand(ctx context.Context, pool *pgxpool.Pool, schema string, names []string, say io.Writer, captured bool) ([]string, error) {
	return expandBy(names, func(from string) (out []string, err error) {
		found, err := candidates(ctx, pool, schema, from, captured)
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			if len(c.Refused) > 0 {
				fmt.Fprintf(say, "left out %s: %s\n", c.Name, strings.Join(c.Refused, "; "))
				continue
			}
			out = append(out, c.Name)
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("schema %s has no table that can be kept", from)
		}
		return out, nil
	})
}

// expandBy puts in the place of schema.* the tables that all finds in the schema.
func expandBy(names []string, all func(schema string) ([]string, error)) ([]string, error) {
	var out []string
	for _, name := range names {
		from, ok := strings.CutSuffix(name, ".*")
		if !ok {
			out = append(out, name)
			continue
		}
		found, err := all(from)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// candidates are the tables of a schema. With captured a table counts as
// refused until it has been installed.
func candidates(ctx context.Context, pool *pgxpool.Pool, schema, from string, captured bool) ([]triggers.Candidate, error) {
	o := triggers.Options{Schema: schema}
	found, err := triggers.Candidates(ctx, pool, o, from)
	if err != nil || !captured {
		return found, err
	}
	tracked, err := trackedNames(ctx, pool, o)
	if err != nil {
		return nil, err
	}
	for i, c := range found {
		if len(c.Refused) == 0 && !slices.Contains(tracked, c.Name) {
			found[i].Refused = []string{"it is not captured: run lockstep install --table " + shellQuote(c.Name)}
		}
	}
	return found, nil
}

// trackedNames are the present names of the tables that are captured: the
// register has those that they had at install.
func trackedNames(ctx context.Context, pool *pgxpool.Pool, o triggers.Options) ([]string, error) {
	tracked, err := triggers.Tables(ctx, pool, o)
	if err != nil {
		return nil, err
	}
	oids := make([]uint32, len(tracked))
	for i, t := range tracked {
		oids[i] = t.OID
	}
	rows, _ := pool.Query(ctx, `select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
		from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = any($1)`, oids) // the error comes with the rows
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// shellQuote writes a word as a shell reads it.
func shellQuote(s string) string {
	if !strings.ContainsAny(s, " \"'\\$`*?[](){}<>|&;!#~\t\n") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// fullName is what Postgres calls a table, with its schema; a table that is
// not there keeps the name that it was given, for whoever says what is wrong.
func fullName(ctx context.Context, pool *pgxpool.Pool, name string) (string, error) {
	full := name
	err := pool.QueryRow(ctx, `select coalesce((
		select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
		from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)), $1)`, name).Scan(&full)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return "", fmt.Errorf("--table %s: %s: write it as SQL does, quoted where SQL needs it", name, pgErr.Message)
	}
	return full, err
}

// completeWords lets the shell complete a flag that takes one of a few words.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}
