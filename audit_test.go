package lockstep_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/logbuf"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// until waits for what a node comes to say of itself.
func until(t *testing.T, node *lockstep.Node, what string, yes func(lockstep.Status) bool) lockstep.Status {
	t.Helper()
	ctx := deadline(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if s := node.Status(); yes(s) {
			return s
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: still not; the audit: %+v", what, node.Status().Audit)
		case <-tick.C:
		}
	}
}

// sweeps waits until the audit has begun and ended two sweeps from now on: one may be under way.
func sweeps(t *testing.T, node *lockstep.Node) lockstep.AuditStatus {
	t.Helper()
	n := node.Status().Audit.Sweeps
	return until(t, node, "two more sweeps", func(s lockstep.Status) bool { return s.Audit.Sweeps >= n+2 }).Audit
}

// found is what the audit has found, each once, in a fixed order.
func found(a lockstep.AuditStatus) []string {
	all := map[string]bool{}
	for _, d := range a.Found {
		all[fmt.Sprintf("%s %s %s", d.Table, d.Key, d.Wrong)] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// auditing is quiet with an audit, which writes what it finds into the log.
func auditing(log *logbuf.Buffer) lockstep.Config {
	cfg := quiet
	cfg.Audit = 1_000_000
	cfg.Logger = slog.New(slog.NewJSONHandler(log, nil))
	return cfg
}

type pairKey struct {
	A string
	B int
}

type pairRow struct {
	A string
	B int
	V *float64
}

func (p pairRow) key() pairKey { return pairKey{p.A, p.B} }

const auditedSQL = `create table things (id int primary key, name text);
	create table pairs (a text collate "und-x-icu", b int, v float8, primary key (a, b));
	create table docs (k text, at timestamptz, j json, primary key (k, at));
	insert into things select i, 'thing ' || i from generate_series(1, 1700) i;
	insert into pairs select chr(64 + i % 60), i, case i % 3 when 0 then 'NaN'::float8 when 1 then i end from generate_series(1, 1200) i;
	insert into docs select 'k"' || i, timestamptz '2024-02-29 12:00Z' + i * interval '1 us', '{"a":  1}' from generate_series(1, 1001) i`

func TestTheAuditNamesEveryRowThatIsWrong(t *testing.T) {
	db := database(t, auditedSQL, "public.things", "public.pairs", "public.docs")
	type thing struct {
		ID   int
		Name *string
	}
	things := lockstep.NewTable("public.things", func(x thing) int { return x.ID })
	pairs := lockstep.NewTable("public.pairs", pairRow.key)
	docs := lockstep.Documents("public.docs")
	var log logbuf.Buffer
	node := startWith(t, db.Pool(t), auditing(&log), things, pairs, docs)

	first := sweeps(t, node)
	if first.Wrong != nil || first.Found != nil || first.LastError != nil {
		t.Fatalf("nothing is wrong, and yet %+v", first)
	}
	if first.Rows < 3901 || first.Keys < 3901 {
		t.Fatalf("a sweep is to compare 3901 rows both ways: %+v", first)
	}

	silently(t, db, `update things set name = null where id = 1234; delete from things where id = 501; insert into things values (5000, 'new');
		update pairs set v = 'infinity' where b = 700; delete from pairs where b = 3;
		update docs set j = '{"a": 2}' where k = 'k"1001'; delete from docs where k = 'k"500'`)
	want := []string{
		`public.docs ["k\"1001","2024-02-29T12:00:00.001001+00:00"] different`,
		`public.docs ["k\"500","2024-02-29T12:00:00.0005+00:00"] extra`,
		`public.pairs {C 3} extra`,
		`public.pairs {h 700} different`,
		`public.things 1234 different`,
		`public.things 5000 missing`,
		`public.things 501 extra`,
	}
	got := sweeps(t, node)
	if list := found(got); !slices.Equal(list, want) {
		t.Errorf("found are\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
	for _, d := range got.Found {
		if d.Position.IsZero() || d.Snapshot.IsZero() || d.At.IsZero() {
			t.Errorf("the difference does not say when it was: %+v", d)
		}
	}
	if text := log.String(); !strings.Contains(text, `"key":"5000","wrong":"missing"`) {
		t.Errorf("the log does not name the row:\n%s", text)
	}
	if text, err := json.Marshal(node.Status()); err != nil || !strings.Contains(string(text), `"key":"5000","wrong":"missing"`) {
		t.Errorf("the status does not name the row: %s, %v", text, err)
	}

	if err := node.Reload(deadline(t)); err != nil {
		t.Fatal(err)
	}
	sweeps(t, node) // one may have begun before
	before := node.Status().Audit.Wrong
	if after := sweeps(t, node); !maps.Equal(before, after.Wrong) || after.LastError != nil {
		t.Errorf("the tables were loaded again, and yet %v became %v (%v)", before, after.Wrong, after.LastError)
	}
}

// Writers change, move and delete rows all the time. Each range is compared at
// one instant, so none of it is ever reported.
func TestTheAuditNeverTakesAChangeForAWrongRow(t *testing.T) {
	db := database(t, "create table docs (k int primary key, v int); insert into docs select i, 0 from generate_series(1, 1500) i", "public.docs")
	docs := lockstep.Documents("public.docs")
	var log logbuf.Buffer
	node := startWith(t, db.Pool(t), auditing(&log), docs)
	ctx, stop := context.WithCancel(deadline(t))
	var wg sync.WaitGroup
	for i := range 3 {
		conn := db.Conn(t)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				at := rand.IntN(1500)
				_, err := conn.Exec(ctx, fmt.Sprintf(`update docs set v = v + 1 where k between %d and %d; delete from docs where k %% 97 = %d and k > %d;
					insert into docs select k, %d from generate_series(%d, %d) k on conflict do nothing`, at, at+20, n%97, at, n, at, at+300))
				var pgErr *pgconn.PgError
				if err != nil && ctx.Err() == nil && (!errors.As(err, &pgErr) || pgErr.Code != "40P01") {
					t.Errorf("writer %d: %v", i, err)
					return
				}
			}
		})
	}
	var a lockstep.AuditStatus
	for n := 0; n < 10 || node.Status().Events < 100; n++ { // writers wait for each other's deadlocks
		a = sweeps(t, node)
	}
	s := node.Status()
	stop()
	wg.Wait()
	t.Logf("%d rows and %d keys compared in %d sweeps, %d events applied meanwhile", a.Rows, a.Keys, a.Sweeps, s.Events)
	if s.Audit.Wrong != nil || s.Audit.LastError != nil {
		t.Errorf("nothing is wrong, and yet %+v", s.Audit)
	}
	if s.Failures > 0 || s.Resyncs > 0 || s.Events < 100 {
		t.Errorf("the node: %d failures (%v), %d resyncs, %d events", s.Failures, s.LastError, s.Resyncs, s.Events)
	}
}

func TestTheAuditSaysWhatItCannotCompareAndGoesOn(t *testing.T) {
	db := database(t, `create table coins (id int primary key, euros float8 not null, extra text); insert into coins values (1, 0.5);
		create table things (id int primary key); insert into things values (1)`, "public.coins", "public.things")
	tab := coins()
	var log logbuf.Buffer
	node := startWith(t, db.Pool(t), auditing(&log), tab, byID("public.things"))
	silently(t, db, "insert into things values (2)")
	a := sweeps(t, node)
	if a.LastError == nil || !strings.Contains(a.LastError.Error(), "public.coins") || !strings.Contains(a.LastError.Error(), "WithEncode") || a.Failures == 0 {
		t.Errorf("a table without an inverse: %+v", a)
	}
	if got := found(a); !slices.Equal(got, []string{"public.things 2 missing"}) {
		t.Errorf("of the other table: %q", got)
	}
	if n := strings.Count(log.String(), "cannot be compared"); n != 2 { // the message, and the error in it
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

func TestANegativeAuditIsAMistake(t *testing.T) {
	db := database(t, "create table things (id int primary key)", "public.things")
	cfg := quiet
	cfg.Audit = -1
	_, err := lockstep.Start(deadline(t), db.Pool(t), cfg, byID("public.things"))
	if err == nil || !strings.Contains(err.Error(), "Config.Audit is -1") {
		t.Errorf("got %v", err)
	}
}

// Whoever shares a cut reads in Postgres what the view has, whatever is written meanwhile.
func TestASharedCutIsOneInstantOfBoth(t *testing.T) {
	db := database(t, "create table things (id int primary key)", "public.things")
	tab := byID("public.things")
	node := start(t, db.Pool(t), tab)
	reader, writer := db.Conn(t), db.Conn(t)
	for i := range 50 {
		ctx := deadline(t)
		done := make(chan error, 1)
		go func() {
			_, err := writer.Exec(ctx, fmt.Sprintf("insert into things select generate_series(%d, %d)", 10*i, 10*i+9))
			done <- err
		}()
		cut, err := node.ShareCut(ctx, tab)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil { // by now there is more than the cut shows, or it shows it
			t.Fatal(err)
		}
		if n, want := countIn(t, reader, cut.Name), tab.At(cut.View).Len(); n != want {
			t.Errorf("the view has %d rows, the snapshot %d", want, n)
		}
		cut.Close()
	}
	pgtest.Until(t, 10*time.Second, "no transaction is left open", func() bool { // who has closed a connection does not wait for its backend
		return one[int](t, db, "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'") == 0
	})
	other := byID("public.things")
	if _, err := node.ShareCut(deadline(t), other); err == nil || !strings.Contains(err.Error(), "not kept by this node") {
		t.Errorf("a table of nobody's: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := node.ShareCut(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: %v", err)
	}
	if err := node.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := node.ShareCut(deadline(t), tab); !errors.Is(err, lockstep.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func countIn(t *testing.T, conn *pgx.Conn, snapshot string) (n int) {
	t.Helper()
	tx, err := conn.BeginTx(deadline(t), pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }() // it only reads
	if _, err := tx.Exec(t.Context(), "set transaction snapshot '"+snapshot+"'"); err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRow(t.Context(), "select count(*) from things").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
