package rowjson

import (
	"bytes"
	"fmt"
)

// cursor reads JSON in place. It allocates only for strings with escapes, into
// scratch, which grows to the longest such string and is used again.
type cursor struct {
	doc     []byte
	pos     int
	scratch []byte
}

// offsetError is a mistake in a document, at an offset from its start.
type offsetError struct {
	offset int
	what   string
}

func (e *offsetError) Error() string { return fmt.Sprintf("at byte %d: %s", e.offset, e.what) }

func (c *cursor) errorf(format string, args ...any) error { return errorAt(c.pos, format, args...) }

func errorAt(pos int, format string, args ...any) error {
	return &offsetError{offset: pos, what: fmt.Sprintf(format, args...)}
}

// peek skips white space and returns the next byte, or 0 at the end.
func (c *cursor) peek() byte {
	for c.pos < len(c.doc) {
		switch b := c.doc[c.pos]; b {
		case ' ', '\t', '\n', '\r':
			c.pos++
		default:
			return b
		}
	}
	return 0
}

// take skips white space and the byte b, which must come next.
func (c *cursor) take(b byte) error {
	if c.peek() != b {
		return c.errorf("want %q, have %s", b, c.here())
	}
	c.pos++
	return nil
}

// here describes what comes next, for messages.
func (c *cursor) here() string {
	if c.pos >= len(c.doc) {
		return "the end"
	}
	return fmt.Sprintf("%q", excerpt(c.doc[c.pos:]))
}

func excerpt(b []byte) []byte {
	const most = 40
	if len(b) > most {
		return b[:most]
	}
	return b
}

// null reads a JSON null if one comes next.
func (c *cursor) null() (bool, error) {
	if c.peek() != 'n' {
		return false, nil
	}
	_, err := c.literal()
	return err == nil, err
}

// literal reads true, false or null.
func (c *cursor) literal() ([]byte, error) {
	rest := c.doc[c.pos:]
	for _, word := range [...]string{"true", "false", "null"} {
		if len(rest) >= len(word) && string(rest[:len(word)]) == word {
			c.pos += len(word)
			return rest[:len(word)], nil
		}
	}
	return nil, c.errorf("no JSON value: %s", c.here())
}

// scalar reads a string, a number, true or false and returns its text. copied
// says that the text is in scratch, good until the next call; else it is a
// piece of the document.
func (c *cursor) scalar() (text []byte, copied bool, err error) {
	switch b := c.peek(); {
	case b == '"':
		return c.str()
	case b == '-' || b >= '0' && b <= '9':
		return c.number(), false, nil
	case b == 't' || b == 'f':
		text, err = c.literal()
		return text, false, err
	default:
		return nil, false, c.errorf("want a string, a number or a boolean, have %s", c.here())
	}
}

// number takes every byte that numbers are made of; whoever turns it into a
// value finds out whether it is one.
func (c *cursor) number() []byte {
	start := c.pos
	for c.pos < len(c.doc) {
		switch b := c.doc[c.pos]; {
		case b >= '0' && b <= '9', b == '-', b == '+', b == '.', b == 'e', b == 'E':
			c.pos++
		default:
			return c.doc[start:c.pos]
		}
	}
	return c.doc[start:]
}

// end says what there is after the document, if anything is.
func (c *cursor) end() error {
	if c.peek(); c.pos < len(c.doc) {
		return c.errorf("something after the document: %s", c.here())
	}
	return nil
}

// skip passes over one value of any kind. Of what is inside of objects and
// arrays it checks strings and brackets only. It does not recurse: documents
// may be nested as deep as they like.
func (c *cursor) skip() error {
	switch c.peek() {
	case '"':
		return c.skipString()
	case '{', '[':
		return c.skipNested()
	case 'n':
		_, err := c.literal()
		return err
	default:
		_, _, err := c.scalar()
		return err
	}
}

func (c *cursor) skipString() error {
	open := c.pos
	c.pos++
	for {
		i := bytes.IndexByte(c.doc[c.pos:], '"')
		if i < 0 {
			return errorAt(open, "a string without an end")
		}
		end := c.pos + i
		slashes := 0
		for end-slashes-1 >= c.pos && c.doc[end-slashes-1] == '\\' {
			slashes++
		}
		c.pos = end + 1
		if slashes%2 == 0 {
			return nil
		}
	}
}

func (c *cursor) skipNested() error {
	open, depth := c.pos, 0
	for c.pos < len(c.doc) {
		switch c.doc[c.pos] {
		case '"':
			if err := c.skipString(); err != nil {
				return err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		c.pos++
		if depth == 0 {
			return nil
		}
	}
	return errorAt(open, "a value without an end")
}
