package cache

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
)

// bank is two tables with a constant sum over both, an index that puts every account into one of four
// branches, and a clock that ticks with every version.
type bank struct {
	left, right *Table[int, purse]
	branches    *Index[int, int, purse]
	clock       *Table[string, uint64]
	store       *Store
}

type purse struct {
	Branch, Sum int
	Check       *int // points to a copy of Sum: a torn or reused row shows
}

const (
	purses     = 150 // more than manyKeys for each of few branches
	branches   = 2
	inEach     = 100
	bankTotal  = 2 * purses * inEach
	bankRounds = 1500
)

func newPurse(branch, sum int) purse { return purse{branch, sum, &sum} }

func newBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{
		left: NewTable[int, purse]("left"), right: NewTable[int, purse]("right"),
		clock: NewTable[string, uint64]("clock"),
	}
	b.branches = NewIndex(b.left, func(p purse) int { return p.Branch })
	s, err := NewStore(Options{MaxLag: 500, CoalesceAfter: 20}, b.left, b.right, b.clock)
	if err != nil {
		t.Fatal(err)
	}
	b.store = s
	w := s.Begin()
	for k := range purses {
		b.left.Put(w, Origin{}, k, newPurse(k%branches, inEach))
		b.right.Put(w, Origin{}, k, newPurse(0, inEach))
	}
	b.clock.Put(w, Origin{}, "now", 1)
	w.Publish(uint64(1))
	return b
}

// round moves money between the tables, and rows between branches; some rounds are aborted, some
// take a row out and put it back with the next version, some replace a table by itself with changes.
func (b *bank) round(r *rand.Rand) {
	w := b.store.Begin()
	defer w.Abort()
	for range 1 + r.IntN(4) {
		from, to, n := r.IntN(purses), r.IntN(purses), r.IntN(20)
		p, ok := b.left.Lookup(w, from)
		if !ok { // taken out by a round before: its money is in right[from]
			p = newPurse(r.IntN(branches), 0)
		}
		q, _ := b.right.Lookup(w, to)
		b.left.Put(w, Origin{Xid: 1}, from, newPurse(r.IntN(branches), p.Sum-n))
		b.right.Put(w, Origin{Xid: 1}, to, newPurse(0, q.Sum+n))
	}
	switch r.IntN(12) {
	case 0:
		return
	case 1, 2, 3:
		k := r.IntN(purses)
		p, _ := b.left.Lookup(w, k)
		q, _ := b.right.Lookup(w, k)
		b.left.Delete(w, Origin{Xid: 2}, k)
		b.right.Put(w, Origin{Xid: 2}, k, newPurse(0, q.Sum+p.Sum))
	case 4:
		rep := b.right.Replace(w, func(a, b purse) bool { return a.Sum == b.Sum })
		for k := range purses {
			q, _ := b.right.Lookup(w, k)
			if rep.Put(k, newPurse(0, q.Sum)) != nil {
				panic("twice")
			}
		}
		if rep.Done() != nil {
			panic("not done")
		}
	}
	now, _ := b.clock.Lookup(w, "now")
	b.clock.Put(w, Origin{Xid: 1}, "now", now+1)
	if got := w.Publish(now + 1); got != now+1 {
		panic("the clock does not tick with the revision")
	}
}

// Readers, views, indexes and subscribers against a writer at full speed.
func TestReadersSeeOneInstantAndNeverGoBack(t *testing.T) {
	b := newBank(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	worker := func(f func(r *rand.Rand)) {
		wg.Add(1)
		seed := rand.Uint64()
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(seed, 1))
			for {
				select {
				case <-done:
					return
				default:
					f(r)
				}
			}
		}()
	}
	worker(b.viewWorker(t))
	worker(b.viewWorker(t))
	worker(b.longViewWorker(t))
	worker(b.getWorker(t))
	worker(b.allWorker(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var subs sync.WaitGroup
	for _, slow := range []bool{false, true} {
		subs.Go(func() { b.subscribe(ctx, t, slow) })
	}
	subs.Go(func() { b.subscribeAll(ctx, t) })

	r := rand.New(rand.NewPCG(1, 2))
	for range bankRounds {
		b.round(r)
	}
	close(done)
	wg.Wait()
	w := b.store.Begin() // the last word, which ends the subscribers
	b.clock.Put(w, Origin{Xid: 3}, "now", w.num)
	b.left.Put(w, Origin{Xid: 3}, -1, newPurse(0, 0))
	w.Publish(w.num)
	subs.Wait()
}

func (b *bank) sum(t *testing.T, v *View) {
	total := 0
	for _, tab := range []*Table[int, purse]{b.left, b.right} {
		rows := 0
		for k, p := range tab.At(v).All() {
			if *p.Check != p.Sum {
				t.Errorf("purse %d is torn", k)
			}
			total += p.Sum
			rows++
		}
		if rows != tab.At(v).Len() {
			t.Errorf("All gives %d rows, Len %d", rows, tab.At(v).Len())
		}
	}
	if total != bankTotal {
		t.Errorf("revision %d: total %d, want %d", v.Revision(), total, bankTotal)
	}
	met := make(map[int]int)
	for br := range branches {
		for k, p := range b.branches.At(v).All(br) {
			if met[k]++; met[k] > 1 || p.Branch != br {
				t.Errorf("revision %d: index gives purse %d of branch %d under %d, %d times", v.Revision(), k, p.Branch, br, met[k])
			}
		}
	}
	if len(met) != b.left.At(v).Len() {
		t.Errorf("revision %d: the index has %d rows, the table %d", v.Revision(), len(met), b.left.At(v).Len())
	}
	if now, rev, _ := b.clock.At(v).GetRevision("now"); now != v.Revision() || rev != now || v.Meta() != now {
		t.Errorf("revision %d, meta %v: the clock says %d at %d", v.Revision(), v.Meta(), now, rev)
	}
}

func (b *bank) viewWorker(t *testing.T) func(*rand.Rand) {
	var last uint64
	return func(*rand.Rand) {
		b.store.View(func(v *View) {
			if v.Revision() < last {
				t.Errorf("view of %d after %d", v.Revision(), last)
			}
			last = v.Revision()
			b.sum(t, v)
		})
	}
}

// longViewWorker holds views of several ages and reads each to the end of its life.
func (b *bank) longViewWorker(t *testing.T) func(*rand.Rand) {
	var open []*View
	t.Cleanup(func() {
		for _, v := range open {
			b.sum(t, v)
			v.Close()
		}
		b.store.Sweep()
		if n := len(b.store.old) + len(b.left.waiting) + len(b.right.waiting); n != 0 {
			t.Errorf("%d versions are held for nobody", n)
		}
	})
	return func(r *rand.Rand) {
		open = append(open, b.store.OpenView())
		i := r.IntN(len(open))
		b.sum(t, open[i])
		if len(open) > 8 {
			open[i].Close()
			open = append(open[:i], open[i+1:]...)
		}
		if r.IntN(50) == 0 {
			for _, v := range open {
				b.sum(t, v)
				v.Close()
			}
			open = nil
		}
	}
}

// getWorker reads the hottest key with every kind of read; no read may be older than one before it.
func (b *bank) getWorker(t *testing.T) func(*rand.Rand) {
	var last uint64
	return func(*rand.Rand) {
		for range 100 {
			now, ok := b.clock.Get("now")
			_, rev, _ := b.clock.GetRevision("now")
			if !ok || now < last || rev < now || b.store.Revision() < rev {
				t.Errorf("clock: %d %v at %d, was %d", now, ok, rev, last)
			}
			last = rev
			for range 20 {
				if now, ok = b.clock.Get("now"); !ok || now < last {
					t.Errorf("clock: %d %v, was %d", now, ok, last)
				}
				last = now
			}
		}
	}
}

func (b *bank) allWorker(t *testing.T) func(*rand.Rand) {
	var last uint64
	return func(r *rand.Rand) {
		if r.IntN(2) == 0 {
			for _, now := range b.clock.All() {
				if now < last {
					t.Errorf("All: clock %d, was %d", now, last)
				}
				last = now
			}
			return
		}
		met := make(map[int]bool)
		for k, p := range b.branches.All(1) {
			if met[k] || p.Branch != 1 || *p.Check != p.Sum {
				t.Errorf("index gives %v for purse %d of branch 1, met %v", p, k, met[k])
			}
			met[k] = true
		}
	}
}

// subscribe rebuilds left from its changes until the last word.
func (b *bank) subscribe(ctx context.Context, t *testing.T, slow bool) {
	rows := make(map[int]purse)
	var rev uint64
	for c, err := range b.left.Changes(ctx) {
		if err != nil {
			t.Errorf("subscriber: %v", err)
			return
		}
		was, there := rows[c.Key]
		switch c.Op {
		case Reset:
			clear(rows)
		case Current, Insert:
			if there {
				t.Errorf("%v of a key that is there: %+v", c.Op, c)
			}
			rows[c.Key] = c.New
		case Update, Delete:
			if !there || was != c.Old {
				t.Errorf("saw %v, change says %+v", was, c)
			}
			if rows[c.Key] = c.New; c.Op == Delete {
				delete(rows, c.Key)
			}
		}
		if c.Op != Current && !c.Coalesced && c.Revision < rev {
			t.Errorf("revision %d after %d", c.Revision, rev)
		}
		if c.Op != Current && !c.Coalesced {
			rev = c.Revision
		}
		if slow {
			b.store.View(func(v *View) { b.sum(t, v) })
		}
		if _, end := rows[-1]; end && c.Revision == b.store.Revision() && maps.Equal(rows, maps.Collect(b.left.All())) {
			return
		}
	}
}

// subscribeAll follows the whole store until the last word; the total holds after every transaction.
func (b *bank) subscribeAll(ctx context.Context, t *testing.T) {
	var base uint64
	for tx, err := range b.store.Changes(ctx) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("transactions: %v", err)
			}
			return
		}
		if tx.Reset {
			base = b.store.Revision()
			if _, ok := b.left.Get(-1); ok {
				return
			}
			continue
		}
		if tx.Revision <= base {
			continue
		}
		if tx.Meta != tx.Revision {
			t.Errorf("revision %d comes with meta %v", tx.Revision, tx.Meta)
		}
		moved := 0
		for _, c := range tx.Changes {
			if old, ok := c.Old.(purse); ok {
				moved -= old.Sum
			}
			if row, ok := c.New.(purse); ok {
				moved += row.Sum
			}
		}
		if moved != 0 {
			t.Errorf("a transaction of revision %d makes %d", tx.Revision, moved)
		}
		if _, ok := b.left.Get(-1); ok && tx.Revision == b.store.Revision() {
			return
		}
	}
}
