package integration

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// A write that commits after the snapshot was exported, and before the engine
// fetches, is not in the view: the cut is made in the snapshot itself.
func TestASharedCutIsMadeInTheExportedSnapshot(t *testing.T) {
	db := fresh(t)
	db.Exec(t, "create table things (id int primary key); insert into things values (1)")
	install(t, db, "public.things")
	pool := db.Pool(t)
	spec := []outbox.TableSpec{{Name: "public.things"}}
	src, err := outbox.NewSource(outbox.Config{Pool: pool, Tables: spec})
	if err != nil {
		t.Fatal(err)
	}
	table := cache.NewTable[int, int]("public.things")
	store, err := cache.NewStore(cache.Options{}, table)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	engine, err := replay.New(store, replay.Direct(src), []replay.Table{&replay.Binding[int, int]{
		Table: table, Key: func(id int) int { return id }, Row: func(row pgx.CollectableRow, into *int) error { return row.Scan(into) },
	}}, replay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Start(deadline(t)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	readSrc, err := outbox.NewSource(outbox.Config{Pool: pool, Tables: spec, Bell: outbox.BellPoll})
	if err != nil {
		t.Fatal(err)
	}
	session, err := readSrc.Open(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for i := 2; i < 12; i++ {
		reading, err := session.Read(deadline(t), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		shared, err := engine.Share(deadline(t), func(ctx context.Context) (string, error) {
			name, err := reading.Export(ctx)
			db.Exec(t, "insert into things values ("+strconv.Itoa(i)+")")
			return name, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := table.At(shared.View).Get(i); ok {
			t.Errorf("the view shows row %d, which was committed after the snapshot", i)
		}
		if err := reading.Describe(deadline(t)); err != nil {
			t.Fatal(err)
		}
		_, n, err := reading.Range(deadline(t), 0, nil, 100, func(pgx.CollectableRow) error { return nil })
		if have := table.At(shared.View).Len(); err != nil || n != have || n != i-1 {
			t.Errorf("the view has %d rows, Postgres %d, want %d (%v)", have, n, i-1, err)
		}
		shared.View.Close()
		if err := reading.End(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	gone := errors.New("no snapshot")
	if _, err := engine.Share(deadline(t), func(context.Context) (string, error) { return "", gone }); !errors.Is(err, gone) {
		t.Errorf("where there is no snapshot: %v", err)
	}
	if s := engine.Status(); s.Failures > 0 || s.State != replay.Live {
		t.Errorf("the engine: %+v", s)
	}
}
