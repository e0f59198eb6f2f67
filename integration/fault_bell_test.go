package integration

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// byBeats commits one update of row 1 after another, from value first on, for
// which nobody rings, and waits for each. It prints how long they took.
func byBeats(t *testing.T, db *pgtest.DB, node *lockstep.Node, table *lockstep.Table[int, item], first, n int) {
	t.Helper()
	conn := db.Conn(t)
	var worst, sum time.Duration
	for v := first; v < first+n; v++ {
		do(t, conn, "update items set v = $1 where id = 1", v)
		committed := time.Now()
		seenAs(t, node, table, v)
		took := time.Since(committed)
		worst, sum = max(worst, took), sum+took
	}
	t.Logf("%d commits without a ring: seen after %v on average, %v at worst", n, sum/time.Duration(n), worst)
}

// bellTaken holds the bell's advisory lock as a ringer does, and bellHeld says whether somebody does.
const (
	bellTaken = "begin; update items set v = v + 1 where id = 2; set constraints all immediate"
	bellHeld  = "select exists (select from pg_locks where locktype = 'advisory' and classid = 1819239275 and granted and database = (select oid from pg_database where datname = current_database()))"
)

// Whoever takes the bell at SET CONSTRAINTS ALL IMMEDIATE and then idles keeps
// everybody else from ringing: the beat finds their commits.
func TestABellThatIsHeldByAnIdleTransactionCostsABeatAndNoMore(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	changes := subscribe(t, table)
	w := watched(t, node, table)
	holder := db.Conn(t)
	do(t, holder, bellTaken)
	if !ask[bool](t, db, bellHeld) {
		t.Fatal("the bell is not held")
	}
	byBeats(t, db, node, table, 1, 20)
	do(t, holder, "commit")
	until(t, "the holder's own write is seen", func() bool { i, _ := table.Get(2); return i.V == 1 })
	w.end()
	wantEach(t, values(changes.upTo(rowOneIs(20))), 1, 20)
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
}

// A transaction that takes the bell and then fails at its commit has rung
// nobody, and whoever committed meanwhile relied on it.
func TestARingerThatFailsAtItsCommitCostsABeatAndNoMore(t *testing.T) {
	db := fresh(t)
	items(t, db)
	db.Exec(t, `create table doomed (id int);
		create function fail() returns trigger language plpgsql as $$ begin
			perform pg_advisory_xact_lock(4711); -- until the test says so
			raise exception 'no such thing';
		end $$;
		create constraint trigger fail after insert on doomed deferrable initially deferred for each row execute function fail()`)
	node, table := start(t, db.Pool(t))
	changes := subscribe(t, table)
	w := watched(t, node, table)
	gate, ringer := db.Conn(t), db.Conn(t)
	for round := range 4 {
		do(t, gate, "select pg_advisory_lock(4711)")
		do(t, ringer, "begin; update items set v = -1 where id = 3; insert into doomed values (1)")
		failed := make(chan error, 1)
		go func(ctx context.Context) {
			_, err := ringer.Exec(ctx, "commit")
			failed <- err
		}(deadline(t))
		until(t, "the ringer has the bell", func() bool { return ask[bool](t, db, bellHeld) })
		byBeats(t, db, node, table, 1+5*round, 5)
		do(t, gate, "select pg_advisory_unlock(4711)")
		if err := <-failed; sqlState(err) != "P0001" {
			t.Fatalf("the ringer: %v", err)
		}
	}
	w.end()
	wantEach(t, values(changes.upTo(rowOneIs(20))), 1, 20)
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
}

// forged is what anybody may send on the bell's channel.
var forged = []string{
	"", "0", "-1", "9223372036854775807", "99999999999999999999999999", "not a number", "1; drop table items", "{\"seq\": 1}",
	"\x01\x02\x7f\u0085\u202e\ufffd\U0010ffff", strings.Repeat("9", 7999), strings.Repeat("\u20ac", 2666), "\n\n\n", "NULL",
}

// Any role may notify. A flood of it costs a bounded number of fetches, changes
// nothing, and holds up no commit.
func TestAFloodOfForgedNotificationsCostsABoundedNumberOfFetches(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	changes := subscribe(t, table)
	anybody := db.Role(t)
	channel := ask[string](t, db, "select 'lockstep_' || 'lockstep.outbox'::regclass::oid")
	w, before := watched(t, node, table), node.Status()

	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	sent := make([]int, 3)
	for i := range sent {
		conn := db.ConnAs(t, anybody)
		flood.Go(func() {
			for ctx.Err() == nil {
				b := &pgx.Batch{}
				for j := range 50 { // each a transaction of its own
					b.Queue("select pg_notify($1, $2)", channel, forged[(sent[i]+j)%len(forged)])
				}
				if err := conn.SendBatch(ctx, b).Close(); err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				sent[i] += 50
			}
		})
	}
	writer := db.Conn(t)
	const commits = 120
	for v := 1; v <= commits; v++ {
		do(t, writer, "update items set v = $1 where id = 1", v)
		seenAs(t, node, table, v)
	}
	cancel()
	flood.Wait()
	w.end()
	t.Logf("%d forged notifications", sent[0]+sent[1]+sent[2])
	wantEach(t, values(changes.upTo(rowOneIs(commits))), 1, commits)
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
	if s := node.Status(); s.Events-before.Events != commits || s.Sessions != before.Sessions || s.LastError != nil {
		t.Errorf("%d events of %d, %d sessions, last error %v", s.Events-before.Events, commits, s.Sessions, s.LastError)
	}
}

// A connection on which the node listens may die and say nothing. The beat
// finds what is committed, and the node finds out and listens again.
func TestAListeningConnectionThatIsHalfOpenIsNoticed(t *testing.T) {
	db := fresh(t)
	items(t, db)
	r := route(t, db.Server().Addr())
	pool := db.Pool(t, func(c *pgxpool.Config) { c.ConnConfig.Host, c.ConnConfig.Port = r.addr() })
	node, table := start(t, pool)
	changes := subscribe(t, table)
	if s := node.Status(); s.Bell != "notify" || s.Sessions != 1 {
		t.Fatalf("the bell is %q, %d sessions", s.Bell, s.Sessions)
	}
	w := watched(t, node, table)
	if n := r.swallow("lockstep bell"); n != 1 {
		t.Fatalf("%d connections listen", n)
	}
	byBeats(t, db, node, table, 1, 20)
	if s := node.Status(); s.State != lockstep.Live || s.Sessions != 1 {
		t.Errorf("%v (%s), %d sessions", s.State, s.Reason, s.Sessions)
	}
	until(t, "the node listens on another connection", func() bool { s := node.Status(); return s.Sessions == 2 && s.State == lockstep.Live })
	unrung := node.Status().Unrung
	conn := db.Conn(t)
	for v := 21; v <= 40; v++ {
		do(t, conn, "update items set v = $1 where id = 1", v)
		seenAs(t, node, table, v)
	}
	if n := node.Status().Unrung - unrung; n > 10 {
		t.Errorf("the new connection hears nothing: %d of 20 commits were found by beats", n)
	}
	w.end()
	if s := node.Status(); s.LastError == nil || !strings.Contains(s.LastError.Error(), "bell") {
		t.Errorf("its last error is %v", s.LastError)
	}
	wantEach(t, values(changes.upTo(rowOneIs(40))), 1, 40)
	barrier(t, node)
	wantSame(t, db, table)
	onlyTheFirstLoad(t, node)
}
