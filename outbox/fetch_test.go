package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

func TestFetchBringsWhatThePositionDoesNotCoverAndNothingElse(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "insert into a values (1, 'before')")
	s := r.open(t)
	pos, rec := r.load(t, s)
	wantCalls(t, rec, "0 load 1=before")

	early := r.begin(t)
	must(t, early, "insert into a values (2, 'early')")
	r.Exec(t, "update a set v = 'now' where id = 1; insert into b values (1, 'b')")
	wantCalls(t, follow(t, s, &pos), "0 update 1=now", "1 insert 1=b")
	wantCalls(t, follow(t, s, &pos))

	// A transaction with a lower id and lower numbers that ends later.
	commit(t, early)
	wantCalls(t, follow(t, s, &pos), "0 insert 2=early")

	gone := r.begin(t)
	must(t, gone, "delete from a")
	if err := gone.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec = follow(t, s, &pos)
	wantCalls(t, rec)
	if last := rec.header.LastSeq; last != 6 {
		t.Errorf("the highest number handed out is %d, want 6: the rolled back numbers count", last)
	}
}

func TestReaderBySeqLosesWhatCommitsLate(t *testing.T) {
	r := newRig(t)
	early := r.begin(t)
	must(t, early, "insert into a values (1, 'early')")
	r.Exec(t, "insert into a values (2, 'late')")
	bySeq := func(above int64) (seqs []int64) {
		rows, err := r.pool.Query(t.Context(), "select seq from lockstep.outbox where seq > $1 order by seq", above)
		if err == nil {
			seqs, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		if err != nil {
			t.Fatal(err)
		}
		return seqs
	}
	first := bySeq(0)
	commit(t, early)
	second := bySeq(first[len(first)-1])
	if len(first)+len(second) == 2 {
		t.Errorf("a reader by seq > last got %v and %v: this test no longer shows why a position is a snapshot", first, second)
	}
}

func TestLoadTakesItsSnapshotAfterItsLocks(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "insert into a values (1, 'old')")
	s := r.open(t)
	tx := r.begin(t)
	must(t, tx, "truncate a; insert into a values (2, 'new')")

	done := make(chan error, 1)
	var rec recorder
	go func() { done <- s.Fetch(context.Background(), outbox.Request{Reload: []int{0, 1}}, &rec) }()
	r.awaitLockWait(t)
	commit(t, tx)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantCalls(t, &rec, "0 load 2=new")
}

// awaitLockWait returns when a load waits for a lock.
func (r *rig) awaitLockWait(t *testing.T) {
	t.Helper()
	for {
		var waits bool
		err := r.pool.QueryRow(t.Context(), "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like 'lock table%')").Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		if waits {
			return
		}
	}
}

func TestLoadNamesTheTableWhoseLockIsNotToBeHadAndLoadsTheOthers(t *testing.T) {
	r := newRig(t, func(c *outbox.Config) { c.LockTimeout = 1 })
	r.Exec(t, "insert into b values (1, 'b')")
	s := r.open(t)
	tx := r.begin(t)
	must(t, tx, "lock table a in access exclusive mode")
	_, rec := r.load(t, s)
	wantCalls(t, rec, "1 load 1=b")
	if err := rec.problems[0]; !errors.Is(err, outbox.ErrTable) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("the problem of the locked table: %v", err)
	}
}

func TestLoadSaysOfEachTableWhyItCannotBeFollowed(t *testing.T) {
	r := newRig(t, func(c *outbox.Config) {
		c.Tables = []outbox.TableSpec{
			{Name: "public.a"}, {Name: "public.gone"}, {Name: "public.plain"}, {Name: "no good name"},
			{Name: "public.b", Columns: func([]outbox.ColumnInfo) ([]string, error) { return []string{"v"}, nil }},
			{Name: "public.b", Columns: func([]outbox.ColumnInfo) ([]string, error) { return []string{"id", "w"}, nil }},
		}
	})
	r.Exec(t, "create table plain (id int primary key); insert into a values (1, 'a')")
	s := r.open(t)
	rec := fetch(t, s, outbox.Request{Reload: []int{0, 1, 2, 3, 4, 5}})
	wantCalls(t, rec, "0 load 1=a")
	for i, want := range map[int]string{
		1: "public.gone: it is not there", 2: "public.plain: its changes are not captured", 3: "no good name: it", // "its name cannot be read"; from 16 on "it is not there"
		4: "column id is part of its primary key", 5: "no column w",
	} {
		if err := rec.problems[i]; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("table %d: %v, want %q", i, err, want)
		}
	}
}

// A row that the sink cannot read ends its table's rows and nothing else.
func TestATableWhoseRowsDoNotFitHoldsUpNoOther(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "insert into a values (1, 'x'), (2, 'y'); insert into b values (1, 'z')")
	s := r.open(t)
	r.load(t, s)
	r.Exec(t, "alter table a alter id type text using 'one' || id")
	got := fetch(t, s, outbox.Request{Reload: []int{0, 1}}).calls
	if len(got) != 2 || !strings.HasPrefix(got[0], "0 load error: ") || got[1] != "1 load 1=z" {
		t.Errorf("%q", got)
	}
	if got := fetch(t, s, outbox.Request{Reload: []int{1}}).calls; !slices.Equal(got, []string{"1 load 1=z"}) {
		t.Errorf("the fetch after it: %q", got)
	}
}

func TestRereadBringsTheRowsThatEventsNameByKey(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	pos, _ := r.load(t, s)
	big := "string_agg(md5(i::text), '') from generate_series(1, 20000) i"
	r.Exec(t, "alter table a alter v set storage external")
	r.Exec(t, "insert into a select 1, "+big)
	r.Exec(t, "insert into a select 2, "+big)
	r.Exec(t, "update a set v = 'small' where id = 1")
	r.Exec(t, "delete from a where id = 2")
	rec := fetch(t, s, outbox.Request{From: pos, Reread: []int{0}})
	var rereads []string
	for _, c := range rec.calls {
		if strings.Contains(c, "reread") {
			rereads = append(rereads, c)
		}
	}
	want := []string{"0 reread 1=-: 1=small", "0 reread 2=-: nil"}
	if strings.Join(rereads, ";") != strings.Join(want, ";") {
		t.Errorf("reread %q, want %q", rereads, want)
	}
}

// A session that knows its tables as plain asks for less. What it tells is what a session says that knows nothing,
// whatever becomes of a table.
func TestFingerprintsOfPlainTablesAreThoseOfAnyTable(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "create type mood as enum ('good', 'bad')")
	s := r.open(t)
	pos, _ := r.load(t, s)
	prints := func(s *outbox.Session) []string {
		return fetch(t, s, outbox.Request{From: pos, Catalogue: true, Relations: s.Relations()}).header.Fingerprints
	}
	asked := s.Relations()
	was := strings.Join(prints(s), " ")
	for _, step := range []struct {
		ddl   string
		plain bool // all are, after it
	}{
		{"", true}, {"alter table a add w int default 7", true},
		{"create table child () inherits (a)", false}, {"alter table child alter v set default 'x'", false}, {"drop table child", true}, {"", true},
		{"alter table b add mood mood", false}, {"alter type mood rename value 'bad' to 'worse'", false}, {"alter table b drop mood", true},
		{"drop table b cascade", true}, {"", true},
	} {
		if step.ddl != "" {
			r.Exec(t, step.ddl)
		}
		knowing := strings.Join(prints(s), " ")
		whole := strings.Join(fetch(t, r.open(t), outbox.Request{From: pos, Catalogue: true, Relations: asked}).header.Fingerprints, " ")
		if knowing != whole {
			t.Errorf("%q: a session that knows the tables says %q, another one %q", step.ddl, knowing, whole)
		}
		if (knowing == was) != (step.ddl == "") {
			t.Errorf("%q: the fingerprints went from %q to %q", step.ddl, was, knowing)
		}
		short, err := outbox.ShortFingerprints(t.Context(), s, asked)
		if err != nil || (strings.Join(short, " ") == whole) != step.plain {
			t.Errorf("%q: the short fingerprints are %q, the whole ones %q, %v", step.ddl, short, whole, err)
		}
		if got := outbox.KnowsAsPlain(s, asked); got != step.plain {
			t.Errorf("%q: the session takes the tables for plain: %v", step.ddl, got)
		}
		was = knowing
	}
}

func TestReloadIsReadInTheSnapshotOfTheEvents(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	pos, _ := r.load(t, s)
	r.Exec(t, "insert into a values (1, 'a'); insert into b values (1, 'b')")
	rec := fetch(t, s, outbox.Request{From: pos, Reload: []int{1}})
	wantCalls(t, rec, "0 insert 1=a", "1 insert 1=b", "1 load 1=b")
	if len(rec.header.Fingerprints) != 2 || rec.header.Fingerprints[1] == "" {
		t.Errorf("a reload brought the fingerprints %q", rec.header.Fingerprints)
	}
}

func TestFingerprintChangesWithTheCatalogueOnly(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "create type mood as enum ('good', 'bad'); alter table b add mood mood")
	s := r.open(t)
	pos, _ := r.load(t, s)
	prints := func() []string { return fetch(t, s, outbox.Request{From: pos, Catalogue: true}).header.Fingerprints }
	was := prints()
	r.Exec(t, "insert into a values (1, 'a'); analyze a")
	r.Exec(t, "vacuum b")
	if now := prints(); strings.Join(now, " ") != strings.Join(was, " ") {
		t.Errorf("data changed the fingerprints from %q to %q", was, now)
	}
	for _, ddl := range []string{
		"alter table b add w int default 7", "alter table b alter w type text using w || 'x'", "alter table b rename w to x", "alter table b drop x",
		"alter type mood rename value 'bad' to 'worse'", "alter table b disable trigger lockstep_insert; alter table b enable always trigger lockstep_insert",
		"create table child () inherits (b)", "alter table b drop constraint b_pkey; alter table b add primary key (id) deferrable",
	} {
		r.Exec(t, ddl)
		now := prints()
		if now[1] == was[1] || now[0] != was[0] {
			t.Errorf("%s: the fingerprints went from %q to %q", ddl, was, now)
		}
		was = now
	}
	r.Exec(t, "drop table b cascade")
	if now := prints(); now[1] != "" {
		t.Errorf("a table that is gone has the fingerprint %q", now[1])
	}
}

func TestMissingNamesWhatTheOutboxDoesNotHold(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	r.Exec(t, "insert into a values (1, 'a')")
	_, rec := r.load(t, s)
	have := rec.header.Newest[0]
	other := have
	other.At = other.At.Add(1000)
	missing, err := s.Missing(t.Context(), []outbox.Anchor{have, {Xid: have.Xid, Seq: have.Seq + 1, At: have.At}, other})
	if err != nil || len(missing) != 2 || missing[0].Seq != have.Seq+1 || missing[1] != other {
		t.Errorf("missing %v, %v", missing, err)
	}
}

func TestALoadSaysWhetherItNamesAllTransactionsOfTheOutbox(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	r.Exec(t, "insert into a values (1, 'a')")
	if _, rec := r.load(t, s); rec.header.Older || len(rec.header.Newest) != 1 {
		t.Errorf("of one transaction it named %d, others: %v", len(rec.header.Newest), rec.header.Older)
	}
	r.Exec(t, "do $$ begin for i in 2..5000 loop insert into a values (i, 'a'); end loop; end $$")
	if _, rec := r.load(t, s); !rec.header.Older || len(rec.header.Newest) != 1 {
		t.Errorf("of two transactions it named %d, others: %v", len(rec.header.Newest), rec.header.Older)
	}
	r.Exec(t, "do $$ begin for i in 1..1001 loop update a set v = 'b' where id = 1; commit; end loop; end $$")
	if _, rec := r.load(t, s); !rec.header.Older || len(rec.header.Newest) != 1000 {
		t.Errorf("of 1003 transactions it named %d, others: %v", len(rec.header.Newest), rec.header.Older)
	}
}

func TestDrawnTransactionIsNotCoveredByTheSnapshot(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	pos, _ := r.load(t, s)
	h := fetch(t, s, outbox.Request{From: pos, DrawXid: true}).header
	if h.Drawn == 0 || h.Snapshot.Covers(h.Drawn) {
		t.Errorf("drew %d in %v", h.Drawn, h.Snapshot)
	}
	if next := fetch(t, s, outbox.Request{From: pos}).header; next.Snapshot.Xmin() <= h.Drawn {
		t.Errorf("xmin is %d, and transaction %d is over", next.Snapshot.Xmin(), h.Drawn)
	}
}

func TestErrorOfTheSinkEndsTheFetchAndComesBack(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	pos, _ := r.load(t, s)
	r.Exec(t, "insert into a select i, 'x' from generate_series(1, 100) i")
	rec := recorder{fail: errSink}
	if err := s.Fetch(t.Context(), outbox.Request{From: pos}, &rec); !errors.Is(err, errSink) {
		t.Errorf("the fetch ended with %v", err)
	}
	if len(rec.events) != 1 {
		t.Errorf("%d events after the first was refused", len(rec.events))
	}
	if err := s.Fetch(canceled(t), outbox.Request{From: pos}, &recorder{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a fetch without time ended with %v", err)
	}
}

func TestForeignTablesAndNonsenseRowsAreHandedOnUndecoded(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	pos, _ := r.load(t, s)
	r.Exec(t, `insert into lockstep.outbox (table_name, op, lead, row) values
		('public.other', 'I', true, '{"id":1}'), ('public.a', 'Z', false, '[]'), ('public.a', 'I', false, '{"id":"x"}'), ('public.a', 'U', false, null)`)
	rec := follow(t, s, &pos)
	if len(rec.calls) != 4 || rec.calls[0] != "-1 insert nil" || !strings.Contains(rec.calls[1], "error") ||
		!strings.Contains(rec.calls[2], "id") || rec.calls[3] != "0 update nil" {
		t.Errorf("nonsense came as %q", rec.calls)
	}
}

func TestAListComesAsItsChangesOneByOne(t *testing.T) {
	for name, document := range map[string]bool{"columns": false, "documents": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *outbox.Config) { c.Tables[0].Document = document })
			s := r.open(t)
			pos, _ := r.load(t, s)
			r.Exec(t, `insert into a select i, '}],"[{' || i from generate_series(1, 1500) i`)
			rec := follow(t, s, &pos)
			if len(rec.events) != 1500 {
				t.Fatalf("%d events of 1,500 rows", len(rec.events))
			}
			lists := 0
			for i, ev := range rec.events {
				if want := fmt.Sprintf(`{"id":%d,"v":"}],\"[{%[1]d"}`, i+1); string(ev.Row) != want || ev.Op != outbox.Insert {
					t.Fatalf("event %d is %s of %s, want %s", i, ev.Op, ev.Row, want)
				}
				if want := fmt.Sprintf(`0 insert %d=}],"[{%[1]d`, i+1); !document && rec.calls[i] != want {
					t.Fatalf("event %d came as %s, want %s", i, rec.calls[i], want)
				}
				switch before := rec.events[max(i-1, 0)]; {
				case i > 0 && ev.Seq == before.Seq && ev.Part == before.Part+1:
				case i > 0 && ev.Seq != before.Seq+1 || ev.Part != 0:
					t.Fatalf("event %d is number %d, %d, after %d, %d", i, ev.Seq, ev.Part, before.Seq, before.Part)
				case i > 16:
					lists++
				}
			}
			if lists < 2 {
				t.Errorf("%d lists: this shows little", lists)
			}
			r.Exec(t, `insert into lockstep.outbox (table_name, op, lead, row) values ('public.a', 'U', false, '[{"id":1,"v":"a"}, {"id":2}, {"id":3,"v":"c"}]'), ('public.unknown', 'I', false, '[{"id":1}]'),
				('public.a', 'I', false, '[]'), ('public.a', 'I', false, '[1]')`)
			rec = follow(t, s, &pos)
			want := []string{"0 update 1=a", "0 update error: outbox: the document has no column v", "0 update 3=c", "-1 insert nil", `0 insert error: at byte 1: want a document, have "]"`, `0 insert error: at byte 1: want a document, have "1]"`}
			if !document && !slices.Equal(rec.calls, want) {
				t.Errorf("came as %q", rec.calls)
			}
		})
	}
}

// countingConn counts what is sent.
type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func TestFetchIsOneRoundTrip(t *testing.T) {
	var writes atomic.Int64
	r := newRig(t, func(c *outbox.Config) { c.Bell = outbox.BellPoll })
	pool := r.Pool(t, func(c *pgxpool.Config) {
		c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return countingConn{conn, &writes}, err
		}
	})
	src, err := outbox.NewSource(outbox.Config{Pool: pool, Bell: outbox.BellPoll, Tables: []outbox.TableSpec{{Name: "public.a"}, {Name: "public.b"}}})
	if err != nil {
		t.Fatal(err)
	}
	r.src = src
	s := r.open(t)
	pos, _ := r.load(t, s)
	follow(t, s, &pos)
	r.Exec(t, "insert into a values (1, 'a')")
	was := writes.Load()
	wantCalls(t, follow(t, s, &pos), "0 insert 1=a")
	if n := writes.Load() - was; n != 1 {
		t.Errorf("a fetch sent %d times, want once", n)
	}
	fetch(t, s, outbox.Request{From: pos, DrawXid: true, Catalogue: true})
	if n := writes.Load() - was; n != 2 {
		t.Errorf("a fetch with everything sent %d times, want once", n-1)
	}
}

func TestFetchGoesThroughTheKeyWhateverTheStatisticsSay(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "insert into lockstep.outbox (table_name, op, lead, row) select 'x', 'I', false, '{}' from generate_series(1, 20000)")
	conn := r.Conn(t)
	if _, err := conn.Exec(t.Context(), "set enable_seqscan = off; set plan_cache_mode = force_custom_plan"); err != nil {
		t.Fatal(err)
	}
	for _, analyze := range []bool{false, true} {
		if analyze {
			r.Exec(t, "analyze lockstep.outbox")
		}
		rows, err := conn.Query(t.Context(), `explain select * from lockstep.outbox o where o.xid >= '900000' union all select * from lockstep.outbox o where o.xid = any ('{3,5}'::xid8[])`)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan") {
			t.Errorf("the fetch would read the whole outbox (analyzed: %v):\n%s", analyze, text)
		}
	}
}

// A session plans the statement once. Where that is in a fetch which reads tables, whose rows are read in the order in which
// they lie, every fetch after it would read the whole log: if its statistics know few transactions, each with many events.
func TestTheLogIsReadThroughItsKeyWhateverElseTheFirstFetchReads(t *testing.T) {
	for _, req := range []outbox.Request{{Reload: []int{0}}, {Reread: []int{0}}} {
		for _, flying := range []bool{false, true} { // a transaction that the position leaves out: the log is read by another statement
			r := newRig(t)
			if flying {
				must(t, r.begin(t), "insert into a values (-1, 'in flight')")
			}
			r.Exec(t, "insert into a values (-2, 'covered')")
			pos, _ := r.load(t, r.open(t))
			if flying && len(pos.Xip()) == 0 { // else there may be one in another database
				t.Fatalf("the position %v", pos)
			}
			r.Exec(t, "insert into a select i, 'x' from generate_series(1, 20000) i")
			r.Exec(t, "vacuum analyze lockstep.outbox")
			s := r.open(t)
			req.From = pos
			if got := len(fetch(t, s, req).events); got != 20000 {
				t.Fatalf("%d events", got)
			}
			plan, err := s.EventsPlans(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(plan, "Seq Scan") {
				t.Errorf("after a fetch that reloads %v and rereads %v the log is read whole:\n%s", req.Reload, req.Reread, plan)
			}
		}
	}
}

// Behind a pooler another session's settings may be in force: the fetch finds
// out, and begins its transaction by hand.
func TestFetchHasOneSnapshotWhateverTheSessionsDefaultIs(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	pos, _ := r.load(t, s)
	for i, level := range []string{"read committed", "serializable", "repeatable read"} {
		if err := s.Exec(t.Context(), "set default_transaction_isolation = '"+level+"'"); err != nil {
			t.Fatal(err)
		}
		r.Exec(t, "insert into a values ("+string(rune('1'+i))+", 'x')")
		if got := follow(t, s, &pos).calls; len(got) != 1 {
			t.Errorf("under %s a fetch brought %q", level, got)
		}
	}
}

// What the pool's AfterConnect sets is for the application; a fetch reads under
// our settings all the same.
func TestAfterConnectChangesNothingThatIsRead(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "create table c (id int primary key, v timestamptz); insert into c values (1, '2026-01-02 03:04:05+00')")
	pool := r.Pool(t, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "set timezone = 'Asia/Tokyo'; set search_path = 'public'; set default_transaction_isolation = 'serializable'; set enable_seqscan = on")
			return err
		}
	})
	if err := triggers.Install(t.Context(), r.pool, triggers.Options{Logger: slog.New(slog.DiscardHandler)}, "public.c"); err != nil {
		t.Fatal(err)
	}
	src, err := outbox.NewSource(outbox.Config{Pool: pool, Tables: []outbox.TableSpec{{Name: "public.c", Document: true}}})
	if err != nil {
		t.Fatal(err)
	}
	r.src = src
	s := r.open(t)
	var loaded, followed documents
	if err := s.Fetch(t.Context(), outbox.Request{Reload: []int{0}}, &loaded); err != nil {
		t.Fatal(err)
	}
	r.Exec(t, "update c set id = 2")
	if err := s.Fetch(t.Context(), outbox.Request{From: outbox.Position{}.Tight(loaded.header.Snapshot, loaded.header.HighestXid)}, &followed); err != nil {
		t.Fatal(err)
	}
	for _, doc := range append(loaded.docs, followed.docs...) {
		if strings.Contains(doc, `"v"`) && !strings.Contains(doc, `"2026-01-02T03:04:05+00:00"`) {
			t.Errorf("the document is %s", doc)
		}
	}
	if len(loaded.docs) != 1 || len(followed.docs) < 1 {
		t.Errorf("%d documents were loaded, %d followed", len(loaded.docs), len(followed.docs))
	}
}

func TestAKeyOfWhichAColumnIsLeftOutIsRefusedByName(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "alter table a drop constraint a_pkey, add primary key (v); update lockstep.tables set excluded = '{{v,2}}' where name = 'public.a'")
	for _, document := range []bool{false, true} {
		src, err := outbox.NewSource(outbox.Config{Pool: r.pool, Tables: []outbox.TableSpec{{Name: "public.a", Document: document}}})
		if err != nil {
			t.Fatal(err)
		}
		r.src = src
		err = fetch(t, r.open(t), outbox.Request{Reload: []int{0}}).problems[0]
		var refused *outbox.TableError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "column v, which is left out of capture, is part of its primary key") {
			t.Errorf("document %v: %v", document, err)
		}
	}
}

// documents is a sink that keeps documents.
type documents struct {
	recorder
	docs []string
}

func (d *documents) Load(_ int, row pgx.CollectableRow) error {
	d.docs = append(d.docs, string(row.RawValues()[0]))
	return nil
}

func (d *documents) Event(_ int, ev *outbox.Event, _ pgx.CollectableRow) error {
	d.docs = append(d.docs, string(ev.Row))
	return nil
}
