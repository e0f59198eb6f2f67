// Package psql puts names into .sql files the way psql does with -v, so that
// one file serves both.
package psql

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// ByIndex keeps queries on a large outbox to its indexes, for this transaction only, since a pool's connections
// are shared. A plan that must scan a small table all the same is then priced at ten billion, for which Postgres would
// compile the query, in a second of processor time: hence no JIT.
const ByIndex = "set local enable_seqscan = off; set local jit = off"

// variable matches psql's :"name" (an identifier) and :'name' (a literal).
var variable = regexp.MustCompile(`:"([a-z_]+)"|:'([a-z_]+)'`)

// include matches psql's \ir, alone on its line: the file, beside this one, is read in its place.
var include = regexp.MustCompile(`(?m)^ *\\ir ([a-z_]+\.sql)\n`)

// Render reads a file, and those that it includes, and puts psql's variables in: :"name" quoted as an identifier,
// :'name' as a literal. It is the only place where SQL text and names meet. A
// variable without a value is an error.
func Render(files fs.FS, file string, vars map[string]string) (string, error) {
	text, err := read(files, file)
	if err != nil {
		return "", fmt.Errorf("psql: %w", err)
	}
	var missing []string
	sql := variable.ReplaceAllStringFunc(text, func(m string) string {
		name := m[2 : len(m)-1]
		v, ok := vars[name]
		if !ok {
			missing = append(missing, name)
		}
		if m[1] == '"' {
			return pgx.Identifier{v}.Sanitize()
		}
		return Literal(v)
	})
	if missing != nil {
		return "", fmt.Errorf("psql: %s: no value for %s", file, strings.Join(missing, ", "))
	}
	return sql, nil
}

// read is a file with what it includes.
func read(files fs.FS, file string) (text string, err error) {
	b, err := fs.ReadFile(files, file)
	if err != nil {
		return "", err //nolint:wrapcheck // it names the file
	}
	text = include.ReplaceAllStringFunc(string(b), func(line string) string {
		included, readErr := read(files, path.Join(path.Dir(file), include.FindStringSubmatch(line)[1]))
		err = errors.Join(err, readErr)
		return included
	})
	return text, err
}

// Literal quotes s as a string constant, whatever standard_conforming_strings is.
func Literal(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return " E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}

// MaxName is NAMEDATALEN - 1: the bytes that an identifier may have.
const MaxName = 63

// Suffixed is a name of ours that is made from another's. Where the two together
// are too long a hash of the name takes the place of its end, so that long names
// which begin alike stay different.
func Suffixed(name, suffix string) string {
	if len(name)+len(suffix) <= MaxName {
		return name + suffix
	}
	sum := sha256.Sum256([]byte(name))
	suffix = "_" + hex.EncodeToString(sum[:4]) + suffix
	for len(name)+len(suffix) > MaxName {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	return name + suffix
}

// Publication is the WAL bell's, for the outbox in a schema.
func Publication(schema string) string { return Suffixed(schema, "_bell") }
