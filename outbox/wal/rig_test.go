package wal_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/pglockstep/lockstep/internal/logbuf"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/outbox/wal"
	"github.com/pglockstep/lockstep/triggers"
)

func TestMain(m *testing.M) {
	pgtest.Main(m, pgtest.With("wal_level", "logical"), pgtest.With("max_prepared_transactions", "10"))
}

// limit is for what never comes.
const limit = 30 * time.Second

// rig is a database with table a (id int primary key, v text), captured, whose bell is wal.
type rig struct {
	*pgtest.DB
	pool *pgxpool.Pool
	log  *logbuf.Buffer
}

func newRig(t *testing.T, db *pgtest.DB) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	db.Exec(t, "create table a (id int primary key, v text)")
	r := &rig{db, db.Pool(t), &logbuf.Buffer{}}
	r.install(t, triggers.BellWAL, "public.a")
	return r
}

func (r *rig) install(t *testing.T, bell triggers.Bell, tables ...string) {
	t.Helper()
	o := triggers.Options{Bell: bell, Logger: slog.New(slog.DiscardHandler)}
	if err := triggers.Install(t.Context(), r.pool, o, tables...); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) source(t *testing.T, pool *pgxpool.Pool, change ...func(*outbox.Config)) *outbox.Source {
	t.Helper()
	cfg := outbox.Config{
		Pool: pool, WAL: wal.Bell{}, RetryBell: 20 * time.Millisecond, ProveWithin: limit, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		Tables: []outbox.TableSpec{{Name: "public.a"}},
	}
	for _, f := range change {
		f(&cfg)
	}
	src, err := outbox.NewSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func (r *rig) open(t *testing.T, pool *pgxpool.Pool, change ...func(*outbox.Config)) *outbox.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s, err := r.source(t, pool, change...).Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// hung is a session whose WAL bell hangs, with its first ring taken.
func (r *rig) hung(t *testing.T, change ...func(*outbox.Config)) *outbox.Session {
	t.Helper()
	s := r.open(t, r.pool, change...)
	if s.Bell() != "wal" || s.WhyBell() != "" {
		t.Fatalf("the bell is %s: %s", s.Bell(), s.WhyBell())
	}
	awaitRing(t, s)
	return s
}

func awaitRing(t *testing.T, s *outbox.Session) {
	t.Helper()
	select {
	case <-s.Rings():
	case <-time.After(limit):
		t.Fatal("nobody rang")
	}
}

func awaitLost(t *testing.T, s *outbox.Session) {
	t.Helper()
	select {
	case <-s.Lost():
	case <-time.After(limit):
		t.Fatal("the bell lost its connection without a word")
	}
}

// until asks again and again until the answer is yes.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	pgtest.Until(t, limit, what, yes)
}

// one is the single value of a query.
func one[T any](t *testing.T, conn *pgx.Conn, sql string) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// acknowledged waits until what was written so far is.
func (r *rig) acknowledged(t *testing.T) {
	t.Helper()
	conn := r.Conn(t)
	written := one[string](t, conn, "select pg_current_wal_flush_lsn()::text")
	until(t, "what was written is acknowledged", func() bool {
		return one[bool](t, conn, "select confirmed_flush_lsn >= '"+written+"' from pg_replication_slots where database = current_database()")
	})
}

// nothingLeft waits until the server has no slot and no walsender of ours any more.
func (r *rig) nothingLeft(t *testing.T) {
	t.Helper()
	conn := r.Conn(t)
	until(t, "nothing is left on the server", func() bool {
		return one[int](t, conn, `select (select count(*) from pg_replication_slots where database = current_database())::int
			+ (select count(*) from pg_stat_activity where application_name = 'lockstep bell' and datname = current_database())::int`) == 0
	})
}

// said are the lines of the log that hold a text.
func (r *rig) said(text string) (found []string) {
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
