package rowjson

// value reads the value of a column.
func (d *Decoder) value(col *decoderColumn) error {
	c := &d.cur
	if col.typ.kind == kindJSON || col.typ.kind == kindJSONB {
		return d.jsonValue(col)
	}
	isNull, err := c.null()
	switch {
	case err != nil:
		return err
	case isNull:
		col.place = null
		return nil
	case col.verbatim:
		return d.textValue(col)
	}
	mark := len(d.row.buf)
	var out []byte
	if col.binary {
		out, err = col.typ.appendBinary(d.row.buf, c)
	} else {
		out, err = col.typ.appendText(d.row.buf, c)
	}
	if err != nil {
		return err
	}
	d.row.buf = out
	col.place, col.start, col.end = inBuffer, mark, len(out)
	return nil
}

// textValue leaves a text without escapes where it is.
func (d *Decoder) textValue(col *decoderColumn) error {
	c := &d.cur
	text, copied, err := c.scalar()
	if err != nil {
		return err
	}
	if copied {
		col.place, col.start = inBuffer, len(d.row.buf)
		d.row.buf = append(d.row.buf, text...)
		col.end = len(d.row.buf)
		return nil
	}
	col.place, col.end = inDocument, c.pos
	if c.doc[c.pos-1] == '"' {
		col.end--
	}
	col.start = col.end - len(text)
	return nil
}

// jsonValue takes the value as it stands. White space around it is part of a
// json column's value: row_to_json puts none there.
func (d *Decoder) jsonValue(col *decoderColumn) error {
	c := &d.cur
	start := c.pos
	if col.typ.kind == kindJSONB {
		c.peek()
		start = c.pos
	}
	if err := c.skip(); err != nil {
		return err
	}
	end := c.pos
	c.peek()
	if col.typ.kind == kindJSON {
		end = c.pos
	}
	col.place, col.start, col.end = inDocument, start, end
	if !col.notNull && string(trimSpace(c.doc[start:end])) == "null" {
		col.place = null
	}
	return nil
}
