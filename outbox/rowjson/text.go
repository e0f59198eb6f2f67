package rowjson

import (
	"bytes"
	"strings"
)

// AppendText appends to dst the text form of the JSON value: byte for byte
// what the type's output function prints under the pinned settings, which its
// input function takes. isNull is true for a JSON null; nothing is appended
// then. White space around the value is skipped, except that it belongs to a
// value of type json. On an error, which tells the offset in json, out is dst.
//
// In a nullable column a JSON null of type json or jsonb is NULL like any other.
func (t *Type) AppendText(dst, json []byte) (out []byte, isNull bool, err error) {
	return t.appendWhole(dst, json, (*Type).appendText)
}

// AppendBinary is AppendText for the binary form, as the type's send function
// writes it. It must not be called where Binary reports false.
func (t *Type) AppendBinary(dst, json []byte) (out []byte, isNull bool, err error) {
	if !t.Binary() {
		return dst, false, errorAt(0, "the binary form of type %s is not known", t.name)
	}
	return t.appendWhole(dst, json, (*Type).appendBinary)
}

type appender func(t *Type, dst []byte, c *cursor) ([]byte, error)

func (t *Type) appendWhole(dst, json []byte, to appender) ([]byte, bool, error) {
	c := cursor{doc: json}
	if t.kind == kindJSON || t.kind == kindJSONB {
		return t.appendJSON(dst, &c)
	}
	isNull, err := c.null()
	if err != nil {
		return dst, false, err
	}
	out := dst
	if !isNull {
		if out, err = to(t, dst, &c); err != nil {
			return dst, false, err
		}
	}
	if c.peek(); c.pos < len(json) {
		return dst, false, c.errorf("something after the value: %s", c.here())
	}
	return out, isNull, nil
}

func (t *Type) appendJSON(dst []byte, c *cursor) ([]byte, bool, error) {
	if err := c.skip(); err != nil {
		return dst, false, err
	}
	if c.peek(); c.pos < len(c.doc) {
		return dst, false, c.errorf("something after the value: %s", c.here())
	}
	raw := c.doc
	trimmed := trimSpace(raw)
	if string(trimmed) == "null" {
		return dst, true, nil
	}
	if t.kind == kindJSONB {
		raw = trimmed
	}
	return append(dst, raw...), false, nil
}

func trimSpace(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// appendText reads one value that is not null.
func (t *Type) appendText(dst []byte, c *cursor) ([]byte, error) {
	switch t.kind {
	case kindArray:
		var s shape
		return t.appendArrayText(dst, c, 0, &s)
	case kindVector:
		return t.appendVector(dst, c)
	case kindComposite:
		return t.appendRecordText(dst, c)
	case kindJSON, kindJSONB:
		return nil, c.errorf("type %s inside another one", t.name) // Refused said so
	default:
		text, _, err := c.scalar()
		if err != nil {
			return nil, err
		}
		if t.scalar.text != nil {
			return t.scalar.text(dst, text), nil
		}
		return append(dst, text...), nil
	}
}

// appendArrayText writes the array whose '[' comes next, at the given level of
// nesting, as array_out does.
func (t *Type) appendArrayText(dst []byte, c *cursor, level int, s *shape) ([]byte, error) {
	dst = append(dst, '{')
	err := s.walk(c, level, func(i int, nested bool) error {
		if i > 0 {
			dst = append(dst, t.elem.delim)
		}
		var err error
		if nested {
			dst, err = t.appendArrayText(dst, c, level+1, s)
			return err
		}
		null, err := c.null()
		if err != nil {
			return err
		}
		if null {
			dst = append(dst, "NULL"...)
			return nil
		}
		mark := len(dst)
		if dst, err = t.elem.appendText(dst, c); err != nil {
			return err
		}
		if arrayQuotes(dst[mark:], t.elem.delim) {
			dst = quoteTail(dst, mark, '\\')
		}
		return nil
	})
	return append(dst, '}'), err
}

// appendRecordText writes an object as record_out does: (a,"b c",).
func (t *Type) appendRecordText(dst []byte, c *cursor) ([]byte, error) {
	var small [16]int
	at, end, err := t.locate(c, small[:0])
	if err != nil {
		return nil, err
	}
	dst = append(dst, '(')
	for i, f := range t.fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		if at[i] < 0 {
			continue
		}
		c.pos = at[i]
		null, err := c.null()
		if err != nil {
			return nil, err
		}
		if null {
			continue
		}
		mark := len(dst)
		if dst, err = f.typ.appendText(dst, c); err != nil {
			return nil, err
		}
		if recordQuotes(dst[mark:]) {
			dst = quoteTail(dst, mark, 0)
		}
	}
	c.pos = end
	return append(dst, ')'), nil
}

// locate finds where each field's value begins in the object that comes next,
// -1 for one that it does not have: an attribute added since reads as NULL.
func (t *Type) locate(c *cursor, at []int) (starts []int, end int, err error) {
	for range t.fields {
		at = append(at, -1)
	}
	if err := c.take('{'); err != nil {
		return nil, 0, err
	}
	next := 0
	for n := 0; c.peek() != '}'; n++ {
		if n > 0 {
			if err := c.take(','); err != nil {
				return nil, 0, err
			}
		}
		i, err := t.fieldName(c, next)
		if err != nil {
			return nil, 0, err
		}
		if i >= 0 {
			at[i], next = c.pos, i+1
		}
		if err := c.skip(); err != nil {
			return nil, 0, err
		}
	}
	c.pos++
	return at, c.pos, nil
}

// fieldName reads the name of a member up to its value and returns the field's
// index, -1 for none; guess is what it should be.
func (t *Type) fieldName(c *cursor, guess int) (int, error) {
	if c.peek() != '"' {
		return 0, c.errorf("want a field's name, have %s", c.here())
	}
	name, _, err := c.str()
	if err != nil {
		return 0, err
	}
	i := t.fieldIndex(name, guess)
	if err := c.take(':'); err != nil {
		return 0, err
	}
	c.peek()
	return i, nil
}

// fieldIndex finds a field by name; guess is what it should be.
func (t *Type) fieldIndex(name []byte, guess int) int {
	if guess < len(t.fields) && t.fields[guess].name == string(name) {
		return guess
	}
	for i := range t.fields {
		if t.fields[i].name == string(name) {
			return i
		}
	}
	return -1
}

// appendVector writes a JSON array of numbers as int2vectorout and
// oidvectorout do.
func (t *Type) appendVector(dst []byte, c *cursor) ([]byte, error) {
	var s shape
	err := s.walk(c, 0, func(i int, nested bool) error {
		if nested {
			return c.errorf("type %s has one dimension", t.name)
		}
		if i > 0 {
			dst = append(dst, ' ')
		}
		text, _, err := c.scalar()
		dst = append(dst, text...)
		return err
	})
	return dst, err
}

// arrayQuotes says whether array_out puts an element into quotes.
func arrayQuotes(b []byte, delim byte) bool {
	if len(b) == 0 || len(b) == 4 && strings.EqualFold(string(b), "null") {
		return true
	}
	for _, ch := range b {
		switch ch {
		case '"', '\\', '{', '}', ' ', '\t', '\n', '\r', '\v', '\f', delim:
			return true
		}
	}
	return false
}

// recordQuotes says whether record_out puts a field into quotes.
func recordQuotes(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	for _, ch := range b {
		switch ch {
		case '"', '\\', '(', ')', ',', ' ', '\t', '\n', '\r', '\v', '\f':
			return true
		}
	}
	return false
}

// quoteTail puts dst[mark:] into double quotes, in place. A quote or backslash
// in it is escaped by the byte escape, or doubled where escape is 0.
func quoteTail(dst []byte, mark int, escape byte) []byte {
	grow := 2
	for _, ch := range dst[mark:] {
		if ch == '"' || ch == '\\' {
			grow++
		}
	}
	from := len(dst)
	for range grow {
		dst = append(dst, '"')
	}
	to := len(dst) - 1 // dst[to] is the closing quote
	for from > mark {
		from--
		ch := dst[from]
		to--
		dst[to] = ch
		if ch == '"' || ch == '\\' {
			to--
			dst[to] = ch
			if escape != 0 {
				dst[to] = escape
			}
		}
	}
	dst[mark] = '"'
	return dst
}
