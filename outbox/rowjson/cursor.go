package rowjson

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
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

// str reads a string, which must come next.
func (c *cursor) str() (text []byte, copied bool, err error) {
	start := c.pos + 1
	rest := c.doc[start:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, false, c.errorf("a string without an end")
	}
	if bytes.IndexByte(rest[:end], '\\') < 0 {
		c.pos = start + end + 1
		return rest[:end], false, nil
	}
	text, err = c.unescape(start)
	return text, true, err
}

// unescape copies a string with escapes, whose first byte is at start, into
// scratch. Stretches without an escape are copied whole.
func (c *cursor) unescape(start int) ([]byte, error) {
	open := c.pos
	out := c.scratch[:0]
	pos := start
	quote := pos + bytes.IndexByte(c.doc[pos:], '"')
	for {
		slash := bytes.IndexByte(c.doc[pos:quote], '\\')
		if slash < 0 {
			out = append(out, c.doc[pos:quote]...)
			c.scratch = out
			c.pos = quote + 1
			return out, nil
		}
		out = append(out, c.doc[pos:pos+slash]...)
		var err error
		if out, pos, err = appendEscape(out, c.doc, pos+slash); err != nil {
			return nil, err
		}
		if pos > quote { // the quote was an escaped one
			next := bytes.IndexByte(c.doc[pos:], '"')
			if next < 0 {
				return nil, errorAt(open, "a string without an end")
			}
			quote = pos + next
		}
	}
}

// appendEscape appends what the escape at doc[pos] stands for and returns where
// it ends.
func appendEscape(dst, doc []byte, pos int) ([]byte, int, error) {
	if pos+1 >= len(doc) {
		return nil, 0, errorAt(pos, "a string without an end")
	}
	switch b := doc[pos+1]; b {
	case '"', '\\', '/':
		dst = append(dst, b)
	case 'b':
		dst = append(dst, '\b')
	case 'f':
		dst = append(dst, '\f')
	case 'n':
		dst = append(dst, '\n')
	case 'r':
		dst = append(dst, '\r')
	case 't':
		dst = append(dst, '\t')
	case 'u':
		return appendUnicode(dst, doc, pos)
	default:
		return nil, 0, errorAt(pos, "no such escape: %q", doc[pos:pos+2])
	}
	return dst, pos + 2, nil
}

func appendUnicode(dst, doc []byte, pos int) ([]byte, int, error) {
	r, ok := hexRune(doc, pos)
	if !ok {
		return nil, 0, errorAt(pos, `\u wants four hexadecimal digits`)
	}
	end := pos + 6
	if utf16.IsSurrogate(r) {
		low, ok := hexRune(doc, end)
		if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
			return nil, 0, errorAt(pos, "half a surrogate pair")
		}
		end += 6
	}
	if r == 0 {
		return nil, 0, errorAt(pos, `\u0000, which Postgres has in no text`)
	}
	return utf8.AppendRune(dst, r), end, nil
}

// hexRune reads the \uXXXX at doc[pos].
func hexRune(doc []byte, pos int) (rune, bool) {
	if pos+6 > len(doc) || doc[pos] != '\\' || doc[pos+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, b := range doc[pos+2 : pos+6] {
		d := hexDigit[b]
		if d > 15 {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
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

// hexDigit maps an ASCII digit to its value, anything else to 255.
var hexDigit = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()
