package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/triggers"
)

// slots are the advisory locks of loads of schema lockstep.
const slots = "select pg_advisory_lock((select oid::bigint::int from pg_namespace where nspname = 'lockstep'), 1819238756 + $1)"

func TestANodeWaitsForItsTurnToLoadAndSaysForWhom(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t)) // the default of two
	somebody, err := db.Pool(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = "somebody" }).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer somebody.Release()
	for slot := range 2 {
		if _, err := somebody.Exec(t.Context(), slots, slot); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = lockstep.Start(ctx, db.Pool(t), lockstep.Config{Name: "late", Logger: silent}, itemTable())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for a turn to load") || !strings.Contains(err.Error(), "somebody (process ") {
		t.Errorf("Start: %v", err)
	}
	if err := triggers.NewHistory(t.Context(), db.Pool(t), triggers.Options{}); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "update items set v = 5 where id = 5")
	until(t, "a node that waits", func() bool {
		s := node.Status()
		return s.State == lockstep.Resyncing && strings.Contains(s.Reason, "somebody (process ")
	})
	if row, ok := table.Get(5); !ok || row.V != 0 {
		t.Errorf("a reader gets %v, %v", row, ok)
	}
	unlimited := itemTable() // one that does not wait
	startNode(t, db.Pool(t), lockstep.Config{Name: "unlimited", MaxLoads: -1}, unlimited)
	wantSame(t, db, unlimited)
	if _, err := somebody.Exec(t.Context(), "select pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	until(t, "a node that has had its turn", func() bool { return node.Status().State == lockstep.Live })
	wantSame(t, db, table)
}

func TestNodesThatComeAtOnceLoadOneAfterAnother(t *testing.T) {
	db := fresh(t)
	db.Exec(t, "create table items (id int primary key, v int not null); insert into items select i, 0 from generate_series(1, 20000) i")
	install(t, db, "public.items")
	ctx, cancel := context.WithCancel(deadline(t))
	most := 0
	var looking, starting sync.WaitGroup
	watch := db.Conn(t)
	looking.Go(func() {
		for ctx.Err() == nil {
			var n int
			if err := watch.QueryRow(ctx, `select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 2 and objid between 1819238756 and 1819238766
				and classid = (select oid from pg_namespace where nspname = 'lockstep') and database = (select oid from pg_database where datname = current_database())`).Scan(&n); err != nil {
				return
			}
			most = max(most, n)
		}
	})
	tables := make([]*lockstep.Table[int, item], 6)
	nodes := make([]*lockstep.Node, len(tables))
	for i := range tables {
		tables[i] = itemTable()
		pool := db.Pool(t)
		starting.Go(func() {
			var err error
			nodes[i], err = lockstep.Start(ctx, pool, lockstep.Config{Name: fmt.Sprint("n", i), MaxLoads: 1, Bell: lockstep.BellPoll, Register: -1, Retention: -1, Logger: silent}, tables[i])
			if err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	cancel()
	looking.Wait()
	for i, node := range nodes {
		if node == nil {
			continue
		}
		wantSame(t, db, tables[i])
		if err := node.Close(deadline(t)); err != nil {
			t.Error(err)
		}
	}
	if most != 1 {
		t.Errorf("%d loaded at a time, want one", most)
	}
}
