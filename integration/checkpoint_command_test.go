package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/internal/rowmap"
)

// command runs the command of this source.
type command struct {
	t      *testing.T
	binary string
	dsn    string
}

func newCommand(t *testing.T, db *pgtest.DB) *command {
	t.Helper()
	c := &command{t, filepath.Join(t.TempDir(), "lockstep"), db.DSN()}
	if out, err := exec.CommandContext(deadline(t), "go", "build", "-o", c.binary, "../cmd/node").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return c
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
	if strings.Contains(out, "loaded again") || strings.Contains(out, "left out") {
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
	for id, want := range cold.All() {
		if got, _ := warm.Get(id); !rowmap.Identical(&got, &want) {
			t.Errorf("from the checkpoint %+v\nfrom a load %+v", got, want)
		}
	}
	for id, want := range coldTexts.All() {
		if got, _ := warmTexts.Get(id); got != want {
			t.Errorf("from the checkpoint %+v, from a load %+v", got, want)
		}
	}
	if err := node.Reload(deadline(t)); err != nil {
		t.Fatal(err)
	}
	for id := range warm.All() {
		if _, rev, _ := warm.GetRevision(id); rev != 1 {
			t.Errorf("row %d was another one when it was loaded", id)
		}
	}
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
