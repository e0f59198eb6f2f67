package outbox_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
)

// The machine of a relay that hangs goes on answering for it. The server takes the lead from who
// asks it nothing, and says until then who has it.
func TestWhoLeadsAndAsksNothingLosesTheLead(t *testing.T) {
	r := newRig(t)
	hangs, waits := r.open(t), r.open(t)
	for s, idle := range map[*outbox.Session]time.Duration{hangs: 300 * time.Millisecond, waits: time.Hour} {
		if err := s.Watch(t.Context(), idle); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := hangs.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := r.Conn(t).QueryRow(t.Context(), `select pid from pg_locks where locktype = 'advisory' and objsubid = 2 and granted
		and database = (select oid from pg_database where datname = current_database())`).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if who := waits.Leader(t.Context()); !strings.HasPrefix(who, fmt.Sprintf("pid %d, role ", pid)) || strings.HasSuffix(who, "?") {
		t.Errorf("%q leads, want process %d", who, pid)
	}
	pgtest.Until(t, 30*time.Second, "the other one leads", func() bool {
		_, err := waits.Lead(t.Context())
		if err != nil && !errors.Is(err, outbox.ErrLed) {
			t.Fatal(err)
		}
		return err == nil
	})
	if _, err := hangs.Registered(t.Context()); err == nil {
		t.Error("the session of the one that hung is still there")
	}
}
