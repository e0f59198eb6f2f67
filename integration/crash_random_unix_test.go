//go:build unix

package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// One cluster crashes again and again while it is written to in every way in
// which a commit may wait for the log, or not. After each crash the node is equal to
// the table, and a subscriber has been told a story without a hole.
func TestANodeOutlivesCrashAfterCrash(t *testing.T) {
	seed := rand.Uint64()
	if *seedFlag != 0 {
		seed = *seedFlag
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	c := forgetful(t)
	db := c.New(t)
	items(t, db)
	// Whoever asks for nothing does not wait for the standby that is not there.
	db.Exec(t, "alter database "+db.Name+" set synchronous_commit = local")
	run(t, db.Conn(t), "alter system set synchronous_standby_names = 'nobody'")
	run(t, db.Conn(t), "select pg_reload_conf()")
	node, table := quiet(t, db.Pool(t))
	readers(t, node, table)
	told := listen(t, table)
	const crashes = 10
	lost := 0
	for round := range crashes {
		// Every other crash takes all there is; the rest is up to chance.
		all := round%2 == 0
		if all || rng.IntN(2) > 0 {
			holdLog(t, db)
		}
		w := letLoose(t, db, rng.Uint64(), !all)
		enough := int64(20 + rng.IntN(150))
		until(t, "the writers have committed", func() bool { return w.commits.Load() >= enough })
		if all || rng.IntN(2) > 0 {
			barrier(t, node)
		}
		before := node.Status().Resyncs
		if err := c.Kill(); err != nil {
			t.Fatal(err)
		}
		w.stop()
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn := db.Conn(t)
		for i := range rng.IntN(30) { // with the node back, or before it is
			move(t, conn, 1+i, 51+i, 1+round)
		}
		barrier(t, node)
		if s := node.Status(); s.Resyncs > before {
			lost++
		}
		wantSame(t, db, table)
		told.is(t, itemsOf(t, db))
		if t.Failed() {
			t.Fatalf("seed %d, after crash %d: %+v", seed, round+1, node.Status().Loads)
		}
	}
	t.Logf("seed %d: %d crashes, %d of which took what the node had applied", seed, crashes, lost)
	if lost < crashes/2 {
		t.Error("too few crashes took what the node had applied: this run proves nothing")
	}
}

// loose are writers that go on until the server dies under them.
type loose struct {
	commits atomic.Int64
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

func (w *loose) stop() { w.cancel(); w.wg.Wait() }

// letLoose starts two writers who do not wait for the log, and with them perhaps
// one who does and two who wait for a standby that is not there. Somebody frees
// these now and then, so commits become visible in another order than they have in the log.
func letLoose(t *testing.T, db *pgtest.DB, seed uint64, patient bool) *loose {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &loose{cancel: cancel}
	t.Cleanup(w.stop)
	how := []string{"off", "off"}
	if patient {
		how = append(how, "local", "on", "on")
	}
	for i, commit := range how {
		conn := db.Conn(t)
		run(t, conn, "set synchronous_commit = "+commit)
		w.wg.Go(func() { w.write(ctx, conn, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	conn := db.Conn(t)
	w.wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if _, err := conn.Exec(ctx, "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep' and random() < 0.2"); err != nil {
				return // the crash
			}
			<-tick.C
		}
	})
	return w
}

// write moves amounts, and lets go of some that it has moved, until the connection ends.
func (w *loose) write(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) {
	for {
		from := 1 + rng.IntN(99)
		sql := fmt.Sprintf("update items set v = v + case id when %[1]d then %[3]d else -%[3]d end where id in (%[1]d, %[2]d)", from, from+1+rng.IntN(100-from), 1+rng.IntN(9))
		switch rng.IntN(6) {
		case 0:
			sql = "begin; " + sql + "; rollback"
		case 1:
			sql = "begin; select pg_current_xact_id(); rollback"
		case 2:
			id := 101 + rng.IntN(30)
			sql = fmt.Sprintf("insert into items values (%d, 0) on conflict do nothing; delete from items where id = %d", id, 101+rng.IntN(30))
		}
		_, err := conn.Exec(ctx, sql)
		if conn.IsClosed() || ctx.Err() != nil {
			return
		}
		if err == nil {
			w.commits.Add(1)
		}
	}
}

// listener is a subscriber who keeps a table of its own from what it is told.
type listener struct {
	mu    sync.Mutex
	rows  map[int]item
	wrong string
}

func listen(t *testing.T, table *lockstep.Table[int, item]) *listener {
	t.Helper()
	l := &listener{rows: map[int]item{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c, err := range table.Changes(ctx) {
			if err != nil {
				return
			}
			l.take(c)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func (l *listener) take(c lockstep.Change[int, item]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, had := l.rows[c.Key]
	switch c.Op {
	case lockstep.OpReset:
		clear(l.rows)
		return
	case lockstep.OpLive:
		return
	case lockstep.OpCurrent, lockstep.OpInsert:
		if had {
			l.wrong = fmt.Sprintf("%v of %v, which was there", c.Op, c.New)
		}
	default:
		if !had || old != c.Old {
			l.wrong = fmt.Sprintf("%v from %v, which was %v (%v)", c.Op, c.Old, old, had)
		}
	}
	if c.Op == lockstep.OpDelete {
		delete(l.rows, c.Key)
		return
	}
	l.rows[c.Key] = c.New
}

// is waits until the subscriber has been told all that there is.
func (l *listener) is(t *testing.T, want map[int]item) {
	t.Helper()
	until(t, "a subscriber has been told of everything", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return maps.Equal(l.rows, want) || l.wrong != ""
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong != "" {
		t.Errorf("a subscriber was told of %s", l.wrong)
	}
}
