package rowjson

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

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
