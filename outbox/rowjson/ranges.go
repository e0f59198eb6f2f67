package rowjson

import (
	"bytes"
	"encoding/binary"
)

// The flags of range_send, from Postgres' rangetypes.h.
const (
	rangeEmpty    = 0x01
	rangeLowerInc = 0x02
	rangeUpperInc = 0x04
	rangeLowerInf = 0x08
	rangeUpperInf = 0x10
)

// appendRange writes what range_send writes for the text that range_out
// printed, which is at the start of text, and returns the rest of it.
func (t *Type) appendRange(dst, text []byte) (out, rest []byte, err error) {
	if rest, ok := bytes.CutPrefix(text, []byte("empty")); ok {
		return append(dst, rangeEmpty), rest, nil
	}
	if len(text) == 0 || text[0] != '[' && text[0] != '(' {
		return nil, nil, badText("range", text)
	}
	mark := len(dst)
	dst = append(dst, 0)
	var flags byte
	if text[0] == '[' {
		flags |= rangeLowerInc
	}
	dst, rest, inf, err := t.appendBound(dst, text[1:])
	if err != nil {
		return nil, nil, err
	}
	if inf {
		flags |= rangeLowerInf
	}
	if len(rest) == 0 || rest[0] != ',' {
		return nil, nil, badText("range", text)
	}
	dst, rest, inf, err = t.appendBound(dst, rest[1:])
	if err != nil {
		return nil, nil, err
	}
	if inf {
		flags |= rangeUpperInf
	}
	if len(rest) == 0 || rest[0] != ']' && rest[0] != ')' {
		return nil, nil, badText("range", text)
	}
	if rest[0] == ']' {
		flags |= rangeUpperInc
	}
	dst[mark] = flags
	return dst, rest[1:], nil
}

// appendBound reads one bound and appends it with its length before it; an
// infinite one is the empty text.
func (t *Type) appendBound(dst, text []byte) (out, rest []byte, infinite bool, err error) {
	bound, rest, err := cutBound(text)
	if err != nil {
		return nil, nil, false, err
	}
	if len(bound) == 0 && (len(text) == 0 || text[0] != '"') {
		return dst, rest, true, nil
	}
	mark := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	if dst, err = t.elem.scalar.binary(dst, bound); err != nil {
		return nil, nil, false, err
	}
	putLength(dst, mark)
	return dst, rest, false, nil
}

// cutBound splits a bound off, without its quotes. Quotes and backslashes
// inside are doubled or escaped, outside quotes escaped.
func cutBound(text []byte) (bound, rest []byte, err error) {
	quoted, copied := false, false
	start := 0
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '\\' && i+1 < len(text), ch == '"' && quoted && i+1 < len(text) && text[i+1] == '"':
			if !copied {
				bound, copied = append([]byte(nil), text[start:i]...), true
			}
			i++
			bound = append(bound, text[i])
		case ch == '"' && i == 0:
			quoted, start = true, 1
		case ch == '"':
			if !copied {
				bound = text[start:i]
			}
			return bound, text[i+1:], nil
		case !quoted && (ch == ',' || ch == ')' || ch == ']'):
			if !copied {
				bound = text[start:i]
			}
			return bound, text[i:], nil
		case copied:
			bound = append(bound, ch)
		}
	}
	return nil, nil, badText("range", text)
}

// appendMultirange writes what multirange_send writes: the number of ranges,
// and each with its length before it.
func (t *Type) appendMultirange(dst, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, badText("multirange", text)
	}
	count, n := len(dst), 0
	dst = append(dst, 0, 0, 0, 0)
	for rest := text[1 : len(text)-1]; len(rest) > 0; n++ {
		if n > 0 {
			if rest[0] != ',' {
				return nil, badText("multirange", text)
			}
			rest = rest[1:]
		}
		mark := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		var err error
		if dst, rest, err = t.elem.appendRange(dst, rest); err != nil {
			return nil, err
		}
		putLength(dst, mark)
	}
	binary.BigEndian.PutUint32(dst[count:], uint32(n))
	return dst, nil
}
