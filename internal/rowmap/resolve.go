package rowmap

import (
	"errors"
	"fmt"
	"strings"
)

// Resolve finds the columns of the struct among those of a table and returns
// the table's spelling of them, in the order of Columns. The error joins, with
// the names, the columns that the table does not have, the fields without a
// tag that match several, and the columns that several fields match.
func (m *Fields) Resolve(tableColumns []string) ([]string, error) {
	names := make([]string, 0, len(m.columns))
	takenBy := make(map[string]string, len(m.columns))
	var mistakes []error
	for _, c := range m.columns {
		name, err := c.resolve(tableColumns)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		if other, ok := takenBy[name]; ok {
			mistakes = append(mistakes, fmt.Errorf("column %q is that of both %q and %q", name, other, c.name))
		}
		takenBy[name] = c.name
		names = append(names, name)
	}
	if len(mistakes) > 0 {
		return nil, fmt.Errorf("rowmap: %w", errors.Join(mistakes...))
	}
	return names, nil
}

func (c *column) resolve(tableColumns []string) (string, error) {
	var found []string
	for _, name := range tableColumns {
		switch {
		case c.tagged && name == c.name:
			return name, nil
		case c.tagged && strings.EqualFold(name, c.name),
			!c.tagged && strings.EqualFold(plain(name), plain(c.name)):
			found = append(found, name)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("%q could be any of the columns %q: name it by a db tag", c.name, found)
	}
	return "", fmt.Errorf("no column %q (the table has %q)", c.name, tableColumns)
}
