package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// recorder is a sink that writes down what it gets: "I a:1", "load b:2", "reread 3: nil".
type recorder struct {
	header   outbox.Header
	calls    []string
	events   []outbox.Event
	problems map[int]error
	fail     error // returned by the first event
}

func (r *recorder) Begin(h *outbox.Header) error {
	r.header = *h
	return nil
}

func (r *recorder) Problem(table int, err error) error {
	if r.problems == nil {
		r.problems = map[int]error{}
	}
	r.problems[table] = err
	return nil
}

// show reads the first two columns, id and v, of a row.
func show(row pgx.CollectableRow) string {
	if row == nil {
		return "nil"
	}
	var id int
	v := "-" // stays where the row has the key only
	if err := row.Scan(&id, &v); err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprintf("%d=%s", id, v)
}

func (r *recorder) Event(table int, ev *outbox.Event, row pgx.CollectableRow) error {
	kept := *ev
	kept.Row = slices.Clone(ev.Row)
	r.events = append(r.events, kept)
	r.calls = append(r.calls, fmt.Sprintf("%d %v %s", table, ev.Op, show(row)))
	return r.fail
}

func (r *recorder) Load(table int, row pgx.CollectableRow) error {
	r.calls = append(r.calls, fmt.Sprintf("%d load %s", table, show(row)))
	return nil
}

func (r *recorder) Reread(table int, key, row pgx.CollectableRow) error {
	r.calls = append(r.calls, fmt.Sprintf("%d reread %s: %s", table, show(key), show(row)))
	return nil
}

// rig is a database with tables a and b (id int primary key, v text), tracked.
type rig struct {
	*pgtest.DB
	pool *pgxpool.Pool
	src  *outbox.Source
}

func newRig(t testing.TB, change ...func(*outbox.Config)) *rig {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key, v text); create table b (id int primary key, v text)")
	pool := db.Pool(t)
	if err := triggers.Install(t.Context(), pool, triggers.Options{Logger: slog.New(slog.DiscardHandler)}, "public.a", "public.b"); err != nil {
		t.Fatal(err)
	}
	cfg := outbox.Config{Pool: pool, Tables: []outbox.TableSpec{{Name: "public.a"}, {Name: "public.b"}}}
	for _, f := range change {
		f(&cfg)
	}
	src, err := outbox.NewSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{db, pool, src}
}

func (r *rig) open(t testing.TB) *outbox.Session {
	t.Helper()
	s, err := r.src.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// load loads both tables and returns the tight position.
func (r *rig) load(t testing.TB, s *outbox.Session) (outbox.Position, *recorder) {
	t.Helper()
	rec := fetch(t, s, outbox.Request{Reload: []int{0, 1}})
	return outbox.Position{}.Tight(rec.header.Snapshot, rec.header.HighestXid), rec
}

func fetch(t testing.TB, s *outbox.Session, req outbox.Request) *recorder {
	t.Helper()
	var rec recorder
	if err := s.Fetch(t.Context(), req, &rec); err != nil {
		t.Fatal(err)
	}
	return &rec
}

// follow fetches from a position and moves it.
func follow(t *testing.T, s *outbox.Session, pos *outbox.Position) *recorder {
	t.Helper()
	rec := fetch(t, s, outbox.Request{From: *pos})
	highest := uint64(0)
	for _, ev := range rec.events {
		highest = max(highest, ev.Xid)
	}
	*pos = pos.Tight(rec.header.Snapshot, highest)
	return rec
}

func (r *rig) begin(t *testing.T) pgx.Tx {
	t.Helper()
	tx, err := r.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func must(t *testing.T, tx pgx.Tx, sql string) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func commit(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantCalls(t *testing.T, rec *recorder, want ...string) {
	t.Helper()
	if !slices.Equal(rec.calls, want) {
		t.Errorf("the fetch brought\n  %q, want\n  %q", rec.calls, want)
	}
}

var errSink = errors.New("the sink has had enough")

func canceled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
