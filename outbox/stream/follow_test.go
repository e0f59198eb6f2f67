package stream_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/outbox/stream"
)

// Only the load, the fetch that measures the clock and the id that settles the numbers of
// before are asked of Postgres; then whatever commits comes over the stream.
func TestANodeOnTheStreamDoesNotAskPostgres(t *testing.T) {
	r := newRig(t)
	r.put(t, 1, "loaded")
	r.relay(t).leads(t)
	f := r.node(t, func(_ *lockstep.Config, s *stream.Source) { s.Idle = 300 * time.Millisecond }).onStream(t)
	f.has(t, 1, "loaded")
	until(t, "the clock is measured", func() bool { return f.n.Asked.Load() >= 2 })
	conn := r.Conn(t)
	until(t, "the node's connections are closed", func() bool {
		var n int
		if err := conn.QueryRow(t.Context(), `select count(*)::int from pg_stat_activity
			where datname = current_database() and application_name = 'lockstep fetch'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1 // the relay's
	})
	asked, taken := f.askedFor(), f.n.Batches.Load()
	for i := range 200 {
		r.put(t, i%7, fmt.Sprint("v", i))
	}
	f.has(t, 199%7, "v199")
	until(t, "heartbeats come", func() bool { return f.n.Batches.Load() > taken+8 })
	if n := f.askedFor(); n != asked {
		t.Errorf("Postgres was asked %d times", n-asked)
	}
	s := f.Status()
	if s.State != lockstep.Live || s.Resyncs+s.Reloads != 0 || f.n.Gaps.Load() != 0 {
		t.Errorf("state %v (%s), %d resyncs, %d reloads, %d gaps", s.State, s.Reason, s.Resyncs, s.Reloads, f.n.Gaps.Load())
	}
}

// A schema that needs newer nodes stops those that follow the stream as it stops all others.
func TestASchemaThatNeedsNewerNodesStopsThoseOnTheStream(t *testing.T) {
	r := newRig(t)
	r.relay(t).leads(t)
	f := r.node(t).onStream(t)
	r.put(t, 1, "one")
	f.has(t, 1, "one")
	r.Exec(t, "update lockstep.meta set min_node = 99")
	until(t, "the node says why it is stale", func() bool {
		s := f.Status()
		return s.State == lockstep.Stale && errors.Is(s.LastError, outbox.ErrSchema)
	})
	if row, ok := f.table.Get(1); !ok || row.V != "one" {
		t.Errorf("row 1 is %q", row.V)
	}
}
