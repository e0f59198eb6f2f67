//go:build unix

package integration

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// gate stands between followers and the server.
type gate struct{ shut atomic.Bool }

// gated is the real outbox behind a gate, with what a weaker rule makes of its answers.
type gated struct {
	*outbox.Source
	gate    *gate
	without func(replay.Session) replay.Session
}

func (g *gated) Open(ctx context.Context) (replay.Session, error) {
	if g.gate.shut.Load() {
		return nil, errors.New("the gate is shut")
	}
	s, err := g.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	return g.without(s), nil
}

// withNothingLess is every rule.
func withNothingLess(s replay.Session) replay.Session { return s }

// withoutTightPosition makes the position of a load the snapshot that it was read in.
func withoutTightPosition(s replay.Session) replay.Session { return &looseSession{s} }

type looseSession struct{ replay.Session }

func (s *looseSession) Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	return s.Session.Fetch(ctx, req, &looseSink{sink})
}

type looseSink struct{ outbox.Sink }

func (s *looseSink) Begin(h *outbox.Header) error {
	loose := *h
	loose.HighestXid = h.Snapshot.Xmax() - 1
	return s.Sink.Begin(&loose)
}

// withoutAnchor believes every server.
func withoutAnchor(s replay.Session) replay.Session { return &trustingSession{s} }

type trustingSession struct{ replay.Session }

func (s *trustingSession) Missing(context.Context, []outbox.Anchor) ([]outbox.Anchor, error) {
	return nil, nil
}

// withLastCutOnly is an anchor that lets go of a cut as soon as there is another.
func withLastCutOnly() func(replay.Session) replay.Session {
	last := map[uint64]bool{} // outlives the session, as an anchor does
	return func(s replay.Session) replay.Session { return &lastCutSession{s, &last} }
}

type lastCutSession struct {
	replay.Session
	last *map[uint64]bool
}

func (s *lastCutSession) Missing(ctx context.Context, anchors []outbox.Anchor) ([]outbox.Anchor, error) {
	var asked []outbox.Anchor
	for _, a := range anchors {
		if (*s.last)[a.Xid] {
			asked = append(asked, a)
		}
	}
	return s.Session.Missing(ctx, asked)
}

func (s *lastCutSession) Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	noting := &xidSink{sink, map[uint64]bool{}}
	err := s.Session.Fetch(ctx, req, noting)
	if err == nil && len(noting.xids) > 0 {
		*s.last = noting.xids
	}
	return err
}

type xidSink struct {
	outbox.Sink
	xids map[uint64]bool
}

func (s *xidSink) Event(table int, ev *outbox.Event, row pgx.CollectableRow) error {
	s.xids[ev.Xid] = true
	return s.Sink.Event(table, ev, row)
}

// follower is an engine with some rule taken away, or none.
type follower struct {
	engine *replay.Engine
	table  *cache.Table[int, item]
}

func follow(t *testing.T, db *pgtest.DB, g *gate, without func(replay.Session) replay.Session) *follower {
	t.Helper()
	src, err := outbox.NewSource(outbox.Config{Pool: db.Pool(t), Tables: []outbox.TableSpec{{Name: "public.items"}}})
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{table: cache.NewTable[int, item]("public.items")}
	store, err := cache.NewStore(cache.Options{}, f.table)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	binding := &replay.Binding[int, item]{
		Table: f.table, Key: func(i item) int { return i.ID }, Row: func(row pgx.CollectableRow, into *item) (err error) {
			*into, err = pgx.RowToStructByNameLax[item](row)
			return err
		},
		Equal: func(a, b item) bool { return a == b },
	}
	cfg := replay.Config{BackoffMin: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond}
	if f.engine, err = replay.New(store, &gated{src, g, without}, []replay.Table{binding}, cfg); err != nil {
		t.Fatal(err)
	}
	if err := f.engine.Start(deadline(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// scene is a database whose cluster is about to crash, and those who follow it.
type scene struct {
	db  *pgtest.DB
	all []interface {
		Barrier(ctx context.Context) error
	}
}

func (s *scene) caughtUp(t *testing.T) {
	t.Helper()
	for _, f := range s.all {
		if err := f.Barrier(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// Each rule that a position lives by is needed: followers that do without one
// of them, and otherwise do what a node does, are wrong for good after a crash
// that a node survives.
func TestEachRuleOfCrashesIsNeeded(t *testing.T) {
	for name, rule := range map[string]struct {
		without func(replay.Session) replay.Session
		before  func(*testing.T, *scene)        // they load
		after   func(*testing.T, *scene) uint64 // and before the crash; an id to be given out again
		reason  replay.Reason                   // for which a node loads again, if it does
	}{
		"the position is tight":                         {without: withoutTightPosition, before: someEvents, after: burnt},
		"the position is tight, of an empty outbox too": {without: withoutTightPosition, before: func(*testing.T, *scene) {}, after: burnt},
		"the anchor is asked for":                       {without: withoutAnchor, before: someEvents, after: lostTail, reason: replay.AnchorMissing},
		"the anchor keeps a cut until a number from after it was applied": {
			without: withLastCutOnly(), before: someEvents, after: lostBehindASurvivor, reason: replay.AnchorMissing,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := forgetful(t)
			s := &scene{db: c.New(t)}
			items(t, s.db)
			rule.before(t, s)
			holdLog(t, s.db)
			conn := careless(t, s.db)
			burn(t, conn, 5) // so that a snapshot is above whatever is in the log
			g := &gate{}
			right, wrong := follow(t, s.db, g, withNothingLess), follow(t, s.db, g, rule.without)
			s.all = append(s.all, right.engine, wrong.engine)
			again := rule.after(t, s)

			g.shut.Store(true)
			crash(t, c)
			moveUpTo(t, s.db, again)
			g.shut.Store(false)
			s.caughtUp(t)
			want := itemsOf(t, s.db)
			if got := maps.Collect(right.table.All()); !maps.Equal(got, want) {
				t.Errorf("by every rule there is %v, in the database %v", got, want)
			}
			if got := maps.Collect(wrong.table.All()); maps.Equal(got, want) {
				t.Error("without the rule all is well, too: this test no longer shows what it is for")
			}
			until(t, "the one without the rule says that it is live", func() bool { return wrong.engine.Status().State == replay.Live })
			if st := wrong.engine.Status(); st.Resyncs != 0 {
				t.Errorf("without the rule there were %d resyncs: %+v", st.Resyncs, st.Loads)
			}
			st := right.engine.Status()
			if last := st.Loads[len(st.Loads)-1]; rule.reason == "" && st.Resyncs != 0 || rule.reason != "" && last.Reason != rule.reason {
				t.Errorf("by every rule %d resyncs, %+v, want one because of %q", st.Resyncs, st.Loads, rule.reason)
			}
		})
	}
}

func someEvents(t *testing.T, s *scene) {
	t.Helper()
	move(t, s.db.Conn(t), 1, 2, 5)
}

// burnt: nothing is lost but the ids that rolled back transactions had drawn.
func burnt(t *testing.T, s *scene) uint64 {
	t.Helper()
	s.caughtUp(t)
	return highestXid(t, s.db.Conn(t))
}

// lostTail: asynchronous commits are applied and lost.
func lostTail(t *testing.T, s *scene) uint64 {
	t.Helper()
	conn := careless(t, s.db)
	move(t, conn, 3, 4, 7)
	move(t, conn, 5, 6, 8)
	s.caughtUp(t)
	return lastXid(t, conn)
}

// lostBehindASurvivor: a commit is on disk and waits for a standby, so nobody
// sees it yet. An asynchronous one behind it in the log is seen at once. Then
// the first is seen as well, as the last of all, and the crash takes only the other.
func lostBehindASurvivor(t *testing.T, s *scene) uint64 {
	t.Helper()
	admin, slow, fast := s.db.Conn(t), s.db.Conn(t), careless(t, s.db)
	run(t, slow, "begin")
	move(t, slow, 3, 4, 7)
	run(t, admin, "alter system set synchronous_standby_names = 'nobody'")
	run(t, admin, "select pg_reload_conf()")
	until(t, "the setting is in force", func() bool {
		var names string
		return s.db.Conn(t).QueryRow(deadline(t), "show synchronous_standby_names").Scan(&names) == nil && names == "nobody"
	})
	committed := make(chan error, 1)
	go func(ctx context.Context) {
		_, err := slow.Exec(ctx, "commit")
		committed <- err
	}(deadline(t))
	until(t, "the commit is on disk and waits for a standby", func() bool {
		var waits bool
		return admin.QueryRow(deadline(t), "select exists (select from pg_stat_activity where wait_event = 'SyncRep')").Scan(&waits) == nil && waits
	})
	move(t, fast, 5, 6, 8)
	lost := lastXid(t, fast)
	s.caughtUp(t)
	run(t, admin, "alter system reset synchronous_standby_names")
	run(t, admin, "select pg_reload_conf()")
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	s.caughtUp(t)
	return lost
}
