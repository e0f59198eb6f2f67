package lockstep_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

type idOnly struct{ ID int }

func byID(name string) *lockstep.Table[int, idOnly] {
	return lockstep.NewTable(name, func(r idOnly) int { return r.ID })
}

// mistaken are declarations with a mistake each, and what the error says of it.
func mistaken() map[string]lockstep.AnyTable {
	type private struct {
		id int `db:"id"` //nolint:unused // the mistake
	}
	type missing struct {
		ID   int
		Gone string
	}
	type noKey struct{ V string }
	type class struct {
		ID    int
		Class string
	}
	return map[string]lockstep.AnyTable{
		"has no name":                   byID(""),
		"key function is nil":           lockstep.NewTable[int, idOnly]("public.nilkey", nil),
		"not exported":                  lockstep.NewTable("public.private", func(private) int { return 0 }),
		"is no struct":                  lockstep.NewTable("public.scalar", func(i int) int { return i }),
		"WithRow names no columns":      coinsOf("public.norow"),
		"table public.nowhere: it is":   byID("public.nowhere"),
		"public.untracked: its changes": byID("public.untracked"),
		"public.seen: its changes":      byID("public.seen"),
		`no column "Gone"`:              lockstep.NewTable("public.items", func(m missing) int { return m.ID }),
		"part of its primary key":       lockstep.NewTable("public.keyless", func(k noKey) string { return k.V }),
		"regclass":                      lockstep.NewTable("public.classes", func(c class) int { return c.ID }),
		"an index has no function":      indexed("public.indexed"),
	}
}

func coinsOf(name string) lockstep.AnyTable {
	return lockstep.NewTable(name, func(c coin) int { return c.id },
		lockstep.WithRow[int, coin](func(pgx.CollectableRow) (coin, error) { return coin{}, nil }))
}

func indexed(name string) lockstep.AnyTable {
	t := byID(name)
	lockstep.NewIndex[int](t, nil)
	return t
}

const mistakenSQL = itemsSQL + `;
	create table untracked (id int primary key);
	create view seen as select id from items;
	create table keyless (id int primary key, v text);
	create table classes (id int primary key, class regclass);
	create table hidden (id int primary key);
	create table good (id int primary key);
	create table indexed (id int primary key);
	insert into items values (1, 'x'); insert into good values (1)`

func TestStartJoinsEveryMistakeInOneError(t *testing.T) {
	db := database(t, mistakenSQL, "public.items", "public.keyless", "public.classes", "public.hidden", "public.good", "public.indexed")
	role := db.Role(t)
	grants, err := triggers.Grants(triggers.Options{}, "reader", role.Name)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, grants+"; grant select on items, untracked, seen, keyless, classes, good, indexed to "+role.Name)
	pool := db.PoolAs(t, role)
	bad := mistaken()
	good := byID("public.good")
	tables := []lockstep.AnyTable{good, good, nil, byID("good"), byID(`"public".good`), byID("public.hidden")}
	want := []string{"public.good is given twice", "table 2 is nil", "also as public.good", "public.hidden: the role may not read it"}
	for text, tab := range bad {
		tables, want = append(tables, tab), append(want, text)
	}
	_, err = lockstep.Start(deadline(t), pool, quiet, tables...)
	if err == nil {
		t.Fatal("Start succeeded")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q", w)
		}
	}
	if !errors.Is(err, lockstep.ErrTable) {
		t.Error("the error does not match ErrTable")
	}
	if t.Failed() {
		t.Log(err)
	}
	pgtest.Until(t, 10*time.Second, "the connections are gone", func() bool { // a backend goes on for a moment after its client
		return one[int](t, db, "select count(*)::int from pg_stat_activity where application_name like 'lockstep %' and datname = current_database()") == 0
	})
	start(t, pool, good) // what was right may be started afterwards
}

func TestStartNamesEachMistakeAlone(t *testing.T) {
	db := database(t, mistakenSQL, "public.items", "public.keyless", "public.classes", "public.indexed")
	pool := db.Pool(t)
	for text, tab := range mistaken() {
		if _, err := lockstep.Start(deadline(t), pool, quiet, tab); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %v, want %q in it", err, text)
		}
	}
	for text, f := range map[string]func() error{
		"without a pool":  func() error { _, err := lockstep.Start(deadline(t), nil, quiet, byID("public.items")); return err },
		"without a table": func() error { _, err := lockstep.Start(deadline(t), pool, quiet); return err },
		"MaxStale": func() error {
			_, err := lockstep.Start(deadline(t), pool, lockstep.Config{Beat: time.Minute}, byID("public.items"))
			return err
		},
		"bell": func() error {
			_, err := lockstep.Start(deadline(t), pool, lockstep.Config{Bell: "gong"}, byID("public.items"))
			return err
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %v, want %q in it", err, text)
		}
	}
}

func TestStartWithoutTheSchemaNamesTheCommand(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, itemsSQL)
	_, err := lockstep.Start(deadline(t), db.Pool(t), quiet, items())
	if err == nil || !strings.Contains(err.Error(), "lockstep install") {
		t.Error(err)
	}
}

func TestFailedStartMayBeTriedAgainWithTheSameTables(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, itemsSQL+"; insert into items values (1, 'nut')")
	pool, tab := db.Pool(t), items()
	byName := lockstep.NewIndex(tab, func(i item) string { return i.Name })
	for range 2 {
		if _, err := lockstep.Start(deadline(t), pool, quiet, tab); err == nil {
			t.Fatal("started without a schema")
		}
		if _, err := tab.Put(deadline(t), item{}); !errors.Is(err, lockstep.ErrNotStarted) {
			t.Error("Put:", err)
		}
		for _, err := range tab.Changes(t.Context()) {
			if !errors.Is(err, lockstep.ErrNotStarted) {
				t.Error("Changes:", err)
			}
		}
	}
	install(t, db, "public.items")
	start(t, pool, tab)
	if tab.Len() != 1 || byName.Len("nut") != 1 {
		t.Errorf("%d rows, %d in the index", tab.Len(), byName.Len("nut"))
	}
	if _, err := lockstep.Start(deadline(t), pool, quiet, tab); err == nil || !strings.Contains(err.Error(), "another node") {
		t.Error("a table that is started twice:", err)
	}
	if _, err := tab.Put(deadline(t), item{ID: 2, Name: "nut"}); err != nil || byName.Len("nut") != 2 {
		t.Error("the refused Start has disturbed the first:", byName.Len("nut"), err)
	}
}

func TestStartsContextBoundsStartOnly(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	pool := db.Pool(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockstep.Start(ended, pool, quiet, items()); !errors.Is(err, context.Canceled) {
		t.Error("an ended context:", err)
	}
	t.Run("while it waits for a lock", func(t *testing.T) {
		locker := db.Conn(t)
		if _, err := locker.Exec(t.Context(), "begin; lock table items"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := lockstep.Start(short, pool, quiet, items()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, err := locker.Exec(t.Context(), "rollback"); err != nil {
			t.Fatal(err)
		}
	})
	ctx, cancel := context.WithCancel(deadline(t))
	tab := items()
	node, err := lockstep.Start(ctx, pool, quiet, tab)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(context.Background())
	cancel()
	if _, err := tab.Put(deadline(t), item{ID: 1, Name: "x"}); err != nil {
		t.Error("after Start's context has ended:", err)
	}
}

func TestCloseMayBeRepeatedAndLeavesNothing(t *testing.T) {
	db := database(t, itemsSQL+"; insert into items values (1, 'nut')", "public.items")
	leaks := goleak.IgnoreCurrent()
	pool, err := pgxpool.New(t.Context(), db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	tab, ctx := items(), deadline(t)
	cfg := quiet
	cfg.Register = time.Hour
	node, err := lockstep.Start(ctx, pool, cfg, tab)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	subscribed := make(chan struct{}, 2)
	go func() {
		for c, err := range tab.Changes(ctx) {
			if err != nil {
				ended <- err
			} else if c.Op == lockstep.OpLive {
				subscribed <- struct{}{}
			}
		}
	}()
	go func() {
		for _, err := range node.Changes(ctx) {
			if err != nil {
				ended <- err
			} else {
				subscribed <- struct{}{}
			}
		}
	}()
	<-subscribed
	<-subscribed
	for range 3 {
		if err := node.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := <-ended; !errors.Is(err, lockstep.ErrClosed) {
			t.Error("a subscription ended with", err)
		}
	}
	if _, ok := tab.Get(1); !ok || node.Status().State != lockstep.Closed {
		t.Error("a closed node does not answer from memory")
	}
	_, put := tab.Put(ctx, item{ID: 2, Name: "x"})
	wantWrite(t, put, lockstep.ErrNotCommitted, lockstep.ErrClosed)
	_, tx := node.Tx(ctx, nil)
	wantWrite(t, tx, lockstep.ErrNotCommitted, lockstep.ErrClosed)
	for name, err := range map[string]error{
		"Barrier": node.Barrier(ctx), "Reload": node.Reload(ctx), "WaitFor": node.WaitFor(ctx, lockstep.Token{Xid: 1}),
	} {
		if !errors.Is(err, lockstep.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if state := one[string](t, db, "select state from lockstep.nodes where name = 'test'"); state != "closed" {
		t.Errorf("the register says %q", state)
	}
	pool.Close()
	goleak.VerifyNone(t, leaks)
}

// steady counts the node's connections that are not the pool's.
func steady(t *testing.T, db *pgtest.DB) int {
	t.Helper()
	return one[int](t, db, "select count(*)::int from pg_stat_activity where application_name like 'lockstep %' and datname = current_database()")
}

func TestNodeHoldsAtMostTwoConnections(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	for bell, want := range map[lockstep.Bell]int{lockstep.BellNotify: 2, lockstep.BellPoll: 1} {
		t.Run(string(bell), func(t *testing.T) {
			tab, cfg := items(), quiet
			cfg.Bell = bell
			pool := db.Pool(t)
			node := startWith(t, pool, cfg, tab)
			if _, err := tab.Put(deadline(t), item{ID: 1, Name: "x"}); err != nil {
				t.Fatal(err)
			}
			if err := node.Reload(deadline(t)); err != nil {
				t.Fatal(err)
			}
			if n := steady(t, db); n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
			if n := pool.Stat().TotalConns(); n > 2 { // one to ask and one to write
				t.Errorf("the pool has %d connections", n)
			}
			if n := pool.Stat().AcquiredConns(); n != 0 {
				t.Errorf("%d connections of the pool are kept", n)
			}
			if err := node.Close(deadline(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestNodeComesBackWithARotatedPassword(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	role := db.Role(t)
	grants, err := triggers.Grants(triggers.Options{}, "reader", role.Name)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, grants+"; grant select, insert, update on items to "+role.Name)
	var password atomic.Pointer[string]
	rotate := func(p string) {
		db.Exec(t, "alter role "+role.Name+" password '"+p+"'")
		password.Store(&p)
	}
	rotate("first")
	pool := db.PoolAs(t, role, func(c *pgxpool.Config) {
		c.ConnConfig.Password = "what the file says is outdated"
		c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			cc.Password = *password.Load()
			return nil
		}
	})
	tab := items()
	node, ctx := start(t, pool, tab), deadline(t)
	for _, p := range []string{"second", "third"} {
		rotate(p)
		db.Exec(t, "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = '"+role.Name+"'")
		db.Exec(t, "insert into items values ((select count(*) from items), '"+p+"')")
		if err := node.Barrier(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if tab.Len() != 2 || node.Status().Resyncs != 0 {
		t.Errorf("%d rows after %d resyncs", tab.Len(), node.Status().Resyncs)
	}
}

func TestRegisterHoldsTheNode(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	cfg := quiet
	cfg.Name, cfg.Register = "web-1", time.Millisecond
	node := startWith(t, db.Pool(t), cfg, items())
	seen := ""
	for deadline(t).Err() == nil && seen != "live" {
		seen = one[string](t, db, "select coalesce((select state from lockstep.nodes where name = 'web-1' and position <> ''), '')")
	}
	if seen != "live" {
		t.Errorf("the register says %q of a node that is %v", seen, node.Status().State)
	}
	if told := one[string](t, db, "select bell || ' ' || (stale_seconds between 0 and 60) from lockstep.nodes"); told != node.Status().Bell+" true" {
		t.Errorf("the register says %q of a node with bell %q", told, node.Status().Bell)
	}
}

func TestANodeRegistersInASchemaOfVersion1AndInOneThatIsUpgradedUnderIt(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	db.Exec(t, "alter table lockstep.nodes drop column bell, drop column stale_seconds; update lockstep.meta set version = 1")
	cfg := quiet
	cfg.Name, cfg.Register = "web-1", time.Millisecond
	pool := db.Pool(t)
	startWith(t, pool, cfg, items())
	look := func(done func(n outbox.NodeSeen) bool) {
		t.Helper()
		for ctx := deadline(t); ; {
			v, err := outbox.Look(ctx, pool, "")
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Nodes) == 1 && done(v.Nodes[0]) {
				return
			}
		}
	}
	look(func(n outbox.NodeSeen) bool { return n.State == "live" && n.Bell == "" && n.Staleness == nil })
	if err := triggers.Install(deadline(t), pool, triggers.Options{Logger: quiet.Logger}); err != nil {
		t.Fatal(err)
	}
	look(func(n outbox.NodeSeen) bool { return n.Bell != "" && n.Staleness != nil })
}

func TestStatusAsJSON(t *testing.T) {
	db := database(t, itemsSQL+"; insert into items values (1, 'nut'); create table other (id int primary key)", "public.items", "public.other")
	tab, other := items(), byID("public.other")
	node := start(t, db.Pool(t), tab, other)
	ctx := deadline(t)
	db.Exec(t, "drop table other")
	if err := node.Reload(ctx, other); !errors.Is(err, lockstep.ErrTable) {
		t.Fatal(err)
	}
	text, err := json.Marshal(node.Status())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Name      string
		State     string
		Position  string
		Staleness float64 `json:"staleness_seconds"`
		Bell      string
		Gaps      map[string]int64
		Loads     []struct {
			Took   float64 `json:"took_seconds"`
			Reason string
			Rows   int
		}
		Tables []struct {
			Name    string
			Live    bool
			Rows    int
			Bytes   int64
			Problem string
		}
		LastError string `json:"last_error"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "test" || got.State != "stale" || got.Position == "" || got.Bell != "notify" || len(got.Gaps) != 6 {
		t.Errorf("the node: %s", text)
	}
	if got.Staleness < 0 || got.Staleness > 60 || len(got.Loads) == 0 || got.Loads[0].Took <= 0 || got.Loads[0].Took > 60 || got.Loads[0].Reason != "first load" {
		t.Errorf("the times: %s", text)
	}
	if len(got.Tables) != 2 || got.Tables[0].Rows != 1 || got.Tables[0].Bytes <= 0 || got.Tables[0].Problem != "" ||
		!strings.Contains(got.Tables[1].Problem, "not there") || !strings.Contains(got.LastError, "public.other") {
		t.Errorf("the tables: %s", text)
	}
}

// Nodes keep the outbox to its retention; one without the right leaves it to the others.
func TestNodesTrimByTurns(t *testing.T) {
	db := database(t, "create table good (id int primary key)", "public.good")
	role := db.Role(t)
	db.Exec(t, "grant usage on schema lockstep to "+role.Name+"; grant select on all tables in schema lockstep to "+role.Name+"; grant select on good to "+role.Name+
		"; grant select on sequence lockstep.outbox_seq_seq to "+role.Name+"; grant insert, update on lockstep.nodes to "+role.Name)
	for i := range 30 {
		db.Exec(t, "insert into good select $1::int * 100 + i from generate_series(1, 100) i", i)
	}
	db.Exec(t, "update lockstep.outbox set at = at - interval '1 hour'")
	reader := startWith(t, db.PoolAs(t, role), lockstep.Config{Retention: time.Second}, byID("public.good"))
	startWith(t, db.Pool(t), lockstep.Config{Retention: time.Second}, byID("public.good"))
	ctx := deadline(t)
	for tick := time.NewTicker(50 * time.Millisecond); one[int](t, db, "select count(*)::int from lockstep.outbox") > 1000; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("nobody trims")
		}
	}
	if err := reader.Barrier(ctx); err != nil || reader.Status().Resyncs > 0 || len(reader.Status().Loads) != 1 {
		t.Errorf("a node that was trimmed behind: %v, %+v", err, reader.Status().Loads)
	}
}
