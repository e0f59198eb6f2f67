package lockstep_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// many is enough rows to be worth leaving encoded.
const many = 70_000

type thing struct {
	ID      int
	Nothing *string
	Note    string
	V       int64
}

type named struct {
	Name string
	V    int
}

func things(sign int) *lockstep.Table[int, thing] {
	return lockstep.NewTable("public.things", func(t thing) int { return sign * t.ID })
}

func names() *lockstep.Table[string, named] {
	return lockstep.NewTable("public.names", func(n named) string { return n.Name })
}

func manyThings(t *testing.T) *pgtest.DB {
	return database(t, fmt.Sprintf(`create table things (id int primary key, nothing text, note text not null, v bigint not null);
		create table names (name text primary key, v int not null);
		insert into things select i, case when i %% 3 = 0 then 'x' || i end, 'note of ' || i, i from generate_series(1, %[1]d) i;
		insert into names select 'name ' || i, i from generate_series(1, %[1]d) i`, many), "public.things", "public.names")
}

// decoded is a logger that tells how many rows a start has left encoded, once all are decoded.
type decoded struct{ rows chan int64 }

func (decoded) Enabled(context.Context, slog.Level) bool { return true }
func (d decoded) WithAttrs([]slog.Attr) slog.Handler     { return d }
func (d decoded) WithGroup(string) slog.Handler          { return d }
func (d decoded) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "replay: all rows of the checkpoint are decoded" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "rows" {
				d.rows <- a.Value.Int64()
			}
			return true
		})
	}
	return nil
}

// sameAs compares every row of a table with Postgres', and the walk over it.
func sameAs[K comparable, T comparable](t *testing.T, pool *pgxpool.Pool, table *lockstep.Table[K, T], key func(T) K, same func(x, y T) bool) {
	t.Helper()
	rows, _ := pool.Query(deadline(t), "table "+table.Name()) // the error comes with the rows
	want, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil {
		t.Fatal(err)
	}
	if table.Len() != len(want) {
		t.Errorf("%s: %d rows, want %d", table.Name(), table.Len(), len(want))
	}
	for _, w := range want {
		if got, ok := table.Get(key(w)); !ok || !same(got, w) {
			t.Fatalf("%s: key %v: %+v, %v; want %+v", table.Name(), key(w), got, ok, w)
		}
	}
	walked := 0
	for k, row := range table.All() {
		if walked++; key(row) != k {
			t.Fatalf("%s: key %v has %+v", table.Name(), k, row)
		}
	}
	if walked != len(want) {
		t.Errorf("%s: a walk meets %d rows, want %d", table.Name(), walked, len(want))
	}
}

func sameThing(x, y thing) bool {
	if (x.Nothing == nil) != (y.Nothing == nil) || x.Nothing != nil && *x.Nothing != *y.Nothing {
		return false
	}
	x.Nothing, y.Nothing = nil, nil
	return x == y
}

// Rows that stay encoded are what Postgres has, whoever has written the checkpoint: this build of the program, whose placings are
// believed, or another one, which may even have had another key function.
func TestRowsThatStayEncodedAreThoseOfTheDatabase(t *testing.T) {
	if lockstep.Build() == "" {
		t.Error("this build of the program cannot be told from others")
	}
	db := manyThings(t)
	pool, dir := db.Pool(t), t.TempDir()
	cfg := quiet
	cfg.Checkpoint, cfg.MaxLag, cfg.CheckpointEvery, cfg.DetectMutation = dir, 1000, -1, false
	round := 0
	start := func(t *testing.T, sign int, restored bool) {
		t.Helper()
		d := decoded{make(chan int64, 1)}
		cfg.Logger = slog.New(d)
		table, byName := things(sign), names()
		node, err := lockstep.Start(deadline(t), pool, cfg, table, byName)
		if err != nil {
			t.Fatal(err)
		}
		if s := node.Status(); s.Checkpoint.Restored != restored || restored && len(s.Loads) > 0 {
			t.Errorf("restored %v, want %v: %+v", s.Checkpoint.Restored, restored, s.Loads)
		}
		compare := func() {
			t.Helper()
			sameAs(t, pool, table, func(r thing) int { return sign * r.ID }, sameThing)
			sameAs(t, pool, byName, func(r named) string { return r.Name }, func(x, y named) bool { return x == y })
		}
		compare() // while they are decoded
		if restored {
			select {
			case rows := <-d.rows:
				if rows < many {
					t.Errorf("%d rows were left encoded", rows)
				}
			case <-deadline(t).Done():
				t.Fatal("the rows are not decoded")
			}
			if n := node.Status().Checkpoint.Encoded; n != 0 {
				t.Errorf("%d rows are still encoded", n)
			}
			compare()
		}
		if s := node.Status(); round > 0 && !restored && !strings.Contains(s.Checkpoint.Refused, "key function is another one") {
			t.Errorf("refused: %q", s.Checkpoint.Refused)
		}
		if err := node.Close(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	miss := func() {
		round++
		db.Exec(t, fmt.Sprintf(`update things set v = v + 1, nothing = case when id %% 2 = 0 then 'y' end where id %% 100 = %[1]d;
			delete from things where id %% 100 = 50 + %[1]d;
			insert into things select %[2]d + i, null, '', i from generate_series(%[1]d, 900, 10) i;
			update names set v = -v where v %% 100 = %[1]d;
			delete from names where v %% 100 = 50 + %[1]d`, round, many+1000*round))
	}
	start(t, 1, false)
	miss()
	start(t, 1, true)
	t.Run("another build", func(t *testing.T) {
		lockstep.AnotherBuild(t)
		miss()
		start(t, 1, true)
	})
	miss()
	start(t, 1, true) // what the other build has written
	t.Run("another key in the same build", func(t *testing.T) {
		miss()
		start(t, -1, false)
	})
	t.Run("another key", func(t *testing.T) {
		lockstep.AnotherBuild(t)
		miss()
		start(t, 1, true)
	})
}

// A node that is closed while rows are encoded leaves a checkpoint of all of them.
func TestANodeThatIsClosedBeforeItsRowsAreDecodedKeepsThem(t *testing.T) {
	db := manyThings(t)
	pool := db.Pool(t)
	cfg := quiet
	cfg.Checkpoint, cfg.MaxLag, cfg.CheckpointEvery, cfg.DetectMutation = t.TempDir(), 1000, -1, false
	for i := range 4 {
		db.Exec(t, fmt.Sprintf("update things set v = v + 1 where id = %d", i+1))
		table, byName := things(1), names()
		node, err := lockstep.Start(deadline(t), pool, cfg, table, byName)
		if err != nil {
			t.Fatal(err)
		}
		if node.Status().Checkpoint.Restored != (i > 0) {
			t.Errorf("start %d: %+v", i, node.Status().Checkpoint)
		}
		if err := node.Close(deadline(t)); err != nil { // at once
			t.Fatal(err)
		}
		sameAs(t, pool, table, func(r thing) int { return r.ID }, sameThing)
	}
}

// While rows are decoded, writers write them by ones and by thousands, connections are cut, and readers sum up what views show:
// each is a state that the database was in. What is missed between one life of the node and the next one is replayed.
func TestRowsThatStayEncodedFollowWritersThroughFaults(t *testing.T) {
	db := manyThings(t)
	pool := db.Pool(t)
	cfg := quiet
	cfg.Checkpoint, cfg.MaxLag, cfg.CheckpointEvery, cfg.DetectMutation = t.TempDir(), 1000, -1, false
	const total = int64(many) * (many + 1) / 2 // of all v, in every state: rows that come and go have 0
	ctx := deadline(t)
	var work sync.WaitGroup
	writing, stop := context.WithCancel(ctx) // between statements: the server may go on with one that is given up
	defer stop()
	for w := range 2 {
		rng := rand.New(rand.NewPCG(uint64(w), 1))
		work.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond) // the race detector's node has to keep up
			defer pace.Stop()
			for n := 0; writing.Err() == nil; n++ {
				<-pace.C
				a, b := 2*rng.IntN(many/2)+1, 2*rng.IntN(many/2)+2
				sql := fmt.Sprintf("update things set v = v + 7 where id = %d; update things set v = v - 7 where id = %d", a, b)
				switch n % 200 {
				case 0:
					sql = fmt.Sprintf("update things set v = v + case when id %% 2 = 0 then 3 else -3 end where id between %d and %d", a, min(a+2001, many))
				case 50:
					sql = fmt.Sprintf("insert into things select %d + i, null, '', 0 from generate_series(1, 3000) i on conflict do nothing", (w+1)*1_000_000)
				case 100, 150:
					sql = fmt.Sprintf("delete from things where id > %d and id < %d", (w+1)*1_000_000, (w+1)*1_000_000+rng.IntN(3000))
				}
				// One message is one transaction. Two bulks can wait for each other, and one is then refused.
				if _, err := pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "40P01") && !strings.Contains(err.Error(), "57P01") {
					t.Error(err)
				}
			}
		})
	}
	for life := range 4 {
		d := decoded{make(chan int64, 1)}
		cfg.Logger = slog.New(d)
		table, byName := things(1), names()
		node, err := lockstep.Start(ctx, pool, cfg, table, byName)
		if err != nil {
			t.Fatal(err)
		}
		if s := node.Status(); s.Checkpoint.Restored != (life > 0) || life > 0 && len(s.Loads) > 0 {
			t.Fatalf("life %d: %+v, %+v", life, s.Checkpoint, s.Loads)
		}
		walk := func() {
			node.View(func(v *lockstep.View) {
				sum := int64(0)
				for _, row := range table.At(v).All() {
					sum += row.V
				}
				if sum != total {
					t.Errorf("life %d: a view sums up to %d, want %d", life, sum, total)
				}
			})
		}
		reading, enough := context.WithCancel(ctx)
		var readers sync.WaitGroup
		readers.Go(func() {
			for reading.Err() == nil {
				walk()
			}
		})
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(life), 2))
			for reading.Err() == nil {
				id := 1 + rng.IntN(many)
				if row, ok := table.Get(id); !ok || row.ID != id || row.Note != fmt.Sprintf("note of %d", id) {
					t.Errorf("life %d: row %d is %+v, %v", life, id, row, ok)
				}
			}
		})
		db.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'lockstep%'")
		if life > 0 && life%2 == 0 { // else it is closed while they are decoded
			select {
			case <-d.rows:
			case <-ctx.Done():
				t.Fatal("the rows are not decoded")
			}
		}
		if err := node.Barrier(ctx); err != nil {
			t.Error(err)
		}
		walk()
		enough()
		readers.Wait()
		if life == 3 {
			stop()
			work.Wait()
			if err := node.Barrier(deadline(t)); err != nil {
				t.Error(err)
			}
			sameAs(t, pool, table, func(r thing) int { return r.ID }, sameThing)
		}
		if err := node.Close(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
}
