package cache

import (
	"context"
	"maps"
)

// accountFollower rebuilds the accounts from nothing but their changes. It is driven by hand, so that a
// test decides how far it falls behind.
type accountFollower struct {
	w     *world
	f     follower[int, account]
	rows  map[int]account
	live  bool
	fresh map[int]bool // keys of the coalesced batch being given
}

func newAccountFollower(w *world) *accountFollower {
	m := &accountFollower{w: w, rows: make(map[int]account)}
	m.f = follower[int, account]{
		t: w.accounts, s: w.store, ctx: context.Background(), yield: m.apply, cur: w.accounts.feed.join(),
	}
	m.f.current()
	m.compare()
	return m
}

func (m *accountFollower) stop() { m.w.accounts.feed.leave(m.f.cur) }

// drain takes all that is pending; then the rows must be those that are published.
func (m *accountFollower) drain() {
	for m.w.accounts.feed.pending(m.f.cur) {
		m.fresh = make(map[int]bool)
		m.f.next()
	}
	m.compare()
}

func (m *accountFollower) compare() {
	if !m.live {
		m.w.fail("subscriber is not live")
	}
	want := make(map[int]account)
	for k, r := range m.w.now.accounts {
		want[k] = r.row
	}
	if !maps.EqualFunc(m.rows, want, sameAccount) {
		m.w.fail("subscriber has %v, want %v", m.rows, want)
	}
}

func (m *accountFollower) apply(c Change[int, account], err error) bool {
	w := m.w
	if err != nil {
		w.fail("subscriber: %v", err)
	}
	was, there := m.rows[c.Key]
	if c.Coalesced && m.fresh[c.Key] {
		w.fail("key %d twice in one coalesced batch", c.Key)
	}
	switch c.Op {
	case Reset:
		clear(m.rows)
		m.live = false
		return true
	case Live:
		m.live = true
		return true
	case Current:
		if there || m.live {
			w.fail("unexpected current row %+v", c)
		}
	case Insert:
		if there {
			w.fail("insert over %v: %+v", was, c)
		}
	case Update, Delete:
		if !there || !sameAccount(was, c.Old) {
			w.fail("subscriber saw %v, change says %+v", was, c)
		}
	}
	if c.Op != Current && !c.Resync && !c.Coalesced && c.Origin == (Origin{}) {
		w.fail("change without an origin: %+v", c)
	}
	if m.fresh != nil {
		m.fresh[c.Key] = c.Coalesced
	}
	if c.Op == Delete {
		delete(m.rows, c.Key)
	} else {
		m.rows[c.Key] = c.New
	}
	return true
}

// txModel rebuilds both tables from transactions, reading them again after each Reset.
type txModel struct {
	w        *world
	f        txFollower
	accounts map[int]account
	notes    map[string]note
	base     uint64 // revision of the view that the rows were read from
	rev      uint64 // of the transaction given last
	seq      int64  // last of the cut being given
}

func newTxModel(w *world) *txModel {
	m := &txModel{w: w}
	m.f = txFollower{s: w.store, ctx: context.Background(), yield: m.apply, cur: w.store.txs.join()}
	m.f.reset()
	return m
}

func (m *txModel) stop() { m.w.store.txs.leave(m.f.cur) }

func (m *txModel) drain() {
	for m.w.store.txs.pending(m.f.cur) {
		m.f.next()
	}
	want := make(map[int]account)
	for k, r := range m.w.now.accounts {
		want[k] = r.row
	}
	notes := make(map[string]note)
	for k, r := range m.w.now.notes {
		notes[k] = r.row
	}
	if !maps.EqualFunc(m.accounts, want, sameAccount) || !maps.Equal(m.notes, notes) {
		m.w.fail("transactions lead to %v %v, want %v %v", m.accounts, m.notes, want, notes)
	}
}

func (m *txModel) apply(tx Tx, err error) bool {
	w := m.w
	if err != nil {
		w.fail("transactions: %v", err)
	}
	if tx.Reset {
		w.store.View(func(v *View) {
			m.base, m.rev = v.Revision(), v.Revision()
			m.accounts = maps.Collect(w.accounts.At(v).All())
			m.notes = maps.Collect(w.notes.At(v).All())
		})
		return true
	}
	if tx.Revision <= m.base {
		return true // in the view already
	}
	if tx.Revision < m.rev {
		w.fail("revision %d after %d", tx.Revision, m.rev)
	}
	if len(tx.Changes) == 0 || tx.Coalesced && tx.Xid != 0 {
		w.fail("odd transaction %+v", tx)
	}
	if tx.Revision > m.rev {
		m.rev, m.seq = tx.Revision, 0
	}
	if tx.Xid != 0 && tx.Seq <= m.seq {
		w.fail("transaction %d ends at %d, the one before at %d", tx.Xid, tx.Seq, m.seq)
	}
	m.seq = max(m.seq, tx.Seq)
	for _, c := range tx.Changes {
		m.change(c)
	}
	return true
}

// change does not compare Old: two transactions that interleave in a cut are not given as they were made.
func (m *txModel) change(c RowChange) {
	switch k := c.Key.(type) {
	case int:
		if c.Op == Delete {
			delete(m.accounts, k)
		} else {
			m.accounts[k] = c.New.(account)
		}
	case string:
		if c.Op == Delete {
			delete(m.notes, k)
		} else {
			m.notes[k] = c.New.(note)
		}
	}
}

// pending says whether take would give something.
func (f *feed[C]) pending(c *cursor) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.next != f.end()
}
