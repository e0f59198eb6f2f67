package triggers

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

//go:embed sql/*.sql
var files embed.FS

// maxName is NAMEDATALEN - 1: the bytes that an identifier may have.
const maxName = 63

// variable matches psql's :"name" (an identifier) and :'name' (a literal).
var variable = regexp.MustCompile(`:"([a-z_]+)"|:'([a-z_]+)'`)

// render is one of the files with psql's variables put in, as psql -v would:
// :"name" quoted as an identifier, :'name' as a literal. It is the only place
// where SQL and names meet. A variable without a value is a mistake of this package.
func render(file string, vars map[string]string) (string, error) {
	b, err := files.ReadFile("sql/" + file)
	if err != nil {
		return "", fmt.Errorf("triggers: %w", err)
	}
	var missing []string
	sql := variable.ReplaceAllStringFunc(string(b), func(m string) string {
		name := m[2 : len(m)-1]
		v, ok := vars[name]
		if !ok {
			missing = append(missing, name)
		}
		if m[1] == '"' {
			return pgx.Identifier{v}.Sanitize()
		}
		return literal(v)
	})
	if missing != nil {
		return "", fmt.Errorf("triggers: %s: no value for %s", file, strings.Join(missing, ", "))
	}
	return sql, nil
}

// literal quotes s as a string constant, also where standard_conforming_strings is off.
func literal(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return " E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}

// vars are the variables that do not depend on a table.
func (o Options) vars() map[string]string {
	v := map[string]string{
		"schema":        o.Schema,
		"schema_quoted": pgx.Identifier{o.Schema}.Sanitize(),
		"owner":         o.Owner,
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

func trimRune(s string) string {
	_, n := utf8.DecodeLastRuneInString(s)
	return s[:len(s)-n]
}
