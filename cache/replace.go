package cache

import "fmt"

// Replacer stages the whole content of a table as a difference to what is there. It belongs to the
// writer's goroutine; until Done, nothing else may stage changes to its table.
type Replacer[K comparable, T any] struct {
	t     *Table[K, T]
	w     *Writer
	equal func(a, b T) bool
	mark  uint32
}

// Replace begins to stage new content: put every row that shall be there, then call Done. A row that is
// there already and equal is left untouched and makes no change; nil for equal means that no two rows are.
// The changes are flagged Resync and have no Origin.
func (t *Table[K, T]) Replace(w *Writer, equal func(a, b T) bool) *Replacer[K, T] {
	t.mustBelong(w)
	t.replaced = (t.replaced + 1) & markMask
	if t.replaced == 0 { // 0 marks rows that no Replace has named
		t.replaced = 1
	}
	return &Replacer[K, T]{t: t, w: w, equal: equal, mark: t.replaced}
}

// Put stages a row. A key that was put before in the same Replace is an error that names it; the writer
// should be aborted then.
func (r *Replacer[K, T]) Put(k K, row T) error {
	r.t.mustBelong(r.w)
	head := r.t.rows.load(k)
	if head.live() {
		if head.mark&markMask == r.mark {
			return fmt.Errorf("cache: table %s: key %v is given twice", r.t.name, k)
		}
		if r.equal != nil && r.equal(head.row, row) {
			head.mark = head.mark&^markMask | r.mark
			return nil
		}
	}
	r.t.put(r.w, change[K, T]{key: k, resync: true}, row, r.mark)
	return nil
}

// Done stages the absence of every row that was not put.
func (r *Replacer[K, T]) Done() {
	r.t.mustBelong(r.w)
	for head := range r.t.rows.each {
		if head.live() && head.mark&markMask != r.mark {
			r.t.remove(r.w, change[K, T]{key: head.key, resync: true})
		}
	}
}
