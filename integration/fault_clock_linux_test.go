package integration

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
)

// clock is a file that says by how much a process shifts its time of day, and
// whether it stands still.
type clock struct {
	t    *testing.T
	path string
}

// newClock is in a directory that the server's user may enter, with room for
// what else it must read.
func newClock(t *testing.T) (c *clock, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lockstep-clock-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c = &clock{t, filepath.Join(dir, "shift")}
	if err := os.WriteFile(c.path, make([]byte, 16), 0o644); err != nil {
		t.Fatal(err)
	}
	return c, dir
}

// set writes in place: the page is mapped.
func (c *clock) set(shift time.Duration, still time.Time) {
	c.t.Helper()
	f, err := os.OpenFile(c.path, os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := binary.NativeEndian.AppendUint64(nil, uint64(shift))
	at := uint64(0)
	if !still.IsZero() {
		at = uint64(still.UnixNano())
	}
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(b, at), 0); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clock) jump(d time.Duration) { c.t.Helper(); c.set(d, time.Time{}) }

// shiftable are the arguments of go build for a program whose wall clock can be
// shifted: one line of the standard library's time.Now is another.
func shiftable(t *testing.T) []string {
	t.Helper()
	from := filepath.Join(runtime.GOROOT(), "src", "time", "time.go") //nolint:staticcheck // of the Go that runs the tests, which builds the program
	text, err := os.ReadFile(from)
	if err != nil {
		t.Skipf("not run: there is no source of package time (%v): a Go distribution brings it", err)
	}
	const line = "func Now() Time {\n\tsec, nsec, mono := "
	before, after, found := strings.Cut(string(text), line)
	call, after, ok := strings.Cut(after, "\n")
	if !found || !ok || call != "runtimeNow()" {
		t.Fatalf("time.Now of %s is not the one that this test knows: %q", runtime.Version(), call)
	}
	dir := t.TempDir()
	now := filepath.Join(dir, "time.go")
	if err := os.WriteFile(now, []byte(before+line+"shiftedNow()\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
	shift, err := filepath.Abs("testdata/time_shift.go")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(map[string]map[string]string{"Replace": {from: now, filepath.Join(filepath.Dir(from), "shift.go"): shift}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, spec, 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"-overlay", file}
}

var jumps = []time.Duration{3 * time.Hour, -5 * time.Hour, 30 * 24 * time.Hour, -2 * time.Second, 0}

// What a node says and when it tries again goes by the monotonic clock: a wall
// clock that jumps by hours, on or off its server, changes nothing.
func TestANodeWhoseClockJumpsGoesOnAsIfItDidNot(t *testing.T) {
	program := built(t, shiftable(t)...)
	db := fresh(t)
	items(t, db)
	pool, proxy := proxied(t, db)
	c, _ := newClock(t)
	dsn := strings.Replace(db.DSN(), db.Server().Addr(), proxy.Listen, 1)
	began := time.Now()
	p := launch(t, program, dsn, "CLOCK_SHIFT="+c.path)
	b := &book{conn: db.Conn(t)}
	b.write(t, 1)
	p.seen(1)
	shifted := func(d time.Duration) {
		t.Helper()
		c.jump(d)
		until(t, "the clock has jumped", func() bool {
			s := p.last()
			return time.Duration(s.Now-s.At)*time.Microsecond-d < time.Second && d-time.Duration(s.Now-s.At)*time.Microsecond < time.Second
		})
	}
	for _, d := range jumps {
		shifted(d)
		fetches := p.last().Fetches
		until(t, "beats go on", func() bool { return p.last().Fetches >= fetches+3 })
		b.write(t, 10)
		p.seen(len(b.at))
	}
	if s := p.last(); s.Sessions != 1 || s.Failures != 0 {
		t.Errorf("%d sessions, %d failures: %s", s.Sessions, s.Failures, s.LastError)
	}
	for _, d := range jumps {
		proxy.Stop()
		until(t, "the process is cut off", func() bool { return p.last().State != "live" })
		shifted(d)
		b.write(t, 5)
		failures := p.last().Failures
		until(t, "it tries again", func() bool { return p.last().Failures > failures })
		shifted(-d)
		if err := proxy.Start(); err != nil {
			t.Fatal(err)
		}
		p.seen(len(b.at))
	}
	until(t, "its subscriber has heard", func() bool { _, c := p.all(); return len(c) == len(b.at) })
	samples, changes := p.all()
	wantEach(t, changes, 1, len(b.at))
	live, last, took := b.honest(t, samples), p.last(), time.Since(began)
	for _, s := range samples {
		if s.StaleMicros > took.Microseconds() {
			t.Fatalf("it says that it is %d s behind, %v after it began", s.StaleMicros/1e6, took)
		}
	}
	t.Logf("%d samples, %d live; %d fetches, %d sessions, %d failures in %v, loads %v", len(samples), live, last.Fetches, last.Sessions, last.Failures, took, last.Loads)
	if len(last.Loads) != 1 || float64(last.Failures) > sessionsPerSecond*took.Seconds() || float64(last.Fetches) > fetchesPerSecond*took.Seconds() {
		t.Errorf("loads %v, %d failures and %d fetches in %v", last.Loads, last.Failures, last.Fetches, took)
	}
	pool.Close()
}

// timeless is a cluster whose clock the test sets.
func timeless(t *testing.T) (*pgtest.Cluster, *clock) {
	t.Helper()
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("not run: gcc is not installed (Debian: apt-get install gcc libc6-dev)")
	}
	c, dir := newClock(t)
	shim := filepath.Join(dir, "clock.so")
	if out, err := exec.CommandContext(t.Context(), compiler, "-shared", "-fPIC", "-O2", "-o", shim, "testdata/clock.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("LD_PRELOAD", shim)
	t.Setenv("CLOCK_SHIFT", c.path)
	return own(t), c
}

// order are writes of one transaction, each in a message of its own, whose
// order decides; v is what row 1 becomes.
func order(t *testing.T, conn *pgx.Conn, v int) {
	t.Helper()
	for _, sql := range []string{
		"begin", "update items set v = -1 where id = 49", "delete from items where id = 50", "insert into items values (50, 0)",
		fmt.Sprintf("update items set v = %d where id in (1, 49, 50)", v), "update items set id = -id where id = 60", "update items set id = -id where id = -60",
		"update cascades set v = v + 1 where id = 1", "commit",
	} {
		do(t, conn, sql)
	}
}

// The server's own clock says when events were written and which statements
// belong to one message. It may jump, and stand still: nothing is lost or
// doubled, and nothing is trimmed that is young by that clock.
func TestAServerWhoseClockJumpsLosesDoublesAndTrimsNothing(t *testing.T) {
	cluster, c := timeless(t)
	db := cluster.New(t)
	items(t, db)
	// A trigger of the user's that writes its own table again: what the mark is for.
	db.Exec(t, `create table cascades (id int primary key, v int not null); insert into cascades values (1, 0), (2, 0);
		create function again() returns trigger language plpgsql as $$ begin
			if new.id = 1 then update cascades set v = new.v where id = 2; update cascades set v = new.v + 1000 where id = 1 and v = new.v and new.v % 2 = 0; end if;
			return null;
		end $$;
		create trigger aaa after update on cascades for each row when (pg_trigger_depth() < 1) execute function again()`)
	install(t, db, "public.cascades")
	var nodes [2]*lockstep.Node
	var tables, cascades [2]*lockstep.Table[int, item]
	var watches [2]*watch
	through, proxy := proxied(t, db)
	for i := range nodes {
		pool := db.Pool(t)
		if i == 1 {
			pool = through
		}
		tables[i], cascades[i] = itemTable(), lockstep.NewTable("public.cascades", func(i item) int { return i.ID })
		nodes[i] = startNode(t, pool, lockstep.Config{Name: fmt.Sprintf("node-%d", i), Register: 100 * time.Millisecond, Retention: -1}, tables[i], cascades[i])
		watches[i] = watched(t, nodes[i], tables[i])
	}
	feeds := [2]*feed[int, item]{subscribe(t, tables[0]), subscribe(t, tables[1])}
	conn, v := db.Conn(t), 0
	write := func(n int) {
		t.Helper()
		for range n {
			v++
			order(t, conn, v)
		}
	}
	same := func(who ...int) {
		t.Helper()
		want := rowsOf(t, db, "select id, v from cascades", func(i item) int { return i.ID })
		for _, i := range who {
			barrier(t, nodes[i])
			wantSame(t, db, tables[i])
			for id, w := range want {
				if got, _ := cascades[i].Get(id); got != w {
					t.Errorf("node %d has %v, the table %v", i, got, w)
				}
			}
		}
	}
	// trim keeps an hour, and must not touch what is younger.
	trim := func() (deleted int64) {
		t.Helper()
		const young = "select count(*) from lockstep.outbox where at >= clock_timestamp() - interval '59 minutes'"
		before := ask[int](t, db, young)
		r, err := outbox.Trim(deadline(t), db.Pool(t), outbox.TrimOptions{KeepAge: time.Hour, HardAge: 30 * 24 * time.Hour, KeepNewest: 1})
		if err != nil {
			t.Fatal(err)
		}
		if after := ask[int](t, db, young); after != before {
			t.Errorf("of %d events younger than an hour %d are left", before, after)
		}
		return r.Deleted
	}
	for _, d := range []time.Duration{0, -3 * time.Hour, 2 * time.Hour, -26 * time.Hour, 25 * time.Hour, 0} {
		c.jump(d)
		write(3)
		same(0, 1)
		// A new session shows what it has: by id, number and time.
		do(t, conn, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'lockstep %' and datname = current_database()")
		write(3)
		same(0, 1)
		until(t, "both nodes have registered", func() bool {
			return ask[int](t, db, "select count(*) from lockstep.nodes where beat between clock_timestamp() - interval '5 seconds' and clock_timestamp() + interval '5 seconds'") == 2
		})
		t.Logf("%v: %d trimmed", d, trim())
		same(0, 1)
	}
	c.set(0, time.Now())
	write(3)
	same(0, 1)
	if n := ask[int](t, db, "select count(distinct at) from (select at from lockstep.outbox order by seq desc limit 20) o"); n != 1 {
		t.Errorf("the clock stands still, and events have %d times", n)
	}
	c.jump(0)
	for i := range nodes {
		onlyTheFirstLoad(t, nodes[i])
	}

	// One that is away is spared for an hour of the server's clock, whatever that shows.
	heal := cuts["connections are closed and new ones refused"](t, proxy)
	write(3)
	c.jump(-3 * time.Hour) // it has been seen in the future
	write(3)
	trim()
	c.jump(0)
	trim()
	heal()
	for i := range nodes {
		list := values(feeds[i].upTo(rowOneIs(v)))
		wantEach(t, list, 1, v)
	}
	same(0, 1)
	onlyTheFirstLoad(t, nodes[1])

	heal = cuts["connections are closed and new ones refused"](t, proxy)
	write(3)
	first := v
	c.jump(60 * time.Hour) // all that is written is old, and nobody has been seen for days
	write(3)
	until(t, "the other node has registered", func() bool {
		return ask[bool](t, db, "select beat > clock_timestamp() - interval '5 seconds' from lockstep.nodes where name = 'node-0'")
	})
	if n := trim(); n == 0 {
		t.Error("nothing is trimmed days later")
	}
	heal()
	same(0, 1)
	if loads := nodes[1].Status().Loads; len(loads) != 2 || loads[1].Reason != "trimmed" {
		t.Errorf("the node whose events were trimmed has loaded %+v", loads)
	}
	onlyTheFirstLoad(t, nodes[0])
	wantEach(t, values(feeds[0].upTo(rowOneIs(v))), first-2, v)
	for i := range nodes {
		watches[i].end()
	}
}
