package rowjson

// maxDims is the number of dimensions that Postgres gives an array at most.
const maxDims = 6

// shape learns the dimensions of an array while its JSON is walked and holds
// the rest of it to them: Postgres' arrays are rectangular.
type shape struct {
	length [maxDims]int // of each dimension
	seen   [maxDims]bool
	leaf   int // number of dimensions; 0 until the first element was met
}

// walk reads the array whose '[' comes next and calls item with the cursor at
// each item, which must read it. nested says that the item is an array: no
// element of an array's type begins with '['.
func (s *shape) walk(c *cursor, level int, item func(i int, nested bool) error) error {
	open := c.pos
	if err := c.take('['); err != nil {
		return err
	}
	n := 0
	for {
		b := c.peek()
		if b == ']' {
			break
		}
		if n > 0 {
			if err := c.take(','); err != nil {
				return err
			}
			b = c.peek()
		}
		if err := s.item(c, level, b == '['); err != nil {
			return err
		}
		if err := item(n, b == '['); err != nil {
			return err
		}
		n++
	}
	c.pos++
	if n == 0 && level > 0 || s.seen[level] && s.length[level] != n {
		return errorAt(open, "the array is not rectangular")
	}
	s.length[level], s.seen[level] = n, true
	return nil
}

func (s *shape) item(c *cursor, level int, nested bool) error {
	switch {
	case nested && level+1 == maxDims:
		return c.errorf("more than %d dimensions", maxDims)
	case nested && s.leaf == level+1, !nested && s.leaf != 0 && s.leaf != level+1:
		return c.errorf("the array is not rectangular")
	case !nested:
		s.leaf = level + 1
	}
	return nil
}
