package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/internal/logbuf"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
	"github.com/pglockstep/lockstep/triggers"
)

// keeper is a node of which a test runs one process after another.
type keeper struct {
	t    *testing.T
	pool *pgxpool.Pool
	dir  string
	name string
	log  logbuf.Buffer
}

func newKeeper(t *testing.T, db *pgtest.DB) *keeper {
	t.Helper()
	return &keeper{t: t, pool: db.Pool(t), dir: filepath.Join(t.TempDir(), "checkpoints"), name: t.Name()}
}

func (k *keeper) start(tables ...lockstep.AnyTable) *lockstep.Node {
	k.t.Helper()
	k.log.Reset()
	cfg := lockstep.Config{Name: k.name, Checkpoint: k.dir, CheckpointEvery: -1, DetectMutation: true, Logger: slog.New(slog.NewTextHandler(&k.log, nil))}
	node, err := lockstep.Start(deadline(k.t), k.pool, cfg, tables...)
	if err != nil {
		k.t.Fatal(err)
	}
	return node
}

func (k *keeper) stop(node *lockstep.Node) {
	k.t.Helper()
	if err := node.Close(deadline(k.t)); err != nil {
		k.t.Error(err)
	}
	if c := node.Status().Checkpoint; c.LastError != nil {
		k.t.Error(c.LastError)
	}
}

// once starts a node on table items, lets look see it, and stops it.
func (k *keeper) once(look func(s lockstep.Status, table *lockstep.Table[int, item])) {
	k.t.Helper()
	table := itemTable()
	node := k.start(table)
	if look != nil {
		look(node.Status(), table)
	}
	k.stop(node)
}

// A restart costs Postgres what was missed, and no table: ten nodes, one after
// another, as in a rolling deployment.
func TestARollingRestartReadsWhatWasMissedAndNoTable(t *testing.T) {
	db := fresh(t)
	items(t, db)
	keepers := make([]*keeper, 10)
	for i := range keepers {
		keepers[i] = newKeeper(t, db)
		keepers[i].name = fmt.Sprintf("web-%d", i)
		keepers[i].once(nil)
	}
	for i, k := range keepers {
		missed := uint64(10 * (i + 1))
		db.Exec(t, "update items set v = v + 1 where id between $1 and $2", 10*i+1, 10*i+10) // each node has missed those of all before
		k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
			if len(s.Loads) != 0 || s.EventsReplayed != missed || s.Replays != 1 || !s.Checkpoint.Restored || s.State != lockstep.Live {
				t.Errorf("node %d: loads %+v, %d events replayed (want %d), %+v, %v", i, s.Loads, s.EventsReplayed, missed, s.Checkpoint, s.State)
			}
			wantSame(t, db, table)
			if !strings.Contains(k.log.String(), "started from a checkpoint") {
				t.Errorf("the log does not say so:\n%s", k.log.String())
			}
		})
	}
}

// kinds has a column for each kind of value.
type kinds struct {
	ID     int
	Name   string
	Maybe  *string
	Small  int16
	Big    int64
	Ratio  float64
	Single float32
	Yes    bool
	At     time.Time
	Day    time.Time
	Clock  pgtype.Time
	Ago    pgtype.Interval
	Wall   pgtype.Timestamp
	Price  pgtype.Numeric
	UUID   uuid.UUID
	Raw    []byte
	List   []string
	Grid   pgtype.Array[*int32]
	Doc    map[string]any
	Text   json.RawMessage
	Mood   string
	Moods  []string
	Amount int
	Span   pgtype.Range[pgtype.Int4]
	Net    pgtype.Text
	Bits   pgtype.Bits
	Spot   pgtype.Point
}

const kindsSQL = `create type mood as enum ('sad', 'a "happy"'); create domain amount as int check (value >= 0);
create table kinds (id int primary key, name text not null, maybe varchar, small smallint not null, big bigint not null, ratio double precision not null, single real not null, yes boolean not null,
 at timestamptz not null, day date not null, clock time, ago interval, wall timestamp, price numeric, uuid uuid not null, raw bytea, list text[], grid int[], doc jsonb, text json not null,
 mood mood not null, moods mood[] not null, amount amount not null, span int4range, net cidr, bits varbit, spot point);
insert into kinds select i, 'name ' || i, case when i % 2 = 0 then E'\n"x\\' end, i, i::bigint << 40, i / 3.0, case i when 1 then 'NaN' else i / 7.0 end, i % 2 = 0,
 timestamptz '2020-03-04 05:06:07.891+02' + i * interval '1 day', date '0044-03-15 BC' + i, '12:34:56.7', '1 mon -2 days 03:04:05', 'infinity', '12345678901234567890.12300', gen_random_uuid(), decode(case i when 2 then '' else '00ff' end, 'hex'),
 case i % 3 when 0 then array['a', null, '"'] when 1 then '{}' end, array[[1, null], [3, 4]], jsonb_build_object('k', i, 'n', null, 'l', array[1.5, 2]), json '{"a" : [1,2]}',
 'a "happy"', array['sad', 'a "happy"']::mood[], i, int4range(i, 100), '10.0.0.0/8', b'10110', point(i, 'Infinity')
 from generate_series(1, 50) i`

func TestARowFromACheckpointIsTheValueThatALoadGives(t *testing.T) {
	db := fresh(t)
	db.Exec(t, strings.ReplaceAll(kindsSQL, "case i % 3 when 0 then array['a', null, '\"'] when 1", "case i % 3 when 0 then array['a', '\"'] when 1"))
	install(t, db, "public.kinds")
	registered := db.Pool(t, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			types, err := conn.LoadTypes(ctx, []string{"public.mood", "public._mood"})
			conn.TypeMap().RegisterTypes(types)
			return err
		}
	})
	for name, pool := range map[string]*pgxpool.Pool{"types that pgx does not know": db.Pool(t), "types that are registered": registered} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper(t, db)
			k.pool = pool
			declare := func() *lockstep.Table[int, kinds] {
				return lockstep.NewTable("public.kinds", func(k kinds) int { return k.ID })
			}
			k.stop(k.start(declare()))
			warm, cold := declare(), declare()
			node := k.start(warm)
			defer k.stop(node)
			if s := node.Status(); !s.Checkpoint.Restored || len(s.Loads) != 0 {
				t.Fatalf("%+v, %+v\n%s", s.Checkpoint, s.Loads, k.log.String())
			}
			startNode(t, pool, lockstep.Config{Name: "cold"}, cold)
			if warm.Len() != 50 || cold.Len() != 50 {
				t.Fatalf("%d rows, and %d", warm.Len(), cold.Len())
			}
			wantSameFromCheckpoint(t, node, warm, cold)
		})
	}
}

// wantSameFromCheckpoint: the rows that a node had from its checkpoint are those of a load, and
// a load finds nothing to change about them.
func wantSameFromCheckpoint[T any](t *testing.T, node *lockstep.Node, warm, cold *lockstep.Table[int, T]) {
	t.Helper()
	for id, want := range cold.All() {
		if got, _ := warm.Get(id); !rowmap.Identical(&got, &want) {
			t.Errorf("from the checkpoint %+v\nfrom a load %+v", got, want)
		}
	}
	if err := node.Reload(deadline(t)); err != nil {
		t.Fatal(err)
	}
	for id := range warm.All() {
		if _, rev, _ := warm.GetRevision(id); rev != 1 {
			t.Errorf("row %d was another one when it was loaded again", id)
		}
	}
}

// The reasons for which a checkpoint is not used, with a real server: each is
// said, and what follows is right.
func TestWhatBecameOfTheDatabaseWhileANodeWasAway(t *testing.T) {
	t.Run("nothing that the log cannot tell", func(t *testing.T) {
		db := fresh(t)
		items(t, db)
		k := newKeeper(t, db)
		k.once(nil)
		db.Exec(t, "delete from items where id > 50; insert into items values (200, 1); update items set id = id + 1000 where id < 10")
		k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
			if len(s.Loads) != 0 || s.EventsReplayed == 0 {
				t.Errorf("%+v", s)
			}
			wantSame(t, db, table)
		})
	})
	for name, c := range map[string]struct {
		change func(t *testing.T, db *pgtest.DB)
		reason replay.Reason
		detail string
		whole  bool // the checkpoint is refused
	}{
		"a new history": {func(t *testing.T, db *pgtest.DB) {
			if err := triggers.NewHistory(t.Context(), db.Pool(t), triggers.Options{}); err != nil {
				t.Fatal(err)
			}
		}, replay.FirstLoad, "history changed: ", true},
		"trimmed": {func(t *testing.T, db *pgtest.DB) {
			db.Exec(t, "update items set v = 5 where id in (2, 3)")
			db.Exec(t, "update items set v = 6 where id = 3")
			if trimmed, err := outbox.Trim(deadline(t), db.Pool(t), outbox.TrimOptions{HardRows: 1, KeepNewest: 1}); err != nil || trimmed.Deleted == 0 {
				t.Fatalf("nothing was trimmed: %+v, %v", trimmed, err)
			}
		}, replay.FirstLoad, "trimmed: ", true},
		"an event that was applied is gone": {func(t *testing.T, db *pgtest.DB) {
			db.Exec(t, "delete from lockstep.outbox where xid = (select max(xid) from lockstep.outbox)")
			db.Exec(t, "update items set v = 9 where id = 9")
		}, replay.FirstLoad, "anchor missing: ", true},
		"a type changed in place": {func(t *testing.T, db *pgtest.DB) {
			db.Exec(t, "alter table items alter v type int using v + 1000")
		}, replay.Drift, "", false},
		"another type": {func(t *testing.T, db *pgtest.DB) {
			db.Exec(t, "alter table items alter v type bigint using v + 1000")
		}, replay.Drift, "", false},
		"a column came": {func(t *testing.T, db *pgtest.DB) {
			db.Exec(t, "alter table items add extra text; update items set v = 5 where id = 5")
		}, replay.Drift, "", false},
		"capture was off for a while": {func(t *testing.T, db *pgtest.DB) {
			db.Exec(t, "begin; alter table items disable trigger all; update items set v = 77; alter table items enable always trigger lockstep_insert; alter table items enable always trigger lockstep_update; alter table items enable always trigger lockstep_delete; alter table items enable always trigger lockstep_truncate; commit")
		}, replay.Drift, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			items(t, db)
			k := newKeeper(t, db)
			k.once(nil)
			db.Exec(t, "update items set v = 1 where id = 1")
			k.once(nil)
			c.change(t, db)
			k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
				if len(s.Loads) != 1 || s.Loads[0].Reason != c.reason || !strings.Contains(s.Loads[0].Detail, c.detail) || s.Checkpoint.Restored == c.whole || s.State != lockstep.Live {
					t.Errorf("%+v\n%+v", s.Loads, s.Checkpoint)
				}
				if n := strings.Count(k.log.String(), "level=WARN"); c.whole != (n == 1) {
					t.Errorf("said %d times:\n%s", n, k.log.String())
				}
				if c.whole && !strings.HasPrefix(s.Checkpoint.Refused, c.detail) {
					t.Errorf("refused because of %q", s.Checkpoint.Refused)
				}
				wantSame(t, db, table)
			})
			k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) { // and the next is good again
				if len(s.Loads) != 0 || !s.Checkpoint.Restored {
					t.Errorf("%+v, %+v", s.Loads, s.Checkpoint)
				}
				wantSame(t, db, table)
			})
		})
	}
}

func TestACheckpointOfAnotherDatabaseIsRefused(t *testing.T) {
	db := fresh(t)
	items(t, db)
	k := newKeeper(t, db)
	k.once(nil)
	// A copy, file by file: its history, its oids and its log are the same ones.
	admin := pgtest.New(t).Conn(t)
	name := db.Name + "_copy"
	until(t, "a copy of a database that nobody uses", func() bool {
		_, err := admin.Exec(deadline(t), "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", db.Name)
		if err == nil {
			_, err = admin.Exec(deadline(t), "create database "+name+" template "+db.Name)
		}
		if err != nil && sqlState(err) != "55006" { // somebody still uses it
			t.Fatal(err)
		}
		return err == nil
	})
	defer func() {
		if _, err := admin.Exec(context.Background(), "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	}()
	db.Exec(t, "update items set v = 1 where id = 1") // this one goes on
	k.once(nil)
	k.pool = db.Pool(t, func(c *pgxpool.Config) { c.ConnConfig.Database = name })
	k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
		if s.Checkpoint.Restored || !strings.Contains(s.Checkpoint.Refused, "it is of cluster") {
			t.Errorf("%+v", s.Checkpoint)
		}
		if row, _ := table.Get(1); row.V != 0 {
			t.Errorf("the row is %v, of the other database", row)
		}
	})
	k.pool.Close()
}

// A server that loses the end of its log has transactions no more that the
// checkpoint holds.
func TestACheckpointThatIsAheadOfACrashedServerIsRefused(t *testing.T) {
	c := own(t, pgtest.With("fsync", "on"), pgtest.With("synchronous_commit", "off"), pgtest.With("wal_writer_delay", "10s"), pgtest.With("autovacuum", "off"))
	db := c.New(t)
	items(t, db)
	k := newKeeper(t, db)
	k.once(nil)
	db.Exec(t, "checkpoint")
	table := itemTable()
	node := k.start(table)
	for range 5 {
		db.Exec(t, "update items set v = v + 1 where id = 1")
	}
	barrier(t, node)
	if row, _ := table.Get(1); row.V != 5 {
		t.Fatalf("the node has %v", row)
	}
	k.stop(node)
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.pool.Reset()
	if itemsOf(t, db)[1].V == 5 {
		t.Skip("the server has lost nothing: its log writer came by")
	}
	db.Exec(t, "update items set v = v + 50 where id = 1")
	k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
		if s.Checkpoint.Restored || !strings.HasPrefix(s.Checkpoint.Refused, string(replay.AnchorMissing)) {
			t.Errorf("%+v", s.Checkpoint)
		}
		wantSame(t, db, table)
	})
}

// other has a type of its own.
type other struct {
	ID int
	V  level
}

// level is read by code of the application's own.
type level int

func (l *level) ScanInt64(v pgtype.Int8) error {
	*l = level(v.Int64)
	return nil
}

func (l level) Int64Value() (pgtype.Int8, error) {
	return pgtype.Int8{Int64: int64(l), Valid: true}, nil
}

// odd loses something: what is read is never odd.
type odd int

func (o *odd) ScanInt64(v pgtype.Int8) error {
	*o = odd(v.Int64 * 2)
	return nil
}

func (o odd) Int64Value() (pgtype.Int8, error) { return pgtype.Int8{Int64: int64(o), Valid: true}, nil }

func TestTablesOfEveryDeclarationAreKeptOrLoadedAtOnePosition(t *testing.T) {
	db := fresh(t)
	for _, name := range []string{"tags", "hand", "inverse", "documents", "own", "lossy", "wide"} {
		db.Exec(t, fmt.Sprintf("create table %[1]s (id int primary key, v int not null); insert into %[1]s select i, 1 from generate_series(1, 10) i", name))
		install(t, db, "public."+name)
	}
	type any1 = lockstep.AnyTable
	read := func(row pgx.CollectableRow) (i item, err error) {
		err = row.Scan(&i.ID, &i.V)
		return i, err
	}
	key := func(i item) int { return i.ID }
	declare := func(wide any1) map[string]any1 {
		return map[string]any1{
			"tags": lockstep.NewTable("public.tags", key),
			"hand": lockstep.NewTable("public.hand", key, lockstep.WithRow[int](read, "id", "v")),
			"inverse": lockstep.NewTable("public.inverse", key, lockstep.WithRow[int](read, "id", "v"),
				lockstep.WithEncode[int](func(i item) []any { return []any{i.ID, i.V} })),
			"documents": lockstep.Documents("public.documents"),
			"own":       lockstep.NewTable("public.own", func(o other) int { return o.ID }),
			"lossy": lockstep.NewTable("public.lossy", func(o struct {
				ID int
				V  odd
			}) int {
				return o.ID
			}),
			"wide": wide,
		}
	}
	k := newKeeper(t, db)
	run := func(tables map[string]any1) *lockstep.Node {
		return k.start(slices.Collect(maps.Values(tables))...)
	}
	first := run(declare(lockstep.NewTable("public.wide", key)))
	k.stop(first)
	if w := first.Status().Checkpoint.Without; len(w) != 2 || !strings.HasPrefix(w[0], "public.hand: its rows have no inverse") || !strings.HasPrefix(w[1], "public.lossy: ") || !strings.Contains(w[1], "another row") {
		t.Errorf("the checkpoint lacks %q", w)
	}
	for name := range declare(nil) {
		db.Exec(t, fmt.Sprintf("update %[1]s set v = 2 where id = 2", name))
	}
	second := declare(lockstep.NewTable("public.wide", func(w struct {
		ID int
		V  int64
	}) int {
		return w.ID
	}))
	node := run(second)
	defer k.stop(node)
	s := node.Status()
	var loaded []string
	for _, l := range s.Loads {
		loaded = append(loaded, l.Tables...)
	}
	slices.Sort(loaded)
	if want := []string{"public.hand", "public.lossy", "public.wide"}; !slices.Equal(loaded, want) || !s.Checkpoint.Restored || s.EventsReplayed != 4 || s.Cuts != 1 {
		t.Errorf("loaded %q (want %q), %d events replayed, %d cuts: %+v\n%+v\n%s", loaded, want, s.EventsReplayed, s.Cuts, s.Checkpoint, s.Loads, k.log.String())
	}
	for name, table := range second {
		if table.Len() != 10 {
			t.Errorf("table %s has %d rows", name, table.Len())
		}
	}
	if tags, ok := second["tags"].(*lockstep.Table[int, item]); ok {
		if row, _ := tags.Get(2); row.V != 2 {
			t.Errorf("the missed change is not there: %v", row)
		}
	}
	doc, _ := second["documents"].(*lockstep.Table[string, json.RawMessage])
	if row, _ := doc.Get("2"); string(row) != `{"id":2,"v":2}` {
		t.Errorf("the document is %s", row)
	}
	if row, _ := doc.Get("3"); string(row) != `{"id":3,"v":1}` {
		t.Errorf("the document is %s", row)
	}
}

func TestTheSecondProcessOfOneNameGoesWithoutAndSaysSo(t *testing.T) {
	db := fresh(t)
	items(t, db)
	k := newKeeper(t, db)
	first := k.start(itemTable())
	second := newKeeper(t, db)
	second.dir = k.dir
	table := itemTable()
	node := second.start(table)
	s := node.Status()
	if s.State != lockstep.Live || s.Checkpoint.Restored || !strings.Contains(s.Checkpoint.Refused, "another process") {
		t.Errorf("%v, %+v", s.State, s.Checkpoint)
	}
	if err := node.Close(deadline(t)); err != nil {
		t.Error(err)
	}
	if err := node.Status().Checkpoint.LastError; !errors.Is(err, checkpoint.ErrHeld) {
		t.Errorf("the last error is %v", err)
	}
	k.stop(first)
	k.once(func(s lockstep.Status, _ *lockstep.Table[int, item]) {
		if !s.Checkpoint.Restored {
			t.Errorf("%+v", s.Checkpoint)
		}
	})
}

func TestACheckpointThatCannotBeWrittenStopsNothing(t *testing.T) {
	db := fresh(t)
	items(t, db)
	k := newKeeper(t, db)
	if err := os.WriteFile(k.dir, nil, 0o600); err != nil { // a file is where the directory should be
		t.Fatal(err)
	}
	table := itemTable()
	node := k.start(table)
	db.Exec(t, "update items set v = 1")
	barrier(t, node)
	wantSame(t, db, table)
	if err := node.Close(deadline(t)); err != nil {
		t.Error(err)
	}
	if s := node.Status(); s.Checkpoint.LastError == nil || s.Checkpoint.Refused == "" || strings.Count(k.log.String(), "a checkpoint cannot be written") != 1 {
		t.Errorf("%+v\n%s", s.Checkpoint, k.log.String())
	}
	secret := db.Pool(t).Config().ConnConfig.Password
	if b, err := json.Marshal(node.Status()); err != nil || secret != "" && bytes.Contains(b, []byte(secret)) {
		t.Errorf("the status as JSON: %v", err)
	}
}
