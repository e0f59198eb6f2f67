package lockstep

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Documents declares a table without Go types: a row is the JSON document that
// Postgres' row_to_json gives for it under pinned settings, and its key is
// what DocumentKey makes of the primary key. Put and Delete write it, as
// PutDocument says; Update is refused.
//
// A document may hold white space, where a json column does: json.Compact puts
// it on one line.
func Documents(name string) *Table[string, json.RawMessage] {
	var t *Table[string, json.RawMessage]
	t = NewTable(name, func(doc json.RawMessage) string { return keyOfDocument(t.keyColumns(), doc) },
		func(t *Table[string, json.RawMessage]) {
			t.doc = true
			t.row = func(row pgx.CollectableRow) (json.RawMessage, error) {
				raw := row.RawValues()
				if len(raw) != 1 || !json.Valid(raw[0]) {
					return nil, errors.New("the row is no JSON document")
				}
				if keyOfDocument(t.keyColumns(), raw[0]) == "" {
					return nil, errors.New("the document has no key")
				}
				return bytes.Clone(raw[0]), nil
			}
			t.same = func(x, y json.RawMessage) bool { return bytes.Equal(x, y) }
		})
	return t
}

// DocumentKeyColumns are the names of a table's primary key columns, in its
// order, as of its last load; none before that.
func DocumentKeyColumns(t *Table[string, json.RawMessage]) []string { return t.keyColumns() }

// keyOfDocument finds the key's members in a document, and is "" where one is missing.
func keyOfDocument(columns []string, doc json.RawMessage) string {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return ""
	}
	parts := make([]string, len(columns))
	for i, c := range columns {
		part, err := canonical(members[c])
		if err != nil {
			return ""
		}
		parts[i] = part
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// DocumentKey reads a key as a client writes it, the JSON of the key column or
// a JSON array in the order of the primary key, and returns the key under which
// Documents keeps the row. Numbers are taken as they are written and never
// go through floating point; strings may be escaped in any way.
func DocumentKey(text string) (string, error) {
	trimmed := strings.TrimSpace(text)
	if !strings.HasPrefix(trimmed, "[") {
		key, err := canonical(json.RawMessage(trimmed))
		if err != nil {
			return "", fmt.Errorf("lockstep: key %q: %w (want the JSON of the key: 7, \"text\", [1,\"b\"])", text, err)
		}
		return key, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(trimmed), &list); err != nil {
		return "", fmt.Errorf("lockstep: key %q is no JSON array: %w", text, err)
	}
	parts := make([]string, len(list))
	for i, v := range list {
		part, err := canonical(v)
		if err != nil {
			return "", fmt.Errorf("lockstep: key %q: element %d: %w", text, i+1, err)
		}
		parts[i] = part
	}
	return "[" + strings.Join(parts, ",") + "]", nil
}

var escape = regexp.MustCompile(`\\(?:u[0-9a-fA-F]{4}|.)`)

// replacements counts U+FFFD in a JSON string as it is written. Decoding puts
// more of them, for broken bytes and halves of surrogate pairs: no text in Postgres
// has those, and they must not find a row whose key has a U+FFFD.
func replacements(v json.RawMessage) int {
	n := bytes.Count(v, []byte("\ufffd"))
	for _, e := range escape.FindAll(v, -1) {
		if bytes.EqualFold(e, []byte(`\ufffd`)) {
			n++
		}
	}
	return n
}

// canonical writes a JSON scalar in one way: strings are decoded and encoded
// again, everything else stays as it is.
func canonical(v json.RawMessage) (string, error) {
	if !json.Valid(v) {
		return "", errors.New("it is not JSON")
	}
	switch v[0] {
	case '"':
		var s string
		if err := json.Unmarshal(v, &s); err != nil {
			return "", err //nolint:wrapcheck // the caller says of what
		}
		if n := strings.Count(s, "\ufffd"); n > 0 && n != replacements(v) {
			return "", errors.New("it is not Unicode")
		}
		b, err := json.Marshal(s)
		return string(b), err //nolint:wrapcheck // a string always encodes
	case '{', '[':
		return "", errors.New("a key column is no object or array")
	case 'n':
		return "", errors.New("a key column is never null")
	}
	return string(v), nil
}
