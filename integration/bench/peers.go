package main

import (
	"context"
	"sync"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/hashicorp/go-memdb"
	"github.com/maypok86/otter/v2"
	"github.com/puzpuzpuz/xsync/v4"
	"github.com/tidwall/btree"

	"github.com/pglockstep/lockstep/cache"
)

// held is a set of rows by their ids.
type held interface {
	// read looks ids up and returns the sum of the balances that it found, and how many it did not find.
	read(ctx context.Context, ids []int) (sum int64, missing int, err error)
	put(rows []account) error
	close()
}

// peer is one way to hold rows. remote ones take a round trip and are asked less often.
type peer struct {
	name, about string
	remote      bool
	open        func(ctx context.Context, rows []account) (held, error)
}

const get = "Get"

// inMemory are the peers within the process.
var inMemory = []peer{
	{get, "the table under a node's; rows are applied as cuts of 200, staged and published", false, openOurs},
	{"map under RWMutex", "map[int]*account", false, openLocked},
	{"sync.Map", "of *account", false, openSyncMap},
	{"xsync.Map", "of *account", false, openXsync},
	{"otter", "otter v2 of *account, with room for all", false, openOtter},
	{"ristretto", "ristretto v2 of *account, with room for all; it may still drop some, and what is missing counts as read", false, openRistretto},
	{"go-memdb", "a table with an integer index", false, openMemDB},
	{"tidwall/btree", "a BTreeG of *account, which has its own lock", false, openBTree},
}

// lookup reads through a function that is inlined or not, as the compiler likes.
func lookup(ids []int, get func(id int) (*account, bool)) (sum int64, missing int, err error) {
	for _, id := range ids {
		a, ok := get(id)
		if !ok {
			missing++
			continue
		}
		sum += a.Balance
	}
	return sum, missing, nil
}

type ours struct {
	store *cache.Store
	table *cache.Table[int, account]
}

func openOurs(_ context.Context, rows []account) (held, error) {
	store, table, err := newCache(rows)
	return &ours{store, table}, err
}

func (o *ours) read(_ context.Context, ids []int) (sum int64, missing int, err error) {
	for _, id := range ids {
		a, ok := o.table.Get(id)
		if !ok {
			missing++
			continue
		}
		sum += a.Balance
	}
	return sum, missing, nil
}

func (o *ours) put(rows []account) error { return putAll(o.store, o.table, rows) }

func (o *ours) close() { o.store.Close() }

type locked struct {
	mu   sync.RWMutex
	rows map[int]*account
}

func openLocked(_ context.Context, rows []account) (held, error) {
	l := &locked{rows: make(map[int]*account, len(rows))}
	return l, l.put(rows)
}

func (l *locked) read(_ context.Context, ids []int) (sum int64, missing int, err error) {
	for _, id := range ids {
		l.mu.RLock()
		a, ok := l.rows[id]
		l.mu.RUnlock()
		if !ok {
			missing++
			continue
		}
		sum += a.Balance
	}
	return sum, missing, nil
}

func (l *locked) put(rows []account) error {
	for _, a := range rows {
		l.mu.Lock()
		l.rows[a.ID] = &a
		l.mu.Unlock()
	}
	return nil
}

func (l *locked) close() {}

type syncMap struct{ m sync.Map }

func openSyncMap(_ context.Context, rows []account) (held, error) {
	s := &syncMap{}
	return s, s.put(rows)
}

func (s *syncMap) read(_ context.Context, ids []int) (sum int64, missing int, err error) {
	for _, id := range ids {
		v, ok := s.m.Load(id)
		if !ok {
			missing++
			continue
		}
		sum += v.(*account).Balance
	}
	return sum, missing, nil
}

func (s *syncMap) put(rows []account) error {
	for _, a := range rows {
		s.m.Store(a.ID, &a)
	}
	return nil
}

func (s *syncMap) close() {}

type xsyncMap struct{ m *xsync.Map[int, *account] }

func openXsync(_ context.Context, rows []account) (held, error) {
	x := &xsyncMap{xsync.NewMap[int, *account](xsync.WithPresize(len(rows)))}
	return x, x.put(rows)
}

func (x *xsyncMap) read(_ context.Context, ids []int) (sum int64, missing int, err error) {
	for _, id := range ids {
		a, ok := x.m.Load(id)
		if !ok {
			missing++
			continue
		}
		sum += a.Balance
	}
	return sum, missing, nil
}

func (x *xsyncMap) put(rows []account) error {
	for _, a := range rows {
		x.m.Store(a.ID, &a)
	}
	return nil
}

func (x *xsyncMap) close() {}

type otterCache struct{ c *otter.Cache[int, *account] }

func openOtter(_ context.Context, rows []account) (held, error) {
	c, err := otter.New(&otter.Options[int, *account]{MaximumSize: 2 * len(rows), InitialCapacity: len(rows)})
	if err != nil {
		return nil, err
	}
	o := &otterCache{c}
	return o, o.put(rows)
}

func (o *otterCache) read(_ context.Context, ids []int) (sum int64, missing int, err error) {
	return lookup(ids, o.c.GetIfPresent)
}

func (o *otterCache) put(rows []account) error {
	for _, a := range rows {
		o.c.Set(a.ID, &a)
	}
	return nil
}

func (o *otterCache) close() { o.c.StopAllGoroutines() }

type ristrettoCache struct {
	c *ristretto.Cache[int, *account]
}

func openRistretto(_ context.Context, rows []account) (held, error) {
	c, err := ristretto.NewCache(&ristretto.Config[int, *account]{
		NumCounters: 10 * int64(len(rows)), MaxCost: 4 * int64(len(rows)), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, err
	}
	r := &ristrettoCache{c}
	for _, a := range rows { // its buffers take so many, and drop what comes on top
		if c.Set(a.ID, &a, 1); a.ID%1000 == 0 {
			c.Wait()
		}
	}
	c.Wait()
	return r, nil
}

func (r *ristrettoCache) read(_ context.Context, ids []int) (sum int64, missing int, err error) {
	return lookup(ids, r.c.Get)
}

func (r *ristrettoCache) put(rows []account) error {
	for _, a := range rows {
		r.c.Set(a.ID, &a, 1)
	}
	return nil
}

func (r *ristrettoCache) close() { r.c.Close() }

type memDB struct{ db *memdb.MemDB }

func openMemDB(_ context.Context, rows []account) (held, error) {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{"accounts": {
		Name:    "accounts",
		Indexes: map[string]*memdb.IndexSchema{"id": {Name: "id", Unique: true, Indexer: &memdb.IntFieldIndex{Field: "ID"}}},
	}}})
	if err != nil {
		return nil, err
	}
	m := &memDB{db}
	return m, m.put(rows)
}

func (m *memDB) read(_ context.Context, ids []int) (sum int64, missing int, err error) {
	for _, id := range ids {
		v, err := m.db.Txn(false).First("accounts", "id", id)
		if err != nil {
			return 0, 0, err
		}
		a, ok := v.(*account)
		if !ok {
			missing++
			continue
		}
		sum += a.Balance
	}
	return sum, missing, nil
}

func (m *memDB) put(rows []account) error {
	tx := m.db.Txn(true)
	defer tx.Abort() // or it is committed
	for _, a := range rows {
		if err := tx.Insert("accounts", &a); err != nil {
			return err
		}
	}
	tx.Commit()
	return nil
}

func (m *memDB) close() {}

type bTree struct{ t *btree.BTreeG[*account] }

func openBTree(_ context.Context, rows []account) (held, error) {
	b := &bTree{btree.NewBTreeG(func(x, y *account) bool { return x.ID < y.ID })}
	return b, b.put(rows)
}

func (b *bTree) read(_ context.Context, ids []int) (sum int64, missing int, err error) {
	key := &account{}
	return lookup(ids, func(id int) (*account, bool) {
		key.ID = id
		return b.t.Get(key)
	})
}

func (b *bTree) put(rows []account) error {
	for _, a := range rows {
		b.t.Set(&a)
	}
	return nil
}

func (b *bTree) close() {}
