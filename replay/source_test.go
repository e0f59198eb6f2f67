package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/outbox"
)

var errPulled = errors.New("the plug was pulled")

// script is what a test tells the fake server to do, and what it has seen.
// Guarded by fakeDB.mu.
type script struct {
	points   int  // places where a call could have failed so far
	failAt   int  // the place that fails; 0: none
	stays    bool // down from there on
	down     error
	deaf     bool // rings reach nobody
	bell     string
	other    string        // makes it another database
	skew     time.Duration // of the server's clock against ours
	delay    time.Duration // of every fetch, after its snapshot was taken
	trickle  time.Duration // before every row
	rewind   func(outbox.Position) outbox.Position
	problems map[int]error
	badRows  map[int]bool // loads of these tables bring rows that cannot be read
	busy     int          // so many loads find no turn
	noReread error        // what a fetch fails with that is to read rows by key
	twice    bool         // bring what the position covers as well
	during   func()       // runs after the snapshot of the next fetch was taken
	relayed  bool         // fetches for which nobody waits bring what the last other one has brought
	stills   bool         // it is found that no number was handed out
	moved    int          // so many fetches say that another session is to go on
	closed   int          // so often it was closed
	inFlight bool         // a bell that rests does not get its slot back
	rests    []time.Time  // when a bell was taken down

	requests []outbox.Request
	asked    [][]outbox.Anchor
	expect   map[string]rows // what the tables hold in the snapshot of the last fetch
	breaches []string        // of the contract of Session, by the engine
}

// fakeRow hands over a Go value.
type fakeRow struct{ v any }

func (r fakeRow) Value() any                                   { return r.v }
func (r fakeRow) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r fakeRow) Scan(...any) error                            { return errors.New("the fake has no columns") }
func (r fakeRow) Values() ([]any, error)                       { return nil, nil }
func (r fakeRow) RawValues() [][]byte                          { return nil }

type fakeSession struct {
	db    *fakeDB
	rings chan struct{}
	lost  chan struct{}
	last  *outbox.Header // of a fetch that has asked the server; under db.mu
	gone  bool           // under db.mu
	rests bool           // under db.mu
	// returns: the bell is to hang again, and does once nothing is in flight; under db.mu
	returns bool
	busy    atomic.Bool
	failed  atomic.Bool
	closed  atomic.Bool
}

// point is a place where the source may fail.
func (db *fakeDB) point() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.points++
	if db.points == db.failAt {
		if db.stays {
			db.down = errPulled
		}
		return fmt.Errorf("%w at place %d", errPulled, db.failAt)
	}
	return db.down
}

func (db *fakeDB) breach(what string) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.breaches = append(db.breaches, what)
}

func (db *fakeDB) Open(ctx context.Context) (Session, error) {
	if err := db.point(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err // an error comes without a session, as from the real source
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, s := range db.sessions {
		if !s.closed.Load() {
			db.breaches = append(db.breaches, "a session is opened while another one is open")
		}
	}
	s := &fakeSession{db: db, rings: make(chan struct{}, 1), lost: make(chan struct{})}
	db.sessions = append(db.sessions, s)
	return s, nil
}

// ring rings at every session that hears.
func (db *fakeDB) ring() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.deaf {
		return
	}
	for _, s := range db.sessions {
		if s.unhung() {
			continue
		}
		select {
		case s.rings <- struct{}{}:
		default:
		}
	}
}

// cutOff ends every session's connections. Caller holds mu.
func (db *fakeDB) cutOff() {
	for _, s := range db.sessions {
		if !s.gone {
			s.gone = true
			close(s.lost)
		}
	}
}

func (s *fakeSession) Lost() <-chan struct{} { return s.lost }
func (s *fakeSession) Close()                { s.closed.Store(true) }
func (s *fakeSession) WhyBell() string       { return "" }
func (s *fakeSession) Identity() string {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	return "the fake" + s.db.other
}

func (s *fakeSession) Rings() <-chan struct{} {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if s.unhung() {
		return nil
	}
	return s.rings
}

// unhung says that the bell rests, or has not come back. Caller holds mu.
func (s *fakeSession) unhung() bool {
	s.returns = s.returns && s.db.inFlight
	return s.rests || s.returns
}

// Rest implements Rester as a session with a WAL bell does.
func (s *fakeSession) Rest(rest bool) bool {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	switch {
	case s.db.bell != "wal":
	case rest && !s.rests:
		s.rests, s.returns = true, false
		s.db.rests = append(s.db.rests, time.Now())
	case !rest && s.rests:
		s.rests, s.returns = false, true
	}
	return s.rests
}

func (s *fakeSession) Bell() string {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if s.unhung() {
		return "poll"
	}
	if s.db.bell != "" {
		return s.db.bell
	}
	return "notify"
}

// call checks that the engine keeps the contract: one call at a time, none
// after one that failed.
func (s *fakeSession) call(name string, f func() error) error {
	if !s.busy.CompareAndSwap(false, true) {
		s.db.breach(name + " while another call runs")
	}
	defer s.busy.Store(false)
	if s.failed.Load() || s.closed.Load() {
		s.db.breach(name + " after the session's end")
	}
	err := s.db.point()
	if err == nil && s.isGone() {
		err = errPulled
	}
	if err == nil {
		err = f()
	}
	if busy := new(outbox.BusyError); err != nil && !errors.As(err, &busy) {
		s.failed.Store(true)
	}
	return err
}

func (s *fakeSession) isGone() bool {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	return s.gone
}

func (s *fakeSession) Missing(_ context.Context, anchors []outbox.Anchor) (missing []outbox.Anchor, err error) {
	return missing, s.call("Missing", func() error {
		s.db.mu.Lock()
		s.db.asked = append(s.db.asked, anchors)
		s.db.mu.Unlock()
		missing = s.db.missing(anchors)
		return nil
	})
}

func (s *fakeSession) Beat(context.Context) (at time.Time, err error) {
	return at, s.call("Beat", func() error {
		s.db.mu.Lock()
		defer s.db.mu.Unlock()
		if n := len(s.db.beats); n > 0 {
			at = s.db.beats[n-1].at
		}
		return nil
	})
}

func (s *fakeSession) Still(_ context.Context, lastSeq int64) (still bool, err error) {
	return still, s.call("Still", func() error {
		s.db.mu.Lock()
		defer s.db.mu.Unlock()
		still = s.db.stills && s.db.seq == lastSeq
		return nil
	})
}

func (db *fakeDB) missing(anchors []outbox.Anchor) (missing []outbox.Anchor) {
	db.mu.Lock()
	defer db.mu.Unlock()
	snap := db.snapshot()
	for _, a := range anchors {
		if !slices.ContainsFunc(db.outbox, func(e fakeEvent) bool {
			return e.Xid == a.Xid && e.Seq == a.Seq && e.At.Equal(a.At) && db.visible(snap, e.Xid)
		}) {
			missing = append(missing, a)
		}
	}
	return missing
}

func (s *fakeSession) Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	return s.call("Fetch", func() error {
		if s.db.moves() {
			return fmt.Errorf("the fake: %w", outbox.ErrMoved)
		}
		f := s.db.read(req)
		if h, ok := s.relayed(f, &req); ok {
			return sink.Begin(h)
		}
		if req.MaxLoads > 0 && s.db.busyFor() {
			return fmt.Errorf("the fake: %w", &outbox.BusyError{Limit: req.MaxLoads, Holders: []string{"web-7"}})
		}
		if len(req.Reread) > 0 && f.noReread != nil {
			return f.noReread
		}
		f.lastSeq(s)
		if err := pass(ctx, f.delay); err != nil {
			return err
		}
		return f.bring(ctx, sink)
	})
}

// relayed is the header of the last fetch that has asked the server, where that is to answer again.
func (s *fakeSession) relayed(f *fakeFetch, req *outbox.Request) (*outbox.Header, bool) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if !s.db.relayed || req.Now || len(req.Reload)+len(req.Reread) > 0 || s.last == nil {
		h := f.h
		s.last = &h
		return nil, false
	}
	h := *s.last
	h.Relayed, h.Fingerprints, h.Newest = true, f.h.Fingerprints, nil
	return &h, true
}

// Close implements io.Closer.
func (db *fakeDB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.closed++
	for _, s := range db.sessions {
		if !s.closed.Load() {
			db.breaches = append(db.breaches, "the source was closed before a session of it")
		}
	}
	return nil
}

// moves reports whether another session is to go on.
func (db *fakeDB) moves() bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.moved--
	return db.moved >= 0
}

// busyFor reports whether the load finds no turn.
func (db *fakeDB) busyFor() bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.busy--
	return db.busy >= 0
}

func pass(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// fakeFetch is what one fetch has read in its snapshot.
type fakeFetch struct {
	db       *fakeDB
	h        outbox.Header
	req      outbox.Request
	problems map[int]error
	bad      map[int]bool
	events   []fakeEvent
	content  map[string]rows
	delay    time.Duration
	trickle  time.Duration
	during   func()
	noReread error
}

func (db *fakeDB) read(req outbox.Request) *fakeFetch {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.requests = append(db.requests, req)
	f := &fakeFetch{
		db: db, req: req, delay: db.delay, trickle: db.trickle, during: db.during, noReread: db.noReread,
		problems: maps.Clone(db.problems), bad: maps.Clone(db.badRows), content: map[string]rows{},
	}
	db.during = nil
	snap := db.snapshot()
	f.h = outbox.Header{Began: time.Now(), Clock: time.Now().Add(db.skew), Snapshot: snap, Horizon: db.horizon, History: db.history}
	if req.Catalogue || len(req.Reload) > 0 {
		f.h.Fingerprints = slices.Clone(db.prints)
	}
	for _, n := range db.names {
		f.content[n] = db.at(n, snap)
	}
	db.expect = f.content
	for _, e := range db.outbox {
		if !db.visible(snap, e.Xid) {
			continue
		}
		if req.From.IsZero() {
			f.h.HighestXid = max(f.h.HighestXid, e.Xid)
			f.h.Newest = append(f.h.Newest, outbox.Anchor{Xid: e.Xid, Seq: e.Seq, At: e.At})
		} else if !req.From.Covers(e.Xid) || db.twice {
			f.events = append(f.events, e)
		}
	}
	slices.SortFunc(f.events, func(a, b fakeEvent) int { return int(a.Seq - b.Seq) })
	f.h.Newest = lastOfEach(f.h.Newest)
	f.h.Older = db.older && req.From.IsZero()
	if db.rewind != nil {
		f.h.Snapshot = db.rewind(snap)
	}
	return f
}

// lastOfEach keeps the last event of each transaction.
func lastOfEach(all []outbox.Anchor) []outbox.Anchor {
	last := map[uint64]outbox.Anchor{}
	for _, a := range all {
		if a.Seq > last[a.Xid].Seq {
			last[a.Xid] = a
		}
	}
	return slices.Collect(maps.Values(last))
}

// lastSeq reads what changes behind the snapshot: the handed-out number and a
// drawn transaction id.
func (f *fakeFetch) lastSeq(s *fakeSession) {
	if f.during != nil {
		f.during()
	}
	f.db.mu.Lock()
	f.h.LastSeq = f.db.seq
	f.db.mu.Unlock()
	if f.req.DrawXid {
		tx := s.db.begin()
		f.h.Drawn = tx.xid
		tx.abort()
	}
}

// bring plays it to the sink.
func (f *fakeFetch) bring(ctx context.Context, sink outbox.Sink) error {
	step := func(err error) error {
		if err == nil {
			err = f.db.point()
		}
		if err == nil {
			err = pass(ctx, f.trickle)
		}
		return err
	}
	if err := step(sink.Begin(&f.h)); err != nil {
		return err
	}
	for table, p := range f.problems {
		if slices.Contains(f.req.Reload, table) || slices.Contains(f.req.Reread, table) {
			if err := step(sink.Problem(table, p)); err != nil {
				return err
			}
		}
	}
	for i := range f.events {
		if err := step(f.event(sink, &f.events[i])); err != nil {
			return err
		}
	}
	for _, table := range f.req.Reload {
		for k, v := range f.content[f.db.names[table]] {
			row := fakeRow{rec{k, v}}
			if f.bad[table] {
				row = fakeRow{"rubbish"}
			}
			if f.problems[table] == nil {
				if err := step(sink.Load(table, row)); err != nil {
					return err
				}
			}
		}
	}
	for i := range f.events {
		if err := step(f.reread(sink, &f.events[i])); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeFetch) event(sink outbox.Sink, e *fakeEvent) error {
	ev, table := e.Event, slices.Index(f.db.names, e.Table)
	switch {
	case table < 0 || e.row == nil:
		return sink.Event(table, &ev, nil)
	case e.bad:
		return sink.Event(table, &ev, fakeRow{"rubbish"})
	}
	return sink.Event(table, &ev, fakeRow{*e.row})
}

func (f *fakeFetch) reread(sink outbox.Sink, e *fakeEvent) error {
	table := slices.Index(f.db.names, e.Table)
	if e.Op != outbox.Reload || e.row == nil || !slices.Contains(f.req.Reread, table) || f.problems[table] != nil {
		return nil
	}
	key := fakeRow{rec{K: e.row.K}}
	if v, ok := f.content[e.Table][e.row.K]; ok {
		return sink.Reread(table, key, fakeRow{rec{e.row.K, v}})
	}
	return sink.Reread(table, key, nil)
}
