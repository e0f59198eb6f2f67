package window

import (
	"bytes"
	"cmp"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pglockstep/lockstep"
)

// What a look is bounded by, whatever the table and its rows are.
const (
	maxRows    = 25     // shown
	maxVisited = 20_000 // rows that a search goes through
	maxColumns = 40
	maxCell    = 120 // characters
)

// Query is what somebody wants to see of a table.
type Query struct {
	Table string `json:"table"`
	Find  string `json:"find,omitempty"` // a key, or a part of one
	// Keys are those of an earlier answer that was Partial: to be read again, without a search.
	Keys []string `json:"keys,omitempty"`
}

// Look is the answer: rows of one instant, by key.
type Look struct {
	Columns []string `json:"columns"`
	Rows    []Row    `json:"rows"`
	Total   int      `json:"total"`   // rows in the table
	Matches int      `json:"matches"` // among those visited
	// Partial says that not all rows were visited: the table has too many.
	Partial bool `json:"partial,omitempty"`
}

// Row is one row. A cell is nil where the value is NULL.
type Row struct {
	Key   string    `json:"key"`
	Cells []*string `json:"cells"`
}

// Table is a table that can be looked into.
type Table struct {
	of   string // the node's name for it
	name string // the page's
	len  func(v *lockstep.View) int
	all  func(v *lockstep.View) iter.Seq2[string, any]
	get  func(v *lockstep.View, key string) (any, bool)
}

// TableOf lets a table be looked into: text writes a key as people read it, and
// key reads that again. Rows are shown as encoding/json writes them.
func TableOf[K comparable, T any](t *lockstep.Table[K, T], text func(K) string, key func(string) (K, error)) *Table {
	return &Table{
		of: t.Name(), name: t.Name(),
		len: func(v *lockstep.View) int { return t.At(v).Len() },
		all: func(v *lockstep.View) iter.Seq2[string, any] {
			return func(yield func(string, any) bool) {
				for k, row := range t.At(v).All() {
					if !yield(text(k), row) {
						return
					}
				}
			}
		},
		get: func(v *lockstep.View, s string) (any, bool) {
			k, err := key(s)
			if err != nil {
				return nil, false
			}
			return t.At(v).Get(k)
		},
	}
}

// As lets the page show the table under another name than the node's.
func (t *Table) As(name string) *Table {
	t.name = name
	return t
}

// Documents are those tables that lockstep.Documents has declared.
func Documents(all []lockstep.AnyTable) (tables []*Table) {
	for _, t := range all {
		if d, ok := t.(*lockstep.Table[string, json.RawMessage]); ok {
			tables = append(tables, TableOf(d, func(k string) string { return k }, lockstep.DocumentKey))
		}
	}
	return tables
}

func (t *Table) look(v *lockstep.View, q Query) Look {
	l := Look{Columns: []string{}, Rows: []Row{}, Total: t.len(v), Matches: len(q.Keys), Partial: len(q.Keys) > 0}
	keys := q.Keys
	if len(keys) == 0 {
		keys, l.Matches, l.Partial = t.pick(v, q.Find)
	}
	places := make(map[string]int)
	for _, k := range keys[:min(len(keys), maxRows)] {
		if row, ok := t.get(v, k); ok {
			l.add(places, k, row)
		}
	}
	for i, r := range l.Rows { // those before a column that they lack
		l.Rows[i].Cells = append(r.Cells, make([]*string, len(l.Columns)-len(r.Cells))...)
	}
	return l
}

// pick finds the first keys, in order, that have the text in them; before them
// the one that is meant exactly, which is found in a table of any size.
func (t *Table) pick(v *lockstep.View, find string) (keys []string, matches int, partial bool) {
	find = strings.TrimSpace(find)
	exact := t.exact(v, find)
	visited := 0
	for k := range t.all(v) {
		if visited++; visited > maxVisited {
			partial = true
			break
		}
		if k == exact || !strings.Contains(k, find) {
			continue
		}
		matches++
		if at, _ := slices.BinarySearchFunc(keys, k, compareKeys); at < maxRows {
			keys = slices.Insert(keys[:min(len(keys), maxRows-1)], at, k)
		}
	}
	if exact != "" {
		keys, matches = slices.Insert(keys, 0, exact), matches+1
	}
	return keys[:min(len(keys), maxRows)], matches, partial
}

// exact is the key that a text is, or is the text of; "" for none.
func (t *Table) exact(v *lockstep.View, find string) string {
	quoted, _ := json.Marshal(find) // a string always encodes
	for _, key := range []string{find, string(quoted)} {
		if _, ok := t.get(v, key); ok && find != "" {
			return key
		}
	}
	return ""
}

// compareKeys orders numbers by value and everything else as text.
func compareKeys(a, b string) int {
	if number(a) && number(b) {
		if c := cmp.Compare(len(a), len(b)); c != 0 {
			return c
		}
	}
	return cmp.Compare(a, b)
}

func number(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// add takes a row in; its columns are in the order in which they came first.
func (l *Look) add(places map[string]int, key string, row any) {
	doc, ok := row.(json.RawMessage)
	if !ok {
		doc, _ = json.Marshal(row) // what cannot be written has no cells
	}
	r := Row{Key: key, Cells: make([]*string, len(l.Columns))}
	in := json.NewDecoder(bytes.NewReader(doc))
	in.UseNumber()
	if _, err := in.Token(); err != nil { // the brace
		l.Rows = append(l.Rows, r)
		return
	}
	for in.More() {
		name, err := in.Token()
		var value json.RawMessage
		if err != nil || in.Decode(&value) != nil {
			break
		}
		column, _ := name.(string) // a member's name is one
		at, known := places[column]
		if !known {
			if at = len(l.Columns); at == maxColumns {
				continue
			}
			places[column] = at
			l.Columns, r.Cells = append(l.Columns, shorten(column, maxCell)), append(r.Cells, nil)
		}
		r.Cells[at] = cell(value)
	}
	l.Rows = append(l.Rows, r)
}

// cell is a value as people read it, nil for null.
func cell(value json.RawMessage) *string {
	text := string(value)
	switch value[0] {
	case 'n':
		return nil
	case '"':
		if err := json.Unmarshal(value, &text); err != nil {
			text = string(value) // it was valid when it came
		}
	}
	text = shorten(text, maxCell)
	return &text
}

// shorten cuts a text after so many characters.
func shorten(s string, most int) string {
	if len(s) <= most || utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
