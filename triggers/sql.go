package triggers

import (
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/psql"
)

//go:embed sql/*.sql
var files embed.FS

// render is one of the files with its names put in.
func render(file string, vars map[string]string) (string, error) {
	return psql.Render(files, "sql/"+file, vars)
}

// vars are the variables that do not depend on a table.
func (o Options) vars() map[string]string {
	v := map[string]string{
		"schema":        o.Schema,
		"schema_quoted": pgx.Identifier{o.Schema}.Sanitize(),
		"owner":         o.Owner,
		"publication":   psql.Publication(o.Schema),
		"row_limit":     strconv.Itoa(cmp.Or(o.MaxRowBytes, mostRowBytes)),
		"version":       strconv.Itoa(Version),
		"min_node":      strconv.Itoa(MinNode),
	}
	for i, kind := range triggerKinds {
		v[kind+"_trigger"] = o.triggerNames()[i]
	}
	return v
}

// triggerKinds is the order in which inspect.sql takes the triggers' names.
var triggerKinds = []string{"insert", "update", "delete", "truncate", "row"}

// triggerNames are the names of our triggers on a table, by triggerKinds. Two
// installs in schemas of their own may track one table, so a schema other
// than the default is told apart by a hash of its name, which fits any length.
func (o Options) triggerNames() []string {
	tag := ""
	if o.Schema != DefaultSchema {
		sum := sha256.Sum256([]byte(o.Schema))
		tag = "_" + hex.EncodeToString(sum[:4])
	}
	names := make([]string, len(triggerKinds))
	for i, kind := range triggerKinds {
		names[i] = "lockstep_" + kind + tag
	}
	return names
}

func leftOutOf(o Options) string { return pgx.Identifier{o.Schema, "left_out"}.Sanitize() }

func tablesOf(o Options) string { return pgx.Identifier{o.Schema, "tables"}.Sanitize() }
