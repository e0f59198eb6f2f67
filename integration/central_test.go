package integration

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
	"github.com/pglockstep/lockstep/triggers"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the randomized tests; 0: a fixed one and a fresh one")
	longFlag = flag.Duration("long", 0, "how long a run of the central test may take at the most (0: 8 minutes), and how long TestRobustness makes random runs (0: its short form)")
	cutsFlag = flag.Int("cuts", 500, "cuts that each run of the central test compares at least")
)

//go:embed central_schema.sql
var centralSchema string

var centralTables = []string{
	"public.plain", "public.odd", "public.parent", "public.child", "public.pa", "public.pb",
	"public.pair", "public.tree", "public.part", `public."Trig Ö"`,
}

// The design's own proof. While writers do their worst, a node follows; every
// cut that it publishes is compared, whole tables, with what the tables hold in
// the very snapshot that the cut was fetched in.
func TestEveryCutIsAStateTheDatabaseWasIn(t *testing.T) {
	for _, run := range []struct {
		name string
		bell triggers.Bell
		seed uint64
	}{
		{"bell", triggers.BellNotify, 1},
		{"two-phase commit", triggers.BellOff, rand.Uint64()},
	} {
		t.Run(run.name, func(t *testing.T) {
			t.Parallel() // one of them polls, and leaves the other the processors meanwhile
			seed := run.seed
			if *seedFlag != 0 {
				seed = *seedFlag
			}
			c := newCentral(t, run.bell, seed)
			c.hammer(t, *cutsFlag)
			c.say(t)
		})
	}
}

// central is one run: a database, writers, and a node that is checked at every cut.
type central struct {
	db     *pgtest.DB
	seed   uint64
	engine *replay.Engine
	check  *checkedSource
	store  *cache.Store
	tables []*cache.Table[string, string]
	keys   []*docKey
	wrote  []*writer
}

func newCentral(t *testing.T, bell triggers.Bell, seed uint64) *central {
	t.Helper()
	c := &central{db: pgtest.New(t), seed: seed}
	c.db.Exec(t, centralSchema)
	pool := c.db.Pool(t)
	if err := triggers.Install(t.Context(), pool, triggers.Options{Bell: bell}, centralTables...); err != nil {
		t.Fatal(err)
	}
	cfg := outbox.Config{Pool: pool}
	var bindings []replay.Table
	var caches []cache.AnyTable
	for _, name := range centralTables {
		key := &docKey{}
		c.keys = append(c.keys, key)
		cfg.Tables = append(cfg.Tables, outbox.TableSpec{Name: name, Document: true, Columns: key.columns})
		table := cache.NewTable[string, string](name)
		c.tables = append(c.tables, table)
		caches = append(caches, table)
		bindings = append(bindings, &replay.Binding[string, string]{
			Table: table, Key: key.of, Equal: func(a, b string) bool { return a == b },
			Row: func(row pgx.CollectableRow, into *string) error {
				*into = string(row.RawValues()[0])
				return nil
			},
		})
	}
	src, err := outbox.NewSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c.store, err = cache.NewStore(cache.Options{}, caches...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.store.Close)
	c.check = &checkedSource{src: src, c: c, conn: c.db.Conn(t), pace: make(chan struct{}, 8)}
	if _, err := c.check.conn.Exec(t.Context(), "set timezone = 'UTC'; set search_path = 'pg_catalog'; set extra_float_digits = 1"); err != nil {
		t.Fatal(err)
	}
	if c.engine, err = replay.New(c.store, c.check, bindings, replay.Config{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// docKey finds the key in a document.
type docKey struct{ names []string }

func (d *docKey) columns(have []outbox.ColumnInfo) ([]string, error) {
	d.names = d.names[:0]
	var all []string
	for _, c := range have {
		all = append(all, c.Name)
		if c.KeyPlace > 0 {
			d.names = append(d.names, c.Name)
		}
	}
	return all, nil
}

func (d *docKey) of(doc string) string {
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(doc), &members); err != nil {
		return "unreadable: " + doc
	}
	key := ""
	for _, n := range d.names {
		key += string(members[n]) + ","
	}
	return key
}

// hammer lets the writers write until enough cuts have been compared.
func (c *central) hammer(t *testing.T, cuts int) {
	t.Helper()
	if err := c.engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	ctx, stop := context.WithTimeout(t.Context(), cmp.Or(*longFlag, 8*time.Minute))
	defer stop()
	c.check.enough, c.check.stop = cuts, stop
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for i := range 10 {
		w := &writer{
			conn: c.db.Conn(t), name: fmt.Sprintf("w%d", i), version: c.db.Server().Version(),
			rng: rand.New(rand.NewPCG(c.seed, uint64(i))), prepared: c.check.bell() == "poll", idles: i == 0, pace: c.check.pace,
		}
		c.wrote = append(c.wrote, w)
		wg.Go(func() {
			if err := w.run(ctx); err != nil {
				errs <- err
				stop()
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	// What is there when all is quiet is checked as well.
	for range 2 {
		if err := c.engine.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// say prints what was compared, and fails where that was wrong or proves nothing.
func (c *central) say(t *testing.T) {
	t.Helper()
	k := c.check
	k.mu.Lock()
	defer k.mu.Unlock()
	commits, failed := 0, 0
	for _, w := range c.wrote {
		commits, failed = commits+w.commits, failed+w.failed
	}
	s := c.engine.Status()
	t.Logf("seed %d, PostgreSQL %d: %d cuts compared, %d wrong; %d events in %d commits (%d transactions refused); %d events arrived below an applied seq",
		c.seed, c.db.Server().Version(), k.compared, k.wrong, s.Events, commits, failed, s.OutOfOrder)
	t.Logf("gaps %+v; rereads %d, reloads of a table %d; fetches unchecked since a table was locked %d, tables since the node said so %d; operations %v", s.Gaps, s.Rereads, s.Reloads, k.locked, k.broken, k.ops)
	if k.wrong > 0 {
		t.Errorf("%d wrong cuts, such as\n%s", k.wrong, k.example)
	}
	if s.OutOfOrder == 0 {
		t.Error("no event arrived below an applied seq: this run proves nothing about order")
	}
	if k.compared < k.enough {
		t.Errorf("%d cuts were compared, want %d", k.compared, k.enough)
	}
	if s.Resyncs > 0 || s.Failures > 0 {
		t.Errorf("%d resyncs, %d failures (last: %v)", s.Resyncs, s.Failures, s.LastError)
	}
}

// checkedSource follows the real outbox, and in most fetches reads every table
// besides, in the same snapshot.
type checkedSource struct {
	src *outbox.Source
	c   *central

	mu       sync.Mutex
	session  *outbox.Session
	seen     []map[string]string // tables in the snapshot of the last fetch, nil: not read
	before   uint64              // fetches that the engine had completed before that one
	snapshot outbox.Position     // of it
	events   int
	compared int
	wrong    int
	pace     chan struct{} // what the writers may do until the next fetch
	locked   int
	broken   int
	conn     *pgx.Conn // of the checker
	ops      map[outbox.Op]int
	example  string
	enough   int
	stop     func()
}

func (k *checkedSource) Open(ctx context.Context) (replay.Session, error) {
	s, err := k.src.Open(ctx)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.session, k.ops = s, map[outbox.Op]int{}
	return &checkedSession{Session: s, k: k}, nil
}

func (k *checkedSource) bell() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.session.Bell()
}

type checkedSession struct {
	*outbox.Session
	k *checkedSource
}

// Fetch compares what the engine has made of the fetch before, then reads the
// tables and fetches in one exported snapshot.
func (s *checkedSession) Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	k := s.k
	k.mu.Lock()
	defer k.mu.Unlock()
	k.compare()
	k.letWrite()
	if len(req.Reload)+len(req.Reread) > 0 {
		// It locks tables itself, and would wait for a TRUNCATE that waits for us.
		return s.Session.Fetch(ctx, req, sink)
	}
	tx, snapshot, err := k.export(ctx)
	if err != nil {
		return err
	}
	if tx == nil { // a TRUNCATE holds a table: this fetch goes unchecked
		k.locked++
		return s.Session.Fetch(ctx, req, sink)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it only reads
	rows, err := k.read(ctx, tx)
	if err != nil {
		return err
	}
	req.Snapshot = snapshot
	k.before = k.c.engine.Status().Fetches
	side := &sideSink{Sink: sink, k: k}
	if err := s.Session.Fetch(ctx, req, side); err != nil {
		return err
	}
	k.seen, k.events, k.snapshot = rows, side.events, side.snapshot
	return nil
}

// letWrite lets the writers go on by a few transactions: small cuts are many
// cuts, and on two cores writers at full speed would leave none for the node.
func (k *checkedSource) letWrite() {
	for range 2 {
		select {
		case k.pace <- struct{}{}:
		default:
			return
		}
	}
}

// export locks all tables, then exports a snapshot; no transaction where a
// lock is not to be had quickly.
func (k *checkedSource) export(ctx context.Context) (pgx.Tx, string, error) {
	tx, err := k.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, "", err
	}
	_, err = k.conn.PgConn().Exec(ctx, "set local lock_timeout = '100ms'; lock table "+strings.Join(centralTables, ", ")+" in access share mode").ReadAll()
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == "55P03" || pgErr.Code == "40P01") { // or it was chosen to end a deadlock with writers
		return nil, "", tx.Rollback(ctx)
	}
	var name string
	if err == nil {
		err = tx.QueryRow(ctx, "select pg_export_snapshot()").Scan(&name)
	}
	if err != nil { // the next fetch begins another one
		return nil, "", errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	return tx, name, nil
}

// read is every table as documents, by key.
func (k *checkedSource) read(ctx context.Context, tx pgx.Tx) ([]map[string]string, error) {
	tables := make([]map[string]string, len(centralTables))
	selects := make([]string, len(centralTables))
	for i, name := range centralTables {
		tables[i] = map[string]string{}
		selects[i] = fmt.Sprintf("select %d, row_to_json(t.*)::text from %s t", i, name)
	}
	rows, err := tx.Query(ctx, strings.Join(selects, " union all "))
	if err != nil {
		return nil, err
	}
	var i int
	var doc string
	_, err = pgx.ForEachRow(rows, []any{&i, &doc}, func() error {
		tables[i][k.c.keys[i].of(doc)] = doc
		return nil
	})
	return tables, err
}

// compare holds the cache against the tables, as both were after the last
// fetch. The engine is about to fetch again, so it has published.
func (k *checkedSource) compare() {
	if k.seen == nil {
		return
	}
	seen := k.seen
	k.seen = nil
	if k.c.engine.Status().Fetches == k.before {
		return // the engine asks again, with a table to be loaded: it took nothing of that fetch
	}
	for i, rows := range seen {
		if problem := k.c.engine.Status().Tables[i].Problem; problem != nil {
			k.broken++ // the engine says so, and does not call it live
			continue
		}
		have := maps.Collect(k.c.tables[i].All())
		if !maps.Equal(have, rows) {
			k.wrong++
			if k.example == "" {
				k.example = k.c.explain(i, k.snapshot, have, rows)
			}
		}
	}
	if k.events > 0 {
		k.compared++
	}
	if k.enough > 0 && (k.compared >= k.enough || k.wrong > 0) {
		k.stop()
	}
}

// explain tells the first rows that differ, with their events in the log.
func (c *central) explain(table int, snap outbox.Position, node, database map[string]string) string {
	keys := maps.Clone(node)
	maps.Copy(keys, database)
	for key := range keys {
		if node[key] == database[key] {
			continue
		}
		text := fmt.Sprintf("table %s in %v\n  node      %s\n  database  %s", centralTables[table], snap, node[key], database[key])
		conn, err := pgx.Connect(context.Background(), c.db.DSN())
		if err != nil {
			return text
		}
		defer func() { _ = conn.Close(context.Background()) }()
		rows, _ := conn.Query(context.Background(), "select seq, xid, op::text, coalesce(row::text, ''), at from lockstep.outbox where table_name = $1 order by seq", centralTables[table])
		var seq int64
		var xid uint64
		var op, row string
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&seq, &xid, &op, &row, &at}, func() error {
			if row == "" || c.keys[table].of(row) == key {
				text += fmt.Sprintf("\n  %s seq %d xid %d (in the cut: %v) %s %s", at.Format("05.000000"), seq, xid, snap.Covers(xid), op, row)
			}
			return nil
		})
		return fmt.Sprintf("%s\n%v", text, err)
	}
	return "nothing differs any more"
}

// sideSink notes what goes by.
type sideSink struct {
	outbox.Sink
	k      *checkedSource
	events int

	snapshot outbox.Position
}

func (s *sideSink) Begin(h *outbox.Header) error {
	s.snapshot = h.Snapshot
	return s.Sink.Begin(h)
}

func (s *sideSink) Event(table int, ev *outbox.Event, row pgx.CollectableRow) error {
	s.events++
	s.k.ops[ev.Op]++
	return s.Sink.Event(table, ev, row)
}
