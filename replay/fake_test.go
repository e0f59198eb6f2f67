package replay

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/outbox"
)

// rec is the row type of every table in these tests.
type rec struct {
	K int
	V string
}

type rows map[int]string

// fakeDB is a Postgres in small: transactions with ids and snapshots, row
// locks, a sequence, an outbox, and a log that a crash may cut short. What a
// table holds in a snapshot follows from its row versions, not from the outbox.
type fakeDB struct {
	mu       sync.Mutex
	history  uuid.UUID
	next     uint64 // the transaction id to be given out next
	ended    uint64 // the highest that has ended
	active   map[uint64]*fakeTx
	commits  map[uint64]int // place of the commit record in the log
	firsts   map[uint64]int // place of the first record
	wal      int
	kept     int // no crash may cut the log below this place
	seq      int64
	reserved []seqRecord
	outbox   []fakeEvent
	horizon  uint64
	beats    []fakeBeat
	older    bool // loads see more transactions than they name
	names    []string
	tables   map[string]map[int][]version
	prints   []string
	locks    map[lockKey]uint64
	sessions []*fakeSession

	script
}

type version struct {
	xid  uint64
	v    string
	gone bool
}

// fakeBeat is the node's row in the register, one version for each beat.
type fakeBeat struct {
	wal int
	at  time.Time
}

// beat writes the node's row.
func (db *fakeDB) beat() time.Time {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.wal++
	db.beats = append(db.beats, fakeBeat{db.wal, time.Now()})
	return time.Now()
}

type seqRecord struct {
	wal int
	seq int64
}

type lockKey struct {
	table string
	k     int
}

type fakeEvent struct {
	outbox.Event
	row *rec
	bad bool // its row cannot be read
}

type fakeTx struct {
	db    *fakeDB
	xid   uint64
	wrote bool
	ended bool
	locks []lockKey
}

func newFakeDB(names ...string) *fakeDB {
	db := &fakeDB{
		history: uuid.MustParse("00000000-0000-4000-8000-000000000001"),
		next:    100, ended: 99,
		active: map[uint64]*fakeTx{}, commits: map[uint64]int{}, firsts: map[uint64]int{},
		names: names, tables: map[string]map[int][]version{}, locks: map[lockKey]uint64{},
		prints: make([]string, len(names)),
	}
	for i, n := range names {
		db.tables[n] = map[int][]version{}
		db.prints[i] = "v1"
	}
	return db
}

// begin starts a transaction and gives it its id at once.
func (db *fakeDB) begin() *fakeTx {
	db.mu.Lock()
	defer db.mu.Unlock()
	tx := &fakeTx{db: db, xid: db.next}
	db.next++
	db.wal++
	db.firsts[tx.xid] = db.wal
	db.active[tx.xid] = tx
	return tx
}

// whole is the key of a table's own lock.
const whole = -1

// lock takes a row lock; false if another transaction holds it, or the table's.
func (tx *fakeTx) lock(table string, k int) bool {
	if holder := tx.db.locks[lockKey{table, whole}]; holder != 0 && holder != tx.xid {
		return false
	}
	key := lockKey{table, k}
	switch holder := tx.db.locks[key]; holder {
	case tx.xid:
		return true
	case 0:
		tx.db.locks[key] = tx.xid
		tx.locks = append(tx.locks, key)
		return true
	}
	return false
}

// nextval hands out a sequence number; a crash gives back at most what the log
// does not hold, since 32 are reserved at a time.
func (db *fakeDB) nextval() int64 {
	db.seq++
	if n := len(db.reserved); n == 0 || db.seq > db.reserved[n-1].seq {
		db.wal++
		db.reserved = append(db.reserved, seqRecord{db.wal, db.seq + 32})
	}
	return db.seq
}

// event writes to the outbox. table need not be one of the fake's.
func (tx *fakeTx) event(table string, op outbox.Op, row *rec) int64 {
	seq := tx.db.nextval()
	tx.db.wal++
	tx.db.outbox = append(tx.db.outbox, fakeEvent{
		Event: outbox.Event{Seq: seq, Xid: tx.xid, Table: table, Op: op, Lead: !tx.wrote, At: time.Now().Add(tx.db.skew + time.Duration(seq))},
		row:   row,
	})
	tx.wrote = true
	return seq
}

func (tx *fakeTx) version(table string, k int, v version) {
	v.xid = tx.xid
	tx.db.tables[table][k] = append(tx.db.tables[table][k], v)
}

// put writes a row; false if its lock is held by another transaction.
func (tx *fakeTx) put(table string, k int, v string) bool {
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	if !tx.lock(table, k) {
		return false
	}
	tx.version(table, k, version{v: v})
	tx.event(table, outbox.Update, &rec{k, v})
	return true
}

func (tx *fakeTx) del(table string, k int) bool {
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	if !tx.lock(table, k) {
		return false
	}
	tx.version(table, k, version{gone: true})
	tx.event(table, outbox.Delete, &rec{K: k})
	return true
}

// putUncarried changes a row and writes an event that only names its key, or
// only its table.
func (tx *fakeTx) putUncarried(table string, k int, v version, byKey bool) bool {
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	if !tx.lock(table, k) {
		return false
	}
	tx.version(table, k, v)
	if byKey {
		tx.event(table, outbox.Reload, &rec{K: k})
	} else {
		tx.event(table, outbox.Reload, nil)
	}
	return true
}

// putBad writes a row whose event cannot be read.
func (tx *fakeTx) putBad(table string, k int, v string) {
	tx.put(table, k, v)
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	tx.db.outbox[len(tx.db.outbox)-1].bad = true
}

// truncate empties the table; false if another transaction has a row of it.
func (tx *fakeTx) truncate(table string) bool {
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	if tx.db.inUse(table, tx.xid) {
		return false
	}
	tx.lock(table, whole)
	for k := range tx.db.tables[table] {
		tx.lock(table, k)
		tx.version(table, k, version{gone: true})
	}
	tx.event(table, outbox.Truncate, nil)
	return true
}

// inUse reports whether another transaction has written to the table.
func (db *fakeDB) inUse(table string, but uint64) bool {
	for key, holder := range db.locks {
		if key.table == table && holder != but {
			return true
		}
	}
	return false
}

// foreign writes an event of a table that nobody follows.
func (tx *fakeTx) foreign(table string) {
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	tx.event(table, outbox.Insert, nil)
}

func (tx *fakeTx) end() {
	tx.ended = true
	delete(tx.db.active, tx.xid)
	tx.db.ended = max(tx.db.ended, tx.xid)
	for _, key := range tx.locks {
		delete(tx.db.locks, key)
	}
}

// commit ends the transaction and rings, unless told to be silent.
func (tx *fakeTx) commit() { tx.commitSilently(); tx.db.ring() }

func (tx *fakeTx) commitSilently() {
	tx.record()
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	if !tx.ended {
		tx.end()
	}
}

// record writes the commit record: from then on the transaction survives a
// crash. It becomes visible when it is committed.
func (tx *fakeTx) record() {
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	if _, ok := tx.db.commits[tx.xid]; ok || tx.ended {
		return
	}
	tx.db.wal++
	tx.db.commits[tx.xid] = tx.db.wal
}

func (tx *fakeTx) abort() {
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	if tx.ended {
		return
	}
	tx.end()
	tx.db.forget(tx.xid)
}

// forget removes what a transaction wrote, as if it had been vacuumed.
func (db *fakeDB) forget(xid uint64) {
	db.outbox = slices.DeleteFunc(db.outbox, func(e fakeEvent) bool { return e.Xid == xid })
	for _, t := range db.tables {
		for k, vs := range t {
			t[k] = slices.DeleteFunc(vs, func(v version) bool { return v.xid == xid })
		}
	}
	delete(db.commits, xid)
	delete(db.firsts, xid)
}

// crash restarts the server with its log cut at a place: what committed after
// it is gone, running transactions are over, ids that the log does not hold
// are given out again, and the sequence jumps to what had been reserved.
func (db *fakeDB) crash(wal int) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, tx := range slices.Collect(maps.Values(db.active)) {
		tx.end()
	}
	var highest uint64 = 99
	for xid, first := range maps.Clone(db.firsts) {
		if first <= wal {
			highest = max(highest, xid)
		}
		if at, ok := db.commits[xid]; !ok || at > wal {
			db.forget(xid)
		}
	}
	db.next, db.ended, db.wal = highest+1, highest, wal
	db.seq = 0
	db.reserved = slices.DeleteFunc(db.reserved, func(r seqRecord) bool { return r.wal > wal })
	db.beats = slices.DeleteFunc(db.beats, func(b fakeBeat) bool { return b.wal > wal })
	if n := len(db.reserved); n > 0 {
		db.seq = db.reserved[n-1].seq
	}
	db.cutOff()
}

// newHistory empties the outbox and begins another history, as after a restore.
func (db *fakeDB) newHistory() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.outbox = slices.DeleteFunc(db.outbox, func(e fakeEvent) bool { return db.visible(db.snapshot(), e.Xid) })
	db.history = uuid.New()
	db.kept = db.wal
}

// trim removes the events of transactions below the horizon.
func (db *fakeDB) trim(horizon uint64) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.horizon = max(db.horizon, horizon)
	db.outbox = slices.DeleteFunc(db.outbox, func(e fakeEvent) bool { return e.Xid < horizon })
	db.kept = db.wal
}

// snapshot is pg_current_snapshot(). Caller holds mu.
func (db *fakeDB) snapshot() outbox.Position {
	return outbox.NewPosition(db.ended+1, slices.Collect(maps.Keys(db.active)))
}

func (db *fakeDB) visible(s outbox.Position, xid uint64) bool {
	_, committed := db.commits[xid]
	return committed && s.Covers(xid)
}

// at is what a table holds in a snapshot. Caller holds mu.
func (db *fakeDB) at(table string, s outbox.Position) rows {
	out := rows{}
	for k, vs := range db.tables[table] {
		for _, v := range slices.Backward(vs) {
			if db.visible(s, v.xid) {
				if !v.gone {
					out[k] = v.v
				}
				break
			}
		}
	}
	return out
}

// alter changes a table's rows without an event, and its fingerprint with it,
// as ALTER TABLE ... USING does; false if a transaction has the table in use.
func (db *fakeDB) alter(table string, f func(string) string) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.inUse(table, 0) {
		return false
	}
	for k, vs := range db.tables[table] {
		for i := range vs {
			vs[i].v = f(vs[i].v)
		}
		db.tables[table][k] = vs
	}
	i := slices.Index(db.names, table)
	db.prints[i] = fmt.Sprintf("%s'", db.prints[i])
	db.kept = db.wal
	return true
}
