package wal_test

import (
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// slots are those that bells have in the rig's database.
func (r *rig) slots(t *testing.T) int {
	return one[int](t, r.Conn(t), "select count(*)::int from pg_replication_slots where database = current_database()")
}

// While it rests nothing of the bell is on the server. Hung again, it rings for what came meanwhile, and for what comes.
func TestABellThatRestsHasNoSlotAndRingsAgainAfterwards(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	s := r.hung(t)
	for i := range 3 {
		if !s.Rest(true) || s.Bell() != "poll" || s.Rings() != nil || s.Lost() != nil || s.WhyBell() == "" {
			t.Errorf("a bell that rests: %s (%s), and rings", s.Bell(), s.WhyBell())
		}
		until(t, "the slot is dropped", func() bool { return r.slots(t) == 0 })
		r.Exec(t, "insert into a values ($1, 'meanwhile')", 2*i)
		if s.Rest(false) {
			t.Error("the bell rests although it is not to")
		}
		until(t, "the bell hangs", func() bool { return s.Bell() == "wal" && s.WhyBell() == "" })
		awaitRing(t, s)
		r.Exec(t, "insert into a values ($1, 'rung')", 2*i+1)
		awaitRing(t, s)
	}
	if err := s.Fetch(t.Context(), outbox.Request{From: load(t, s)}, &counter{}); err != nil {
		t.Error(err)
	}
	s.Close()
	r.nothingLeft(t)
}

// Rest and its end may come faster than the server does as they say, and the session's end at any moment.
func TestABellIsTakenDownAndHungInAnyOrder(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	long := r.Conn(t)
	for name, f := range map[string]func(s *outbox.Session){
		"closed at once":              func(s *outbox.Session) { s.Rest(true) },
		"hung at once, and closed":    func(s *outbox.Session) { s.Rest(true); s.Rest(false) },
		"taken down twice":            func(s *outbox.Session) { s.Rest(true); s.Rest(true) },
		"never taken down":            func(s *outbox.Session) { s.Rest(false) },
		"taken down while it is hung": func(s *outbox.Session) { s.Rest(true); s.Rest(false); s.Rest(true); s.Rest(false); s.Rest(false) },
		"hung while a transaction lasts": func(s *outbox.Session) {
			if _, err := long.Exec(t.Context(), "begin; select pg_current_xact_id()"); err != nil {
				t.Error(err)
			}
			s.Rest(true)
			s.Rest(false)
			until(t, "its slot waits", func() bool { return r.slots(t) == 1 })
			if !s.Rest(true) || s.Bell() != "poll" {
				t.Errorf("a bell that is on its way does not rest: %s", s.Bell())
			}
			until(t, "nobody is on the way any more", func() bool { return r.slots(t) == 0 })
			s.Rest(false)
			until(t, "its slot waits again", func() bool { return r.slots(t) == 1 })
			if _, err := long.Exec(t.Context(), "commit"); err != nil {
				t.Error(err)
			}
			until(t, "the bell hangs", func() bool { return s.Bell() == "wal" })
		},
	} {
		s := r.hung(t)
		f(s)
		s.Close()
		r.nothingLeft(t)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// Only a bell with a price rests.
func TestABellThatIsFreeDoesNotRest(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	r.install(t, triggers.BellNotify)
	s := r.open(t, r.pool)
	for range 2 {
		if s.Rest(true) || s.Bell() != "notify" || s.WhyBell() == "" {
			t.Errorf("the NOTIFY bell: %s (%s)", s.Bell(), s.WhyBell())
		}
	}
	s.Rest(false)
	r.Exec(t, "insert into a values (1, 'x')")
	awaitRing(t, s)
	r.install(t, triggers.BellOff)
	off := r.open(t, r.pool)
	if off.Rest(true) || off.Bell() != "poll" {
		t.Errorf("no bell: %s", off.Bell())
	}
}
