package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// AnyTable is a [Table] of any key and row type.
type AnyTable interface {
	// Name is the name given to NewTable.
	Name() string
	// Len is the number of rows in the newest published version.
	Len() int
	// Bytes is the estimated memory the table holds, see [Table.Bytes].
	Bytes() int64
	// EncodedRows is how many rows are still encoded, see [Encoded].
	EncodedRows() int
	// Decode decodes them, see [Table.Decode].
	Decode(ctx context.Context)

	mistakes() []error
	attach(s *Store, id int) bool
	detach()
	counts() (rows int, bytes int64)
	indexBytes() int64
	takeChanges(num uint64) part
	replacing() bool
	unstage(prev *state)
	collect(pins, released []uint64)
	checkMutations()
	verify(pins []uint64)
}

// Store holds tables that are published together. One writer at a time; any number of readers.
type Store struct {
	opts   Options
	tables []AnyTable
	cur    atomic.Pointer[state] // the published version
	txs    feed[*cut]            // what Store.Changes reads
	closed chan struct{}
	close  sync.Once

	writing sync.Mutex // held from Begin to Publish or Abort, and by Sweep; guards what follows
	old     []*state   // superseded versions that may still be pinned, oldest first
	bytes   int64      // of the rows in the writer's own view
}

// NewStore attaches the tables and returns a store at revision 0, with every table empty. A negative
// option, a nil table, a table without a name, a name used twice, a table attached before or named twice,
// and an index without a function are mistakes; all of them are joined in the error, and nothing is
// attached then.
func NewStore(opts Options, tables ...AnyTable) (*Store, error) {
	errs := append(opts.mistakes(), tableMistakes(tables)...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s := &Store{opts: opts.withDefaults(), tables: tables, closed: make(chan struct{})}
	s.txs.limit = s.opts.MaxLag
	s.cur.Store(s.newState(0, nil))
	for i, t := range tables {
		if !t.attach(s, i) {
			for _, done := range tables[:i] {
				done.detach()
			}
			return nil, attachedTwice(t.Name())
		}
	}
	return s, nil
}

// tableMistakes checks the declarations, without attaching anything.
func tableMistakes(tables []AnyTable) (errs []error) {
	seen := make(map[AnyTable]bool, len(tables))
	names := make(map[string]bool, len(tables))
	for i, t := range tables {
		switch {
		case t == nil:
			errs = append(errs, fmt.Errorf("cache: table %d is nil", i))
			continue
		case seen[t]:
			errs = append(errs, fmt.Errorf("cache: table %s is given twice", t.Name()))
			continue
		case t.Name() == "":
			errs = append(errs, fmt.Errorf("cache: table %d has no name", i))
		case names[t.Name()]:
			errs = append(errs, fmt.Errorf("cache: two tables are named %s", t.Name()))
		}
		seen[t], names[t.Name()] = true, true
		errs = append(errs, t.mistakes()...)
	}
	return errs
}

func attachedTwice(name string) error {
	return fmt.Errorf("cache: table %s belongs to a store already", name)
}

// Revision is the number of the newest published version, 0 before the first.
func (s *Store) Revision() uint64 { return s.cur.Load().num }

// Bytes is the estimated memory held by all tables, see [Table.Bytes].
func (s *Store) Bytes() int64 {
	var n int64
	for _, t := range s.tables {
		n += t.Bytes()
	}
	return n
}

// Close ends every subscription with [ErrClosed]. Reads and views go on from memory. It does not wait for
// subscribers and may be called more than once.
func (s *Store) Close() {
	s.close.Do(func() {
		close(s.closed)
		if s.opts.DetectMutation && s.writing.TryLock() {
			defer s.writing.Unlock()
			s.checkMutations()
		}
	})
}

// Sweep gives back versions whose last view has closed since the last Publish, and with
// [Options.DetectMutation] looks at every row. It does nothing while a writer is at work: Publish sweeps
// too. Call it now and then where long views are followed by silence.
func (s *Store) Sweep() {
	if !s.writing.TryLock() {
		return
	}
	defer s.writing.Unlock()
	s.collect()
	if s.opts.DetectMutation {
		s.checkMutations()
	}
}

func (s *Store) checkMutations() {
	for _, t := range s.tables {
		t.checkMutations()
	}
}

// collect lets every table drop the versions that no pin needs any more. Caller holds writing.
func (s *Store) collect() {
	pins := make([]uint64, 0, len(s.old)+1)
	var released []uint64
	kept := s.old[:0]
	for _, st := range s.old {
		// A reader that lost the race to pin st may be about to give it back; that only delays st.
		if st.refs.Load() == 0 {
			released = append(released, st.num)
			continue
		}
		pins = append(pins, st.num)
		kept = append(kept, st)
	}
	clear(s.old[len(kept):])
	s.old = kept
	pins = append(pins, s.cur.Load().num)
	for _, t := range s.tables {
		t.collect(pins, released)
	}
	if invariants {
		for _, t := range s.tables {
			t.verify(pins)
		}
	}
}
