package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// What a node may cost its server, whatever is wrong: replay.Config's defaults
// and a little for what asks for a fetch by itself.
const (
	fetchesPerSecond  = 250 + 4 // by rings and looks, and by beats
	fetchesAtOnce     = 63 + 20
	sessionsPerSecond = 20 // the shortest pause is 50 ms
	maxStale          = time.Second
)

// watch reads from a node and listens to what it says, all through a fault.
type watch struct {
	t     *testing.T
	node  *lockstep.Node
	table *lockstep.Table[int, item]
	began time.Time
	first lockstep.Status
	stop  context.CancelFunc
	done  chan struct{}
	reads int
}

// watched begins to watch; end ends it and counts. Row 1 must be there all the time.
func watched(t *testing.T, node *lockstep.Node, table *lockstep.Table[int, item]) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{t: t, node: node, table: table, began: time.Now(), first: node.Status(), stop: cancel, done: make(chan struct{})}
	go w.run(ctx)
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for before := w.first; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, ok := w.table.Get(1); !ok {
			w.t.Error("a reader was not served")
			return
		}
		w.reads++
		s := w.node.Status()
		switch {
		case s.State == lockstep.Live && (s.Staleness > maxStale || s.Reason != ""):
			w.t.Errorf("it says that it is live %v after what it has, because of %q", s.Staleness, s.Reason)
		case s.State != lockstep.Live && (s.Reason == "" || strings.Contains(s.Reason, "\n")):
			w.t.Errorf("it is %v because of %q", s.State, s.Reason)
		case s.LastError != nil && strings.Contains(s.LastError.Error(), "\n"):
			w.t.Errorf("its last error has more than one line: %q", s.LastError)
		case s.Resyncs == before.Resyncs && s.AppliedSeq < before.AppliedSeq:
			w.t.Errorf("it went back from %d to %d", before.AppliedSeq, s.AppliedSeq)
		default:
			before = s
			continue
		}
		return // once is enough
	}
}

// end checks what the node has cost, and prints it.
func (w *watch) end() {
	w.t.Helper()
	w.stop()
	<-w.done
	s, seconds := w.node.Status(), time.Since(w.began).Seconds()
	fetches, sessions, failures := s.Fetches-w.first.Fetches, s.Sessions-w.first.Sessions, s.Failures-w.first.Failures
	w.t.Logf("%.1f s: %d reads, %d fetches, %d sessions, %d failures, %d unrung", seconds, w.reads, fetches, sessions, failures, s.Unrung-w.first.Unrung)
	if float64(fetches) > fetchesPerSecond*seconds+fetchesAtOnce {
		w.t.Errorf("%d fetches in %.1f s", fetches, seconds)
	}
	if limit := sessionsPerSecond*seconds + 3; float64(sessions) > limit || float64(failures) > limit {
		w.t.Errorf("%d sessions and %d failures in %.1f s", sessions, failures, seconds)
	}
	if w.reads == 0 {
		w.t.Error("nobody read")
	}
}

// onlyTheFirstLoad checks that whatever happened was made good by replay.
func onlyTheFirstLoad(t *testing.T, node *lockstep.Node) {
	t.Helper()
	if s := node.Status(); s.State != lockstep.Live || s.Resyncs+s.Reloads != 0 || len(s.Loads) != 1 {
		t.Errorf("%v (%s), %d resyncs, %d reloads, loads %+v", s.State, s.Reason, s.Resyncs, s.Reloads, s.Loads)
	}
}

// says waits until the node is not live and gives a reason in these words.
func says(t *testing.T, node *lockstep.Node, words ...string) {
	t.Helper()
	until(t, "the node says "+strings.Join(words, ", "), func() bool {
		s := node.Status()
		for _, w := range words {
			if !strings.Contains(s.Reason, w) {
				return false
			}
		}
		return s.State == lockstep.Stale
	})
}

// do runs SQL on a connection.
func do(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(deadline(t), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// ask is the one value that a query finds.
func ask[T any](t *testing.T, db *pgtest.DB, sql string, args ...any) (v T) {
	t.Helper()
	if err := db.Conn(t).QueryRow(deadline(t), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// seenAs waits until row 1 has a value that has been committed, and checks that
// every fetch which has begun since brings it.
func seenAs(t *testing.T, node *lockstep.Node, table *lockstep.Table[int, item], v int) {
	t.Helper()
	committed := time.Now()
	until(t, "a commit is seen", func() bool {
		s := node.Status()
		i, _ := table.Get(1)
		if i.V < v && s.LastFetch.After(committed) {
			t.Fatalf("a fetch that began %v after the commit of %d has brought %d", s.LastFetch.Sub(committed), v, i.V)
		}
		return i.V >= v
	})
}

// reader is a pool of a role that has the rights of a node, and no more.
func reader(t *testing.T, db *pgtest.DB, attributes ...string) (*pgxpool.Pool, pgtest.Role) {
	t.Helper()
	role := db.Role(t, attributes...)
	grants, err := triggers.Grants(triggers.Options{}, "reader", role.Name)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, grants+"; grant select on items to "+role.Name)
	return db.PoolAs(t, role), role
}
