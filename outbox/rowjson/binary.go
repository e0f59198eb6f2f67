package rowjson

import (
	"encoding/binary"
	"math"
)

const nullLength = math.MaxUint32 // -1, the length of a NULL

// appendBinary reads one value that is not null.
func (t *Type) appendBinary(dst []byte, c *cursor) ([]byte, error) {
	switch t.kind {
	case kindArray:
		return t.appendArrayBinary(dst, c)
	case kindComposite:
		return t.appendRecordBinary(dst, c)
	default:
		c.peek()
		start := c.pos
		text, _, err := c.scalar()
		if err != nil {
			return nil, err
		}
		if dst, err = t.appendBinaryOf(dst, text); err != nil {
			return nil, errorAt(start, "%v", err)
		}
		return dst, nil
	}
}

// appendBinaryOf turns the text of a scalar, a range or a multirange into its
// binary form.
func (t *Type) appendBinaryOf(dst, text []byte) ([]byte, error) {
	switch t.kind {
	case kindRange:
		dst, rest, err := t.appendRange(dst, text)
		if err == nil && len(rest) > 0 {
			err = badText("range", text)
		}
		return dst, err
	case kindMultirange:
		return t.appendMultirange(dst, text)
	default:
		return t.scalar.binary(dst, text)
	}
}

// appendSized appends a value with its length before it, or a NULL.
func (t *Type) appendSized(dst []byte, c *cursor) ([]byte, error) {
	null, err := c.null()
	if err != nil {
		return nil, err
	}
	if null {
		return binary.BigEndian.AppendUint32(dst, nullLength), nil
	}
	mark := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	if dst, err = t.appendBinary(dst, c); err != nil {
		return nil, err
	}
	putLength(dst, mark)
	return dst, nil
}

// putLength fills in the length at dst[mark] of what follows it.
func putLength(dst []byte, mark int) {
	putUint32(dst, mark, len(dst)-mark-4)
}

func putUint32(dst []byte, at, v int) { binary.BigEndian.PutUint32(dst[at:], uint32(v)) }

// appendArrayBinary writes what array_send writes: the number of dimensions,
// whether there are NULLs, the element's type, for each dimension its length
// and lower bound, and the elements.
func (t *Type) appendArrayBinary(dst []byte, c *cursor) ([]byte, error) {
	mark := len(dst)
	dims := countDims(c)
	dst = binary.BigEndian.AppendUint32(dst, uint32(dims))
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, t.elem.oid)
	for range dims {
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 1)
	}
	var s shape
	nulls := false
	dst, err := t.appendElements(dst, c, 0, &s, &nulls)
	if err != nil {
		return nil, err
	}
	if nulls {
		dst[mark+7] = 1
	}
	for i := range dims {
		putUint32(dst, mark+12+8*i, s.length[i])
	}
	return dst, nil
}

func (t *Type) appendElements(dst []byte, c *cursor, level int, s *shape, nulls *bool) ([]byte, error) {
	err := s.walk(c, level, func(_ int, nested bool) (err error) {
		if nested {
			dst, err = t.appendElements(dst, c, level+1, s, nulls)
			return err
		}
		if c.peek() == 'n' {
			*nulls = true
		}
		dst, err = t.elem.appendSized(dst, c)
		return err
	})
	return dst, err
}

// countDims counts the opening brackets that come next, 0 for an empty array.
func countDims(c *cursor) int {
	ahead := cursor{doc: c.doc, pos: c.pos}
	n := 0
	for n < maxDims && ahead.peek() == '[' {
		n++
		ahead.pos++
	}
	if n == 1 && ahead.peek() == ']' {
		return 0
	}
	return n
}

// appendRecordBinary writes what record_send writes: the number of fields, and
// for each its type and its value.
func (t *Type) appendRecordBinary(dst []byte, c *cursor) ([]byte, error) {
	var small [16]int
	at, end, err := t.locate(c, small[:0])
	if err != nil {
		return nil, err
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(t.fields)))
	for i, f := range t.fields {
		dst = binary.BigEndian.AppendUint32(dst, f.typ.oid)
		if at[i] < 0 {
			dst = binary.BigEndian.AppendUint32(dst, nullLength)
			continue
		}
		c.pos = at[i]
		if dst, err = f.typ.appendSized(dst, c); err != nil {
			return nil, err
		}
	}
	c.pos = end
	return dst, nil
}
