package integration

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// command runs the command of this source.
type command struct {
	t      *testing.T
	binary string
	dsn    string
}

func newCommand(t *testing.T, db *pgtest.DB) *command {
	t.Helper()
	return &command{t, pgtest.Built(t, "../cmd/node"), db.DSN()}
}

// run returns what the command prints, on both outputs, and its exit status.
func (c *command) run(args ...string) (out string, status int) {
	c.t.Helper()
	cmd := exec.CommandContext(deadline(c.t), c.binary, args...)
	cmd.Env = append(os.Environ(), "LOCKSTEP_DSN="+c.dsn)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func (c *command) want(status int, text string, args ...string) string {
	c.t.Helper()
	out, got := c.run(args...)
	if got != status || !strings.Contains(out, text) {
		c.t.Errorf("%q: status %d, want %d and %q:\n%s", args, got, status, text, out)
	}
	return out
}

func kindsTable() *lockstep.Table[int, kinds] {
	return lockstep.NewTable("public.kinds", func(k kinds) int { return k.ID })
}

// A node leaves a checkpoint, rows of every kind change, the command brings the file up to date, and a node starts
// from it with nothing left to replay.
func TestTheCommandBringsACheckpointUpToDate(t *testing.T) {
	db := fresh(t)
	db.Exec(t, strings.ReplaceAll(kindsSQL, "case i % 3 when 0 then array['a', null, '\"'] when 1", "case i % 3 when 0 then array['a', '\"'] when 1"))
	db.Exec(t, "create table docs (a text, b int, v jsonb, primary key (a, b)); insert into docs select 'é' || i, i, '{}' from generate_series(1, 50) i")
	db.Exec(t, "create table texts (u uuid primary key, v int not null); insert into texts select gen_random_uuid(), i from generate_series(1, 50) i")
	type texts struct {
		U string // which goes into the file as text
		V int
	}
	install(t, db, "public.kinds", "public.docs", "public.texts")
	c := newCommand(t, db)
	k := newKeeper(t, db)
	declare := func() (*lockstep.Table[int, kinds], *lockstep.Table[string, texts], []lockstep.AnyTable) {
		a, b := kindsTable(), lockstep.NewTable("public.texts", func(r texts) string { return r.U })
		return a, b, []lockstep.AnyTable{a, b, lockstep.Documents("public.docs")}
	}
	_, _, tables := declare()
	k.stop(k.start(tables...))
	c.want(0, "nothing was missed", "replay", "--checkpoint", k.dir)
	c.want(0, "0 wrong", "verify", "--checkpoint", k.dir)
	db.Exec(t, `update kinds set name = name || '!', price = price + 1.50, doc = doc || '{"x": 1.10}', grid = array[[7, null]], span = '[3,9)', ago = '2 days', at = at + '1 us', raw = '\x00' where id % 2 = 0;
		delete from kinds where id % 5 = 0; update kinds set id = id + 1000, maybe = null, list = null, uuid = gen_random_uuid(), mood = 'sad', moods = '{}', text = '[1 , 2]' where id % 7 = 0;
		delete from docs where b < 10; update docs set v = '{"k": [1, 2.50]}' where b > 40; insert into docs values ('new', 1, null);
		update texts set v = v + 100 where v % 3 = 0; delete from texts where v < 5; insert into texts values (gen_random_uuid(), 7)`)
	before, err := os.ReadFile(file(t, k.dir))
	if err != nil {
		t.Fatal(err)
	}
	c.want(0, "public.kinds", "replay", "--checkpoint", k.dir, "--dry-run")
	c.want(0, "0 wrong", "verify", "--checkpoint", k.dir)
	if now, err := os.ReadFile(file(t, k.dir)); err != nil || string(now) != string(before) {
		t.Errorf("verify, or a dry run, has written the file: %v", err)
	}
	out := c.want(0, "public.texts", "replay", "--checkpoint", k.dir)
	if strings.Contains(out, "was loaded") || strings.Contains(out, "left out") {
		t.Error(out)
	}
	c.want(0, "nothing was missed", "replay", "--checkpoint", k.dir)
	c.want(0, "0 wrong", "verify", "--checkpoint", k.dir)
	warm, warmTexts, tables := declare()
	node := k.start(tables...)
	defer k.stop(node)
	if s := node.Status(); !s.Checkpoint.Restored || len(s.Loads) != 0 || s.EventsReplayed != 0 {
		t.Fatalf("%+v, %+v, %d events\n%s", s.Checkpoint, s.Loads, s.EventsReplayed, k.log.String())
	}
	cold, coldTexts, others := declare()
	startNode(t, db.Pool(t), lockstep.Config{Name: "cold"}, others...)
	if warm.Len() != cold.Len() || warm.Len() == 0 || warmTexts.Len() != coldTexts.Len() {
		t.Errorf("%d rows, want %d; %d, want %d", warm.Len(), cold.Len(), warmTexts.Len(), coldTexts.Len())
	}
	for id, want := range coldTexts.All() {
		if got, _ := warmTexts.Get(id); got != want {
			t.Errorf("from the checkpoint %+v, from a load %+v", got, want)
		}
	}
	wantSameFromCheckpoint(t, node, warm, cold)
	c.want(1, "is running", "replay", "--checkpoint", k.dir)
}

// file is the one checkpoint in a directory.
func file(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.checkpoint"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q, %v", found, err)
	}
	return found[0]
}

// Keys that pgx encodes in another way than Postgres, and types that the application's connections know.
func TestTheCommandFindsRowsByKeysOfEveryKind(t *testing.T) {
	db := fresh(t)
	db.Exec(t, `create type mood as enum ('sad', 'happy');
		create table keyed (n cidr, d date, m mood, b varbit, v int not null, moods mood[] not null, primary key (n, d, m, b));
		insert into keyed select network(set_masklen(inet '10.0.0.1' + i * 256, 24))::cidr, date '0044-03-15 BC' + i, case when i % 2 = 0 then 'sad' else 'happy' end::mood, b'101', i, array['sad', 'happy']::mood[] from generate_series(1, 50) i`)
	install(t, db, "public.keyed")
	type keyed struct {
		N     netip.Prefix
		D     time.Time
		M     string
		B     pgtype.Bits
		V     int
		Moods []string
	}
	k := newKeeper(t, db)
	k.pool = db.Pool(t, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			types, err := conn.LoadTypes(ctx, []string{"public.mood", "public._mood"})
			conn.TypeMap().RegisterTypes(types)
			return err
		}
	})
	declare := func() *lockstep.Table[string, keyed] {
		return lockstep.NewTable("public.keyed", func(r keyed) string { return fmt.Sprint(r.N, r.D, r.M, hex.EncodeToString(r.B.Bytes[:])) })
	}
	c := newCommand(t, db)
	k.stop(k.start(declare()))
	db.Exec(t, "update keyed set v = v + 100, moods = '{sad}' where v % 2 = 0; delete from keyed where v % 5 = 0; insert into keyed values ('10.9.0.0/16', '2024-01-01', 'sad', b'1', 1, '{}') on conflict do nothing")
	c.want(0, "public.keyed", "replay", "--checkpoint", k.dir)
	c.want(0, "0 wrong", "verify", "--checkpoint", k.dir)
	warm := declare()
	node := k.start(warm)
	defer k.stop(node)
	cold := declare()
	startNode(t, k.pool, lockstep.Config{Name: "cold"}, cold)
	if s := node.Status(); !s.Checkpoint.Restored || len(s.Loads) != 0 || s.EventsReplayed != 0 || warm.Len() != cold.Len() {
		t.Fatalf("%+v, %+v, %d events, %d rows of %d\n%s", s.Checkpoint, s.Loads, s.EventsReplayed, warm.Len(), cold.Len(), k.log.String())
	}
	for id, want := range cold.All() {
		if got, _ := warm.Get(id); !rowmap.Identical(&got, &want) {
			t.Errorf("from the checkpoint %+v\nfrom a load %+v", got, want)
		}
	}
}

func TestTheCommandNamesTablesThatOnlyTheApplicationReads(t *testing.T) {
	db := fresh(t)
	items(t, db)
	db.Exec(t, "create table own (id int primary key, v int not null); insert into own select i, 1 from generate_series(1, 10) i; create table wide (id int primary key, v int not null); insert into wide values (1, 1)")
	install(t, db, "public.own", "public.wide")
	k := newKeeper(t, db)
	c := newCommand(t, db)
	start := func() (*lockstep.Node, *lockstep.Table[int, item]) {
		table := itemTable()
		return k.start(table, lockstep.NewTable("public.own", func(o other) int { return o.ID }), lockstep.NewTable("public.wide", func(i item) int { return i.ID })), table
	}
	node, _ := start()
	k.stop(node)
	db.Exec(t, "update items set v = 7 where id = 7; update own set v = 2; alter table wide alter v type bigint; truncate items; insert into items values (1, 1)")
	c.want(0, "public.own: not compared", "verify", "--checkpoint", k.dir)
	out := c.want(0, "table public.own is left out, its node will load it", "replay", "--checkpoint", k.dir)
	if !strings.Contains(out, "public.wide is left out, its node will load it: column v was of another type") {
		t.Error(out)
	}
	node, table := start()
	defer k.stop(node)
	s := node.Status()
	var loaded []string
	for _, l := range s.Loads {
		loaded = append(loaded, l.Tables...)
	}
	slices.Sort(loaded)
	if !s.Checkpoint.Restored || !slices.Equal(loaded, []string{"public.own", "public.wide"}) || s.EventsReplayed != 0 {
		t.Errorf("%+v, loaded %q\n%s", s.Checkpoint, loaded, k.log.String())
	}
	wantSame(t, db, table)
}

func TestVerifyNamesTheRowsInWhichACheckpointIsWrong(t *testing.T) {
	db := fresh(t)
	items(t, db)
	k := newKeeper(t, db)
	c := newCommand(t, db)
	k.once(nil)
	db.Exec(t, "begin; update items set v = 5 where id = 5; delete from items where id = 9; insert into items values (2000, 1); delete from lockstep.outbox where xid = pg_current_xact_id(); commit; update items set v = 6 where id = 6")
	out := c.want(2, "100 rows in Postgres, 100 in the checkpoint, 3 wrong", "verify", "--checkpoint", k.dir)
	for _, text := range []string{"public.items 5: the rows differ in v\n", "public.items 9: Postgres does not have it\n", "public.items 2000: the checkpoint does not have it\n"} {
		if !strings.Contains(out, text) {
			t.Errorf("%q is missing in\n%s", text, out)
		}
	}
	c.want(1, "does not hold table public.other", "verify", "--checkpoint", k.dir, "--table", "public.other")
}

// Whatever the checkpoint cannot be brought up to date for is said, and the file stays as it was.
func TestACheckpointThatCannotBeBroughtUpToDateStaysAsItWas(t *testing.T) {
	binary := newCommand(t, pgtest.New(t)).binary
	for name, s := range map[string]struct {
		spoil  func(t *testing.T, db *pgtest.DB, file string)
		status int
		text   string
		reload bool // helps
	}{
		"trimmed": {func(t *testing.T, db *pgtest.DB, _ string) {
			db.Exec(t, "update items set v = 5 where id in (2, 3)")
			db.Exec(t, "update items set v = 6 where id = 3")
			if trimmed, err := outbox.Trim(deadline(t), db.Pool(t), outbox.TrimOptions{HardRows: 1, KeepNewest: 1}); err != nil || trimmed.Deleted == 0 {
				t.Fatalf("nothing was trimmed: %+v, %v", trimmed, err)
			}
		}, 3, ", last trimmed 20", true},
		"a new history": {func(t *testing.T, db *pgtest.DB, _ string) {
			if err := triggers.NewHistory(t.Context(), db.Pool(t), triggers.Options{}); err != nil {
				t.Fatal(err)
			}
		}, 3, "history changed", true},
		"torn at the end":  {func(t *testing.T, _ *pgtest.DB, file string) { tearOff(t, file, 5) }, 3, "not what was written", true},
		"torn at the head": {func(t *testing.T, _ *pgtest.DB, file string) { tearOff(t, file, 1<<30) }, 3, "not what was written", false},
	} {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			items(t, db)
			db.Exec(t, "update items set v = 1 where id = 1")
			k := newKeeper(t, db)
			c := &command{t, binary, db.DSN()}
			k.once(nil)
			s.spoil(t, db, file(t, k.dir))
			before, err := os.ReadFile(file(t, k.dir))
			if err != nil {
				t.Fatal(err)
			}
			c.want(s.status, s.text, "replay", "--checkpoint", k.dir)
			if now, err := os.ReadFile(file(t, k.dir)); err != nil || !bytes.Equal(now, before) {
				t.Errorf("the file has changed: %v", err)
			}
			if !s.reload {
				c.want(s.status, s.text, "replay", "--checkpoint", k.dir, "--reload")
				return
			}
			c.want(0, "table public.items was loaded: 100 rows", "replay", "--checkpoint", k.dir, "--reload")
			k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
				if !s.Checkpoint.Restored || len(s.Loads) != 0 {
					t.Errorf("%+v, %+v\n%s", s.Checkpoint, s.Loads, k.log.String())
				}
				wantSame(t, db, table)
			})
		})
	}
}

func tearOff(t *testing.T, file string, n int64) {
	t.Helper()
	info, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, max(30, info.Size()-n))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheCommandRefusesACheckpointOfAnotherDatabase(t *testing.T) {
	db, another := fresh(t), pgtest.New(t)
	items(t, db)
	items(t, another)
	k := newKeeper(t, db)
	k.once(nil)
	c := newCommand(t, another)
	c.want(1, "it is of cluster", "replay", "--checkpoint", k.dir)
	c.want(1, "it is of cluster", "replay", "--checkpoint", k.dir, "--reload")
	c.want(1, "it is of cluster", "verify", "--checkpoint", k.dir)
	c.want(1, "there is no checkpoint in", "replay", "--checkpoint", t.TempDir())
	c.want(1, "has no checkpoint of nobody", "replay", "--checkpoint", k.dir, "--node", "nobody")
}

// Killed at any moment, the command leaves a whole file, and the next run makes it the one that is wanted.
func TestTheCommandCanBeKilledAtAnyMoment(t *testing.T) {
	db := fresh(t)
	items(t, db)
	db.Exec(t, "insert into items select i, 0 from generate_series(101, 20000) i")
	k := newKeeper(t, db)
	c := newCommand(t, db)
	node := k.start(itemTable())
	db.Exec(t, "update items set v = 1 where id = 1")
	barrier(t, node)
	k.stop(node)
	killed := 0
	for i := range 12 {
		db.Exec(t, "update items set v = v + 1 where id % 3 = $1", i%3)
		cmd := exec.CommandContext(deadline(t), c.binary, "replay", "--checkpoint", k.dir)
		cmd.Env = append(os.Environ(), "LOCKSTEP_DSN="+c.dsn)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(i)*40*time.Millisecond, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			killed++
		}
		timer.Stop()
		if i%4 == 3 {
			k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
				if !s.Checkpoint.Restored || len(s.Loads) != 0 {
					t.Errorf("%+v, %+v\n%s", s.Checkpoint, s.Loads, k.log.String())
				}
				wantSame(t, db, table)
			})
		}
	}
	t.Logf("%d of 12 were killed", killed)
	if killed == 0 {
		t.Error("none was killed")
	}
	db.Exec(t, "update items set v = v + 1 where id < 5")
	c.want(0, "position", "replay", "--checkpoint", k.dir)
	left, err := filepath.Glob(filepath.Join(k.dir, "*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
		if s.EventsReplayed != 0 || len(s.Loads) != 0 {
			t.Errorf("%d events, %+v", s.EventsReplayed, s.Loads)
		}
		wantSame(t, db, table)
	})
}
