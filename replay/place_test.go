package replay

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pglockstep/lockstep/cache"
)

// place keeps checkpoints in memory: all that were ever completed, of which the last counts.
type place struct {
	mu      sync.Mutex
	done    []kept
	begun   int
	closed  int
	onRow   func() // called before each row that is written
	noOpen  error
	noWrite error
	endsAt  int // reading fails after so many calls of Next; 0: it does not
}

type kept struct {
	head []byte
	rows []keptRow
}

type keptRow struct {
	table int
	row   []byte
}

// set changes what happens from now on.
func (p *place) set(f func(p *place)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// completed is how many checkpoints there are, and how many were begun.
func (p *place) completed() (done, begun int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done), p.begun
}

func (p *place) count() int {
	done, _ := p.completed()
	return done
}

func (p *place) attempts() int {
	_, begun := p.completed()
	return begun
}

func (p *place) last() *kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.done) == 0 {
		return nil
	}
	return &p.done[len(p.done)-1]
}

// changeHead changes the head of the last checkpoint.
func (p *place) changeHead(t *testing.T, f func(*head)) {
	t.Helper()
	k := p.last()
	h, err := parseHead(k.head)
	if err != nil {
		t.Fatal(err)
	}
	f(h)
	if k.head, err = json.Marshal(h); err != nil {
		t.Fatal(err)
	}
}

func (p *place) Open() (CheckpointReader, error) {
	if p.noOpen != nil {
		return nil, p.noOpen
	}
	k := p.last()
	if k == nil {
		return nil, nil
	}
	return &placeReader{p: p, kept: k}, nil
}

func (p *place) Remove() error {
	p.set(func(p *place) { p.done = nil })
	return nil
}

func (p *place) Create(head []byte) (CheckpointWriter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
	return &placeWriter{p: p, kept: kept{head: head}}, nil
}

func (p *place) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed++
	return nil
}

type placeReader struct {
	p    *place
	kept *kept
	at   int
}

func (r *placeReader) Head() []byte { return r.kept.head }
func (r *placeReader) Close() error { return nil }
func (r *placeReader) Size() int64 {
	size := len(r.kept.head)
	for _, row := range r.kept.rows {
		size += 1 + len(row.row)
	}
	return int64(size)
}

func (r *placeReader) Rewind() error {
	r.at = 0
	return nil
}

func (r *placeReader) Next() (int, []byte, func() error, error) {
	r.at++
	switch {
	case r.at == r.p.endsAt:
		return 0, nil, nil, errors.New("the rest is torn")
	case r.at > len(r.kept.rows):
		return 0, nil, nil, io.EOF
	}
	row := r.kept.rows[r.at-1]
	return row.table, append(binary.AppendUvarint(nil, uint64(len(row.row))), row.row...), func() error { return nil }, nil
}

type placeWriter struct {
	p     *place
	kept  kept
	ended bool
}

func (w *placeWriter) Row(table int, row []byte) error {
	w.p.mu.Lock()
	onRow := w.p.onRow
	w.p.mu.Unlock()
	if onRow != nil {
		onRow()
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.kept.rows = append(w.kept.rows, keptRow{table, slices.Clone(row)})
	return w.p.noWrite
}

func (w *placeWriter) Commit() (int64, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.done = append(w.p.done, w.kept)
	w.ended = true
	return int64(len(w.kept.rows)), nil
}

func (w *placeWriter) Abort() {}

// coded makes the rows of a table fit for checkpoints.
func coded(t Table, shape string) Table {
	b, _ := t.(*Binding[int, rec])
	b.Codec = func() (Codec[rec], error) {
		if shape == "" {
			return Codec[rec]{}, errors.New("it has no inverse")
		}
		return Codec[rec]{
			Shape: shape,
			Encode: func(dst []byte, v rec) ([]byte, error) {
				if v.V == "unfit" {
					return nil, errors.New("it cannot be encoded")
				}
				return fmt.Appendf(dst, "%d %q", v.K, v.V), nil
			},
			Decoder: func() func(src []byte, into *rec) error {
				return func(src []byte, into *rec) error {
					_, err := fmt.Sscanf(string(src), "%d %q", &into.K, &into.V)
					return err
				}
			},
		}, nil
	}
	return b
}

// restart ends the engine and begins another one, with tables of its own, at
// the same place. It is not started.
func (r *rig) restart(empShape, deptShape string) {
	r.Helper()
	if err := r.eng.Close(r.Context()); err != nil {
		r.Fatal(err)
	}
	r.store.Close()
	r.renew(empShape, deptShape)
}

func (r *rig) renew(empShape, deptShape string) {
	r.Helper()
	r.emp, r.dept = cache.NewTable[int, rec](emp), cache.NewTable[int, rec](dept)
	// An engine that begins from a checkpoint of before may never reach what another has seen
	// of transactions that a crash has taken since.
	r.first = len(r.published())
	var err error
	if r.store, err = cache.NewStore(cache.Options{}, r.emp, r.dept); err != nil {
		r.Fatal(err)
	}
	r.eng, err = New(r.store, r.db, []Table{coded(binding(r.emp), empShape), coded(binding(r.dept), deptShape)}, r.cfg)
	if err != nil {
		r.Fatal(err)
	}
}

// keeping runs a test on an engine that keeps checkpoints and has loaded.
func keeping(t *testing.T, cfg Config, f func(t *testing.T, r *rig, p *place)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &place{}
		cfg.Checkpoints = p
		r := newRig(t, cfg)
		r.store.Close()
		r.renew("e", "d")
		r.write(emp, 1, "one")
		r.write(dept, 1, "first")
		r.start()
		r.settle()
		f(t, r, p)
	})
}
