package wal_test

import (
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

func TestBellRingsForEachCommitThatWroteTheOutboxAndForNoOther(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	r.Exec(t, "create table other (id int primary key)")
	s := r.hung(t)
	for _, sql := range []string{
		"insert into a values (1, 'x')",
		"begin; insert into a values (2, 'x'); savepoint s; insert into a values (3, 'x'); rollback to s; commit",
		"begin; savepoint s; insert into a values (4, 'x'); rollback to s; insert into a values (5, 'x'); commit",
		"truncate a",
		"set synchronous_commit = off; insert into a values (6, 'x')",
		"insert into a select i, 'x' from generate_series(100, 1100) i",
	} {
		r.Exec(t, sql)
		awaitRing(t, s)
	}
	r.Exec(t, "begin; insert into a values (7, 'x'); prepare transaction 'lockstep wal'")
	r.Exec(t, "insert into other values (1); begin; insert into a values (8, 'x'); rollback; begin; savepoint s; insert into a values (8, 'x'); rollback to s; commit; delete from a where id < 0; update lockstep.meta set bell = bell")
	r.acknowledged(t)
	select {
	case <-s.Rings():
		t.Error("it rang for what changes no captured table, or was not committed")
	default:
	}
	r.Exec(t, "commit prepared 'lockstep wal'")
	awaitRing(t, s)
}

// The log is there before the commit is visible. Who fetches too early is told
// by the sequence that there is more to come.
func TestAFetchAfterTheRingKnowsOfTheCommitOrThatOneIsMissing(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	s := r.hung(t)
	pos := load(t, s)
	for i := range 200 {
		r.Exec(t, "insert into a values ($1, 'x')", i)
		awaitRing(t, s)
		sink := &counter{}
		if err := s.Fetch(t.Context(), outbox.Request{From: pos}, sink); err != nil {
			t.Fatal(err)
		}
		if sink.header.LastSeq != int64(i+1) {
			t.Fatalf("after ring %d the last number handed out is %d, and the last event %d", i, sink.header.LastSeq, sink.last)
		}
	}
}

func TestNothingIsLeftOnTheServerHoweverTheBellEnds(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	conn := r.Conn(t)
	const slots = "select count(*)::int from pg_replication_slots where database = current_database() and temporary and active and plugin = 'pgoutput'"

	s := r.hung(t)
	if n := one[int](t, conn, slots); n != 1 {
		t.Errorf("%d temporary slots", n)
	}
	s.Close()
	if n := one[int](t, conn, slots); n != 0 {
		t.Errorf("%d slots after Close", n)
	}
	r.nothingLeft(t)

	s = r.hung(t)
	r.Exec(t, "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()")
	awaitLost(t, s)
	r.nothingLeft(t)
	s.Close()
	if n := len(r.said("lost its connection")); n != 1 {
		t.Errorf("the log says %d times that the connection is lost", n)
	}
}

// Writers at work, and a bell that nobody listens to: the log is not held back.
func TestTheLogIsAcknowledgedWhateverIsWritten(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	r.Exec(t, "create table other (id int, v text)")
	r.hung(t)
	conn := r.Conn(t)
	for _, sql := range []string{
		"insert into a select i, 'x' from generate_series(1, 1000) i", // ours
		"insert into other select i, repeat('x', 1000) from generate_series(1, 1000) i",
	} {
		r.Exec(t, sql)
		r.acknowledged(t)
	}
	// The slot lets the log go once the server has noted who is running.
	before := one[string](t, conn, "select restart_lsn::text from pg_replication_slots where database = current_database()")
	until(t, "the slot moves on", func() bool {
		r.Exec(t, "checkpoint; insert into other values (1, 'x')")
		return one[bool](t, conn, "select restart_lsn > '"+before+"' from pg_replication_slots where database = current_database()")
	})
}

// A slot waits for every writer. The node does not: it polls until the bell hangs.
func TestALongTransactionAtTheStartHoldsUpTheBellOnly(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	r.Exec(t, "alter database "+r.Name+" set lock_timeout = '50ms'") // for queries, not for this
	conn := r.Conn(t)
	long := r.Conn(t)
	if _, err := long.Exec(t.Context(), "begin; select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	for _, bell := range []outbox.Bell{outbox.BellAuto, outbox.BellWAL} {
		s := r.open(t, r.pool, func(c *outbox.Config) { c.Bell, c.ProveWithin = bell, 1 })
		if s.Bell() != "poll" || s.Rings() != nil || s.Lost() != nil {
			t.Errorf("bell %q while a transaction is in flight: %s", bell, s.Bell())
		}
		until(t, "it says what it waits for", func() bool { return s.WhyBell() != "" })
		if bell == outbox.BellAuto {
			s.Close() // in the middle of it
			r.nothingLeft(t)
			continue
		}
		load(t, s)
		until(t, "it has waited for longer than the database's queries may", func() bool {
			return one[bool](t, conn, "select coalesce(max(clock_timestamp() - backend_start) > '300ms', false) from pg_stat_activity where application_name = 'lockstep bell' and datname = current_database()")
		})
		if _, err := long.Exec(t.Context(), "commit"); err != nil {
			t.Fatal(err)
		}
		until(t, "the bell hangs", func() bool { return s.Bell() == "wal" && s.WhyBell() == "" })
		awaitRing(t, s) // for what came before the slot
		r.Exec(t, "insert into a values (1, 'x')")
		awaitRing(t, s)
	}
}

func TestASessionWhoseBellWasChangedByInstallEndsAndTheNextUsesIt(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	src := r.source(t, r.pool)
	for _, bell := range []struct {
		installed triggers.Bell
		rings     string
	}{{triggers.BellNotify, "notify"}, {triggers.BellWAL, "wal"}, {triggers.BellOff, "poll"}, {triggers.BellWAL, "wal"}} {
		s, err := src.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pos := load(t, s)
		r.install(t, bell.installed)
		err = s.Fetch(t.Context(), outbox.Request{From: pos}, &counter{})
		s.Close()
		if !isChanged(err) {
			t.Errorf("a fetch after install --bell %s: %v", bell.installed, err)
		}
		next, err := src.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if next.Bell() != bell.rings {
			t.Errorf("after install --bell %s the bell is %s: %s", bell.installed, next.Bell(), next.WhyBell())
		}
		next.Close()
	}
	r.nothingLeft(t)
}
