package cache

import "fmt"

// Replacer stages the whole content of a table as a difference to what is there. It belongs to the
// writer's goroutine; until Done, nothing else may stage changes to its table.
//
// Where nothing is there, as in a first load, there is no difference to find: the rows are only collected, and
// Done builds the table of them in one go, in the memory that they need.
type Replacer[K comparable, T any] struct {
	t     *Table[K, T]
	w     *Writer
	equal func(a, b T) bool
	kept  *rowMap[K, T] // what was put, where a difference is to be found; else nil
	batch *Batch[K, T]  // what Put has collected, else
}

// Replace begins to stage new content: put every row that shall be there, then call Done. A row that is
// there already and equal is left untouched and makes no change; nil for equal means that no two rows are.
// The changes are flagged Resync and have no Origin.
func (t *Table[K, T]) Replace(w *Writer, equal func(a, b T) bool) *Replacer[K, T] {
	t.mustBelong(w)
	if t.build != nil { // of a Replace that was given up
		t.count(w, -t.build.rows, -t.build.bytes)
		t.dropBuild()
	}
	r := &Replacer[K, T]{t: t, w: w, equal: equal}
	if t.rows.len == 0 {
		t.build = &build[K, T]{}
		r.batch = r.Batch(batchRows)
	} else {
		r.kept = newRowMap[K, T]()
	}
	return r
}

// Put stages a row. A key that was put before in the same Replace is an error that names it, from here or
// from Done; the writer should be aborted then.
func (r *Replacer[K, T]) Put(k K, row T) error {
	r.t.mustBelong(r.w)
	if r.kept != nil {
		return r.put(&node[K, T]{ver: r.w.num, key: k, row: row})
	}
	*r.batch.New() = row
	r.batch.Add(k)
	if len(r.batch.nodes) == batchRows {
		r.collect(r.batch)
		r.batch = r.Batch(batchRows)
	}
	return nil
}

// Batch makes an empty batch for this Replace, with room for so many rows.
func (r *Replacer[K, T]) Batch(rows int) *Batch[K, T] {
	return newBatch(r.t, r.w.num, rows)
}

// PutBatch stages the rows of a batch, which is not to be used any more; see Put.
func (r *Replacer[K, T]) PutBatch(b *Batch[K, T]) error {
	r.t.mustBelong(r.w)
	if r.kept == nil {
		r.collect(b)
		return nil
	}
	for _, n := range b.nodes {
		if err := r.put(n); err != nil {
			return err
		}
	}
	return nil
}

// Done stages the absence of every row that was not put.
func (r *Replacer[K, T]) Done() error {
	r.t.mustBelong(r.w)
	if r.kept == nil {
		r.collect(r.batch)
		return r.t.finishBuild(r.w)
	}
	for head := range r.t.rows.each {
		if head.live() && r.kept.load(head.key) == nil {
			r.t.remove(r.w, change[K, T]{key: head.key, resync: true})
		}
	}
	return nil
}

// put stages a row as a difference.
func (r *Replacer[K, T]) put(n *node[K, T]) error {
	h := r.kept.hash.of(n.key)
	if _, twice := r.kept.find(h, n.key); twice != nil {
		return givenTwice(r.t, n.key)
	}
	r.kept.insert(h, n)
	if head := r.t.rows.load(n.key); head.live() && r.equal != nil && r.equal(head.row, n.row) {
		return nil
	}
	r.t.put(r.w, change[K, T]{key: n.key, resync: true}, n)
	return nil
}

func givenTwice[K comparable, T any](t *Table[K, T], k K) error {
	return fmt.Errorf("cache: table %s: key %v is given twice", t.name, k)
}
