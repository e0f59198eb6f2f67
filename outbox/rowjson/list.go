package rowjson

// List reads a list of documents, as json_agg writes it, one after the other. It has one at least. It belongs to one goroutine.
type List struct {
	cur  cursor
	some bool // one has been read
}

// ListOf begins to read a list. What was read is good as long as doc is not changed.
func ListOf(doc []byte) *List { return &List{cur: cursor{doc: doc}} }

// More reports whether another document follows, which is then to be read; false at the end of the list.
func (l *List) More() (bool, error) {
	c := &l.cur
	if c.pos == 0 {
		if err := c.take('['); err != nil {
			return false, err
		}
	}
	b := c.peek()
	if b == ']' && l.some {
		c.pos++
		return false, c.end()
	}
	if l.some {
		if err := c.take(','); err != nil {
			return false, err
		}
		b = c.peek()
	}
	l.some = true
	if b != '{' {
		return false, c.errorf("want a document, have %s", c.here())
	}
	return true, nil
}

// Skip passes the next document over, and returns it.
func (l *List) Skip() ([]byte, error) {
	start := l.cur.pos
	if err := l.cur.skip(); err != nil {
		return nil, err
	}
	return l.cur.doc[start:l.cur.pos:l.cur.pos], nil
}

// Decode reads the next document with d, as [Decoder.Decode] does.
func (l *List) Decode(d *Decoder) (doc []byte, row *Row, err error) {
	start := l.cur.pos
	row, n, err := d.decode(l.cur.doc[start:], true)
	if err != nil {
		return nil, nil, err
	}
	l.cur.pos += n
	return l.cur.doc[start:l.cur.pos:l.cur.pos], row, nil
}
