package checkpoint

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Shape is what the encoded rows of a table are made of, and what their meaning depends on.
type Shape struct {
	// Document: a row is the text of a JSON document, and there are no columns.
	Document bool
	Row      string   // the Go type that rows are read into, to its parts
	Key      []string // the primary key's columns, in its order
	Columns  []ShapeColumn
	ReadBy   string // identifies the one program that may read the rows; "" where any may that knows the type
}

// ShapeColumn is a column of an encoded row.
type ShapeColumn struct {
	Name   string
	OID    uint32
	Format int16
	Codec  string // that pgx has for the type, "none" without one
}

// String writes the shape down. Two shapes are the same where their texts are.
func (s Shape) String() string {
	var b strings.Builder
	if s.Document {
		return fmt.Sprintf("document, key %q", s.Key)
	}
	fmt.Fprintf(&b, "row %s\nkey", s.Row)
	for _, k := range s.Key {
		fmt.Fprintf(&b, " %q", k)
	}
	for _, c := range s.Columns {
		fmt.Fprintf(&b, "\ncolumn %q type %d format %d codec %s", c.Name, c.OID, c.Format, c.Codec)
	}
	if s.ReadBy != "" {
		b.WriteString("\nread by " + s.ReadBy)
	}
	return b.String()
}

var errShape = errors.New("a table is described in a way that this version does not know")

// ParseShape reads what String has written.
func ParseShape(text string) (s Shape, err error) {
	if keys, ok := strings.CutPrefix(text, "document, key ["); ok {
		s.Document = true
		s.Key, err = quotedList(strings.TrimSuffix(keys, "]"))
		return s, err
	}
	for i, line := range strings.Split(text, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case i == 0 && word == "row":
			s.Row = rest
		case i == 1 && word == "key":
			if s.Key, err = quotedList(rest); err != nil {
				return s, err
			}
		case i > 1 && word == "column" && s.ReadBy == "":
			c, err := parseColumn(rest)
			if err != nil {
				return s, err
			}
			s.Columns = append(s.Columns, c)
		case i > 1 && strings.HasPrefix(line, "read by "):
			s.ReadBy = strings.TrimPrefix(line, "read by ")
		default:
			return s, errShape
		}
	}
	if s.String() != text {
		return s, errShape
	}
	return s, nil
}

func quotedList(text string) (list []string, err error) {
	for text != "" {
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return nil, errShape
		}
		item, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, errShape
		}
		list, text = append(list, item), strings.TrimPrefix(text[len(quoted):], " ")
	}
	return list, nil
}

func parseColumn(text string) (c ShapeColumn, err error) {
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return c, errShape
	}
	if c.Name, err = strconv.Unquote(quoted); err != nil {
		return c, errShape
	}
	if _, err := fmt.Sscanf(text[len(quoted):], " type %d format %d codec %s", &c.OID, &c.Format, &c.Codec); err != nil {
		return c, errShape
	}
	return c, nil
}
