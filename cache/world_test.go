package cache

import (
	"context"
	"fmt"
	"maps"
	"strings"
)

// account and note are the rows of the model tests. Every put of an account has an N of its own, so that
// a row from a wrong version never looks right.
type account struct {
	Owner string
	N     int
	Tags  []string
}

func (a account) String() string { return fmt.Sprintf("%s/%d%v", a.Owner, a.N, a.Tags) }

func sameAccount(a, b account) bool { return a.String() == b.String() }

type note struct{ Text string }

// revised is a model row with the revision that last changed it.
type revised[T any] struct {
	row T
	rev uint64
}

// image is the model of a whole store at one instant: plain maps.
type image struct {
	rev      uint64
	accounts map[int]revised[account]
	notes    map[string]revised[note]
}

func (m image) clone() image {
	return image{m.rev, maps.Clone(m.accounts), maps.Clone(m.notes)}
}

// world drives a store and its model together; each step is chosen by draw. Single-threaded.
type world struct {
	draw func(label string, n int) int // in [0, n)
	fail func(format string, args ...any)

	accounts *Table[int, account]
	notes    *Table[string, note]
	owners   *Index[string, int, account]
	everyone *Index[bool, int, account] // declared late; with many keys, its set is a large one
	store    *Store
	keys     int

	now    image
	staged image
	writer *Writer // nil: none open
	serial int
	xids   uint64
	open   [3]uint64      // transactions
	locks  map[any]uint64 // by key: the transaction that changed it last

	views   map[*View]image
	tables  []*accountFollower
	streams []*txModel
}

func newWorld(draw func(string, int) int, fail func(string, ...any)) *world {
	w := &world{
		draw: draw, fail: fail, views: make(map[*View]image),
		accounts: NewTable[int, account]("accounts"),
		notes:    NewTable[string, note]("notes"),
		now:      image{accounts: map[int]revised[account]{}, notes: map[string]revised[note]{}},
	}
	w.owners = NewIndex(w.accounts, func(a account) string { return a.Owner })
	w.keys = []int{5, 5, 5, 5, 5, 120}[draw("keys", 6)]
	w.accounts.scanAfter = []int{-1 << 16, 1, 1 << 16}[draw("scanAfter", 3)] // none is listed, some are, all
	opts := Options{
		MaxLag:         []int{8, 40, 1000}[draw("MaxLag", 3)],
		CoalesceAfter:  []int{1, 6, 100}[draw("CoalesceAfter", 3)],
		DetectMutation: draw("DetectMutation", 2) == 1,
	}
	s, err := NewStore(opts, w.accounts, w.notes)
	if err != nil {
		fail("NewStore: %v", err)
	}
	w.store = s
	w.everyone = NewIndex(w.accounts, func(account) bool { return true })
	return w
}

// step does one thing at random and compares everything.
func (w *world) step() {
	type action struct {
		weight int
		do     func()
	}
	actions := []action{
		{2, w.openView}, {2, w.closeView}, {1, w.store.Sweep},
		{1, w.follow}, {2, w.drainOne}, {1, w.unfollow},
	}
	if w.writer == nil {
		actions = append(actions, action{12, w.begin})
	} else {
		actions = append(actions, action{12, w.putAccount}, action{3, w.putAccounts}, action{5, w.deleteAccount}, action{4, w.putNote},
			action{2, w.deleteNote}, action{1, w.clear}, action{2, w.replace}, action{6, w.publish}, action{2, w.abort})
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := w.draw("action", total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			a.do()
			break
		}
	}
	w.check()
}

func (w *world) begin() {
	w.writer, w.staged = w.store.Begin(), w.now.clone()
	w.locks = make(map[any]uint64)
	for i := range w.open {
		w.xids++
		w.open[i] = w.xids
	}
}

func (w *world) num() uint64 { return w.now.rev + 1 }

// origin chooses which of three open transactions changes the key. As in Postgres, a row that an open
// transaction has changed can be changed by another only once the first has ended.
func (w *world) origin(key any) Origin {
	slot := w.draw("xid", len(w.open))
	if holder, ok := w.locks[key]; ok && holder != w.open[slot] {
		w.end(holder)
	}
	w.locks[key] = w.open[slot]
	w.serial++
	return Origin{Xid: w.open[slot], Seq: int64(w.serial)}
}

// end gives the slot of an ended transaction to a new one.
func (w *world) end(xid uint64) {
	for i := range w.open {
		if w.open[i] == xid {
			w.xids++
			w.open[i] = w.xids
		}
	}
}

// lockTable is origin for a change of all accounts, by one transaction or by none.
func (w *world) lockTable() Origin {
	for _, xid := range w.open {
		w.end(xid)
	}
	o := w.origin("the table")
	for k := range w.keys {
		w.locks[k] = o.Xid
	}
	return o
}

func (w *world) newAccount() account {
	w.serial++
	owner := []string{"ann", "bob", "cy"}[w.draw("owner", 3)]
	return account{Owner: owner, N: w.serial, Tags: strings.Split(fmt.Sprint(w.serial), "")}
}

func (w *world) putAccount() {
	k, a := w.draw("key", w.keys), w.newAccount()
	w.accounts.Put(w.writer, w.origin(k), k, a)
	w.staged.accounts[k] = revised[account]{a, w.num()}
}

// putAccounts may name a key more than once.
func (w *world) putAccounts() {
	batch := w.accounts.Batch()
	for range 1 + w.draw("entries", 2*touchedAtOnce+3) {
		k, a := w.draw("key", w.keys), w.newAccount()
		*batch.New() = a
		if w.draw("given up", 8) == 0 {
			*batch.New() = w.newAccount() // instead
			*batch.New() = a
		}
		batch.AddFrom(w.origin(k), k)
		w.staged.accounts[k] = revised[account]{a, w.num()}
	}
	w.accounts.PutBatch(w.writer, batch)
}

func (w *world) deleteAccount() {
	k := w.draw("key", w.keys)
	w.accounts.Delete(w.writer, w.origin(k), k)
	delete(w.staged.accounts, k)
}

func (w *world) noteKey() string { return string(rune('a' + w.draw("note", 4))) }

func (w *world) putNote() {
	k := w.noteKey()
	w.serial++
	n := note{fmt.Sprint(w.serial)}
	w.notes.Put(w.writer, w.origin(k), k, n)
	w.staged.notes[k] = revised[note]{n, w.num()}
}

func (w *world) deleteNote() {
	k := w.noteKey()
	w.notes.Delete(w.writer, w.origin(k), k)
	delete(w.staged.notes, k)
}

func (w *world) clear() {
	w.accounts.Clear(w.writer, w.lockTable())
	clear(w.staged.accounts)
}

// replace keeps, changes, drops and adds rows at random, one by one or in batches. Now and then it gives a
// key twice, which Put or Done must notice, or is given up and begun again.
func (w *world) replace() {
	w.lockTable()
	r := w.accounts.Replace(w.writer, sameAccount)
	if len(w.staged.accounts) == 0 && w.accounts.rows.len == 0 && w.draw("give up", 5) == 0 {
		if err := r.Put(1, w.newAccount()); err != nil {
			w.fail("Replace: %v", err)
		}
		r = w.accounts.Replace(w.writer, sameAccount)
	}
	most, twice := w.draw("batch", 4), false
	batch := r.Batch(most)
	put := func(k int, a account) (err error) {
		if most == 0 {
			return r.Put(k, a)
		}
		*batch.New() = w.newAccount() // passed over: not added
		*batch.New() = a
		batch.Add(k)
		if batch.Len() == most {
			err = r.PutBatch(batch)
			batch = r.Batch(0)
		}
		return err
	}
	next := make(map[int]revised[account])
	var err error
	for k := range w.keys {
		was, there := w.staged.accounts[k]
		switch w.draw("replace", 3) {
		case 0: // gone
			continue
		case 1:
			if there {
				next[k] = was
				break
			}
			fallthrough
		default:
			next[k] = revised[account]{w.newAccount(), w.num()}
		}
		err = put(k, next[k].row)
		if err == nil && w.draw("twice", 60) == 0 {
			twice = true
			err = put(k, next[k].row)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = r.PutBatch(batch)
	}
	if err == nil {
		err = r.Done()
	}
	if twice != (err != nil) {
		w.fail("Replace: %v, a key was given twice: %v", err, twice)
	}
	if twice {
		w.abort()
		return
	}
	w.staged.accounts = next
}

func (w *world) publish() {
	num := w.writer.Publish(fmt.Sprint("meta ", w.num()))
	if num != w.num() {
		w.fail("published %d, want %d", num, w.num())
	}
	w.staged.rev = num
	w.now, w.writer = w.staged, nil
}

func (w *world) abort() {
	held := w.store.Bytes()
	w.writer.Abort()
	w.writer.Abort()
	if w.store.Bytes() > held {
		w.fail("Abort took memory")
	}
	w.writer = nil
}

func (w *world) openView() { w.views[w.store.OpenView()] = w.now.clone() }

func (w *world) closeView() {
	n := w.draw("view", len(w.views)+1)
	for v := range w.views {
		if v.Revision() <= uint64(n)*w.now.rev/uint64(len(w.views)) { // any, but the same for the same draws
			v.Close()
			v.Close()
			delete(w.views, v)
		}
	}
}

func (w *world) follow() {
	if len(w.tables) < 3 {
		w.tables = append(w.tables, newAccountFollower(w))
		w.streams = append(w.streams, newTxModel(w))
	}
}

func (w *world) unfollow() {
	if len(w.tables) == 0 {
		return
	}
	w.tables[0].stop()
	w.streams[0].stop()
	w.tables, w.streams = w.tables[1:], w.streams[1:]
}

func (w *world) drainOne() {
	if len(w.tables) == 0 {
		return
	}
	i := w.draw("subscriber", len(w.tables))
	w.tables[i].drain()
	w.streams[i].drain()
}

// finish publishes or aborts, closes what is open, and checks that nothing is left behind.
func (w *world) finish() {
	if w.writer != nil {
		w.publish()
	}
	for len(w.tables) > 0 {
		w.tables[0].drain()
		w.streams[0].drain()
		w.unfollow()
	}
	for v := range w.views {
		v.Close()
	}
	clear(w.views)
	w.store.Sweep()
	w.check()
	if n := len(w.accounts.waiting) + len(w.notes.waiting) + len(w.store.old); n > 0 {
		w.fail("%d versions are held for nobody", n)
	}
	if w.accounts.feed.kept != nil || w.notes.feed.kept != nil || w.store.txs.kept != nil {
		w.fail("the change log is kept for nobody")
	}
	w.begin()
	w.clear()
	for k := range w.staged.notes {
		w.notes.Delete(w.writer, w.origin(k), k)
	}
	clear(w.staged.notes)
	w.publish()
	if n := w.store.Bytes(); n != 0 {
		w.fail("empty tables hold %d bytes", n)
	}
	w.store.Close()
	if w.store.stopped(context.Background()) == nil {
		w.fail("Close did nothing")
	}
}
