package locksteptest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/bridge"
	"github.com/pglockstep/lockstep/outbox"
)

// TB is what New needs of a *testing.T.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(fn func())
}

// DB is a database in memory with one node on it. Its methods may be called
// by any number of goroutines.
type DB struct {
	node   *lockstep.Node
	tables []lockstep.AnyTable
	failed func(format string, args ...any)

	mu      sync.Mutex
	history uuid.UUID
	next    uint64 // the transaction id to be given out next
	seq     int64  // the highest sequence number handed out
	horizon uint64
	rows    []map[any]any // by table: the row of each key
	log     []event
	locks   map[lock]chan struct{} // rows that an Update holds; closed when it ends
	refusal error
	away    bool // fetches fail and sessions end
	mute    bool // the node's writes fail
	now     *session
	back    chan struct{} // closed by Reconnect; made by Disconnect
	knocked chan struct{} // gets a value when the node tries to connect in vain
}

// event is one event of the log, with its row.
type event struct {
	outbox.Event
	row any
}

// lock names a row.
type lock struct {
	table int
	key   any
}

// Wait bounds how long DB's methods wait for the node, in the time of the test.
const Wait = 10 * time.Second

// New starts a node on a database with these tables, which With may have given
// rows. The node finds callers who change shared rows, logs nothing, and is
// closed at the test's end. A mistake in a declaration fails the test.
func New(t TB, tables ...lockstep.AnyTable) *DB {
	t.Helper()
	db, err := Start(lockstep.Config{DetectMutation: true, Logger: slog.New(slog.DiscardHandler)}, tables...)
	if err != nil {
		t.Fatalf("locksteptest: %v", err)
	}
	db.failed = t.Fatalf
	t.Cleanup(db.Close)
	return db
}

// Start is New with a configuration, and without a test. It must be closed.
// Where New would fail the test, methods of its DB panic.
func Start(cfg lockstep.Config, tables ...lockstep.AnyTable) (*DB, error) {
	db := &DB{
		history: uuid.New(), next: 3, locks: make(map[lock]chan struct{}), knocked: make(chan struct{}, 1),
		failed: func(format string, args ...any) { panic(fmt.Sprintf(format, args...)) },
	}
	for _, t := range tables {
		rows := make(map[any]any)
		if s, ok := t.(seeded); ok {
			t = s.AnyTable
			if t != nil && s.keyed != nil {
				rows = s.keyed()
			}
		}
		db.tables, db.rows = append(db.tables, t), append(db.rows, rows)
	}
	given := make([]any, len(db.tables))
	for i, t := range db.tables {
		given[i] = t
	}
	n, err := bridge.Start(context.Background(), source{db}, writer{db}, cfg, given)
	if err != nil {
		return nil, err
	}
	node, ok := n.(*lockstep.Node)
	if !ok {
		return nil, fmt.Errorf("locksteptest: the node is a %T", n)
	}
	db.node = node
	return db, nil
}

// Node is the node.
func (db *DB) Node() *lockstep.Node { return db.node }

// Close closes the node.
func (db *DB) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	if err := db.node.Close(ctx); err != nil {
		db.failed("locksteptest: %v", err)
	}
}

// Disconnect cuts the node off, as if the network had: it becomes stale, goes
// on answering from memory, and its writes fail with ErrUnavailable, unless
// KeepWrites is given. Disconnect returns once the node is stale. Commit goes
// on working: it is what others do meanwhile.
func (db *DB) Disconnect(opts ...Option) {
	db.mu.Lock()
	db.mute = !slices.Contains(opts, KeepWrites)
	if db.away {
		db.mu.Unlock()
		return
	}
	db.away, db.back = true, make(chan struct{})
	select {
	case <-db.knocked:
	default:
	}
	if db.now != nil {
		db.now.end()
	}
	db.mu.Unlock()
	// The node knows once it has tried to connect again.
	timer := time.NewTimer(Wait)
	defer timer.Stop()
	for db.node.Status().State != lockstep.Closed {
		select {
		case <-db.knocked:
			return
		case <-timer.C:
			db.failed("locksteptest: the node has not noticed in %v that it was cut off", Wait)
			return
		}
	}
}

// Reconnect ends Disconnect and returns once the node has caught up.
func (db *DB) Reconnect() {
	db.mu.Lock()
	if db.away {
		db.away, db.mute = false, false
		close(db.back)
	}
	db.mu.Unlock()
	db.settle()
}

// Reload loads tables again, all of them if none is named.
func (db *DB) Reload(tables ...lockstep.AnyTable) {
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	var which []lockstep.AnyTable
	for _, t := range tables {
		which = append(which, db.tables[db.indexOf(t)])
	}
	if err := db.node.Reload(ctx, which...); err != nil {
		db.failed("%v", err)
	}
}

// NewHistory empties the log and begins another history, as a restore into
// another cluster does: the node loads all tables again, and tokens of before are
// refused with ErrHistory. It returns once the node has, unless it is cut off.
func (db *DB) NewHistory() {
	db.mu.Lock()
	db.history, db.log, db.horizon = uuid.New(), nil, 0
	db.ring()
	db.mu.Unlock()
	db.settle()
}

// Trim removes the log but for its end. A node that is cut off and has missed
// something must load all tables again when it is back; one that is
// connected has seen everything and goes on.
func (db *DB) Trim() {
	// The newest transaction always stays, so it is one that says nothing.
	db.mu.Lock()
	xid := db.next
	db.append(event{Event: outbox.Event{Xid: xid, Table: "", Op: outbox.Insert, Lead: true}})
	db.next++
	db.ring()
	db.mu.Unlock()
	db.settle()
	db.mu.Lock()
	defer db.mu.Unlock()
	db.horizon = max(db.horizon, xid)
	db.log = slices.DeleteFunc(db.log, func(e event) bool { return e.Xid < xid })
}

// Refuse makes every write of the node's own tables fail with err as its cause,
// as ErrNotCommitted unless err is a *lockstep.WriteError that says otherwise; nil ends it.
func (db *DB) Refuse(err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.refusal = err
}

// settle waits until the node shows what there is, if it can.
func (db *DB) settle() {
	if db.cutOff() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	if err := db.node.Barrier(ctx); err != nil && !errors.Is(err, lockstep.ErrClosed) && !db.cutOff() {
		db.failed("%v", err)
	}
}

func (db *DB) cutOff() bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.away
}

func (db *DB) indexOf(t lockstep.AnyTable) int {
	if s, ok := t.(seeded); ok {
		t = s.AnyTable
	}
	i := slices.Index(db.tables, t)
	if i < 0 {
		db.failed("locksteptest: table %s was not given to New", t.Name())
	}
	return i
}

// append puts an event at the end of the log. Caller holds mu.
func (db *DB) append(e event) {
	db.seq++
	e.Seq, e.At = db.seq, time.Now()
	db.log = append(db.log, e)
}

// ring rings the bell. Caller holds mu.
func (db *DB) ring() {
	if db.now != nil {
		select {
		case db.now.rings <- struct{}{}:
		default:
		}
	}
}
