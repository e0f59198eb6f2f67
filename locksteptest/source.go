package locksteptest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// source is the database as a node follows it.
type source struct{ db *DB }

// Open implements replay.Source. While the node is cut off it waits, so that
// Reconnect is noticed at once.
func (s source) Open(ctx context.Context) (replay.Session, error) {
	s.db.mu.Lock()
	away, back := s.db.away, s.db.back
	s.db.mu.Unlock()
	if away {
		select {
		case s.db.knocked <- struct{}{}:
		default:
		}
		select {
		case <-back:
		case <-ctx.Done():
			return nil, errCutOff
		}
	}
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if s.db.away { // again
		return nil, errCutOff
	}
	s.db.now = &session{db: s.db, rings: make(chan struct{}, 1), lost: make(chan struct{})}
	return s.db.now, nil
}

// session is one life of the connections.
type session struct {
	db    *DB
	rings chan struct{}
	lost  chan struct{}
	ended bool // under db.mu
}

// end cuts the connections. Caller holds db.mu.
func (s *session) end() {
	if !s.ended {
		s.ended = true
		close(s.lost)
	}
}

// Rings implements replay.Session.
func (s *session) Rings() <-chan struct{} { return s.rings }

// Lost implements replay.Session.
func (s *session) Lost() <-chan struct{} { return s.lost }

// Bell implements replay.Session.
func (s *session) Bell() string { return "notify" }

// Identity implements replay.Session.
func (s *session) Identity() string { return "locksteptest" }

// WhyBell implements replay.Session.
func (s *session) WhyBell() string { return "" }

// Still implements replay.Session.
func (s *session) Still(context.Context, int64) (bool, error) { return false, nil }

// Close implements replay.Session.
func (s *session) Close() {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	s.end()
	if s.db.now == s {
		s.db.now = nil
	}
}

// Missing implements replay.Session.
func (s *session) Missing(_ context.Context, anchors []outbox.Anchor) (missing []outbox.Anchor, err error) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if s.ended {
		return nil, errCutOff
	}
	for _, a := range anchors {
		if !slices.ContainsFunc(s.db.log, func(e event) bool { return e.Xid == a.Xid && e.Seq == a.Seq && e.At.Equal(a.At) }) {
			missing = append(missing, a)
		}
	}
	return missing, nil
}

// Beat implements replay.Session: there is no register.
func (s *session) Beat(context.Context) (time.Time, error) { return time.Time{}, nil }

// Fetch implements replay.Session. What it brings is read in one step, which
// is its snapshot.
func (s *session) Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	f, err := s.read(req)
	if err != nil {
		return err
	}
	if err := sink.Begin(&f.header); err != nil {
		return err
	}
	for i := range f.events {
		if err := f.event(s.db, sink, &f.events[i]); err != nil {
			return err
		}
	}
	for i, rows := range f.loads {
		for _, r := range rows {
			if err := sink.Load(req.Reload[i], value{r}); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// fetch is what one fetch has read.
type fetch struct {
	header outbox.Header
	events []event
	loads  [][]any // rows, in the order of Request.Reload
}

func (s *session) read(req outbox.Request) (*fetch, error) {
	db := s.db
	db.mu.Lock()
	defer db.mu.Unlock()
	if s.ended {
		return nil, errCutOff
	}
	f := &fetch{header: outbox.Header{
		Began: time.Now(), Snapshot: outbox.NewPosition(db.next, nil),
		LastSeq: db.seq, Horizon: db.horizon, History: db.history,
	}}
	if req.DrawXid {
		f.header.Drawn = db.next
		db.next++
	}
	if req.Catalogue || len(req.Reload) > 0 {
		f.header.Fingerprints = make([]string, len(db.tables))
	}
	if req.From.IsZero() {
		f.header.HighestXid, f.header.Newest = db.newest()
	} else {
		for _, e := range db.log {
			if !req.From.Covers(e.Xid) {
				f.events = append(f.events, e)
			}
		}
	}
	for _, i := range req.Reload {
		rows := make([]any, 0, len(db.rows[i]))
		for _, r := range db.rows[i] {
			rows = append(rows, r)
		}
		f.loads = append(f.loads, rows)
	}
	return f, nil
}

// newest are the newest thousand transactions: the log holds each in one piece.
func (db *DB) newest() (highest uint64, list []outbox.Anchor) {
	for _, e := range slices.Backward(db.log) {
		if n := len(list); n > 0 && list[n-1].Xid == e.Xid {
			continue
		}
		if len(list) == 1000 {
			break
		}
		highest = max(highest, e.Xid)
		list = append(list, outbox.Anchor{Xid: e.Xid, Seq: e.Seq, At: e.At})
	}
	return highest, list
}

func (f *fetch) event(db *DB, sink outbox.Sink, e *event) error {
	ev := e.Event
	table := slices.IndexFunc(db.tables, func(t lockstep.AnyTable) bool { return t.Name() == ev.Table })
	if e.row == nil {
		return sink.Event(table, &ev, nil)
	}
	return sink.Event(table, &ev, value{e.row})
}

// value hands over a Go value as a row: see replay.Binding.
type value struct{ v any }

var errNoColumns = errors.New("locksteptest: the row is a Go value and has no columns")

// Value is the row.
func (r value) Value() any { return r.v }

// FieldDescriptions implements pgx.CollectableRow.
func (r value) FieldDescriptions() []pgconn.FieldDescription { return nil }

// Scan implements pgx.CollectableRow.
func (r value) Scan(...any) error { return errNoColumns }

// Values implements pgx.CollectableRow.
func (r value) Values() ([]any, error) { return nil, errNoColumns }

// RawValues implements pgx.CollectableRow.
func (r value) RawValues() [][]byte { return nil }

var _ pgx.CollectableRow = value{}
