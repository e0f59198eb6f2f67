package serve

import (
	"encoding/json"
	"strings"

	"github.com/pglockstep/lockstep"
)

// Tables are the tables that are served, by their names.
type Tables struct {
	list   []*lockstep.Table[string, json.RawMessage]
	byName map[string]*lockstep.Table[string, json.RawMessage]
}

// Declare declares a table of documents for each name, as SQL writes it. A
// name that is given again, in another spelling too, counts once.
func Declare(names []string) *Tables {
	t := &Tables{byName: make(map[string]*lockstep.Table[string, json.RawMessage])}
	for _, n := range names {
		id := identity(n)
		if t.byName[id] != nil {
			continue
		}
		d := lockstep.Documents(n)
		t.list = append(t.list, d)
		t.byName[id] = d
	}
	return t
}

// Alias lets a declared table be asked for by another name.
func (t *Tables) Alias(other, name string) {
	if d := t.byName[identity(name)]; d != nil && t.byName[identity(other)] == nil {
		t.byName[identity(other)] = d
	}
}

// Any is what Start takes.
func (t *Tables) Any() []lockstep.AnyTable {
	out := make([]lockstep.AnyTable, len(t.list))
	for i, d := range t.list {
		out[i] = d
	}
	return out
}

func (t *Tables) find(name string) *lockstep.Table[string, json.RawMessage] {
	return t.byName[identity(name)]
}

// identity is the same for every spelling of one name: SQL folds what is not
// quoted, and quotes may stand where they need not. What is no name stays as it is.
func identity(name string) string {
	var parts []string
	rest := name
	for {
		rest = strings.TrimLeft(rest, " \t\r\n")
		var part string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			part, rest, ok = unquote(quoted)
			if !ok {
				return name
			}
		} else {
			end := strings.IndexAny(rest, ". \t\r\n\"")
			if end < 0 {
				end = len(rest)
			}
			part, rest = fold(rest[:end]), rest[end:]
		}
		parts = append(parts, strings.ReplaceAll(part, `"`, `""`))
		rest = strings.TrimLeft(rest, " \t\r\n")
		if part == "" || rest != "" && rest[0] != '.' {
			return name
		}
		if rest == "" {
			return `"` + strings.Join(parts, `"."`) + `"`
		}
		rest = rest[1:]
	}
}

// unquote reads up to the quote that ends an identifier.
func unquote(s string) (part, rest string, ok bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, `"`)
		if !found {
			return "", "", false
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after, true
		}
		b.WriteByte('"')
		s = after[1:]
	}
}

// fold is what SQL does to a name without quotes in a database of UTF-8.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
