package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/triggers"
)

// account is the row that writers update.
type account struct {
	ID      int
	Manager int
	Balance int64
	Note    string
}

const accounts = 10_000

func accountsTable(name string, opts ...lockstep.TableOption[int, account]) *lockstep.Table[int, account] {
	return lockstep.NewTable(name, func(a account) int { return a.ID }, opts...)
}

// silentSchema is a second outbox, whose bell is off.
const silentSchema = "lockstep_silent"

// writerTables makes tables that are alike: untriggered, ours, captured without a
// bell, with the trigger that most tutorials show, which notifies at every row, and with the least trigger.
func (b *bench) writerTables(ctx context.Context) error {
	if err := b.accountTables(ctx, accounts, "fillfactor = 50", "plain", "ours", "silent", "tutorial", "least"); err != nil {
		return err
	}
	return b.captureAccounts(ctx, "ours", "silent", "tutorial", "least")
}

func (b *bench) accountTables(ctx context.Context, rows int, with string, names ...string) error {
	for _, t := range names {
		err := b.exec(ctx, fmt.Sprintf(`drop table if exists %[1]s; create table %[1]s (id int primary key, manager int not null, balance bigint not null, note text not null) with (%[3]s);
			insert into %[1]s select i, i / 10, 0, 'note of ' || i from generate_series(1, %[2]d) i`, t, rows, with), "vacuum analyze "+t)
		if err != nil {
			return err
		}
	}
	return nil
}

// captureAccounts puts triggers on tables. least gets the least that a trigger of a statement can do which writes the
// rows down as JSON: it looks at nothing, keeps no promise, and shows what of our cost is Postgres'.
func (b *bench) captureAccounts(ctx context.Context, ours, silent, tutorial, least string) error {
	err := b.exec(ctx, fmt.Sprintf(`create or replace function tell() returns trigger language plpgsql as $$
		begin perform pg_notify('tutorial', new.id || ', ' || new.manager); return null; end $$;
		create trigger tell after insert or update or delete on %s for each row execute function tell()`, tutorial))
	if err != nil {
		return err
	}
	err = b.exec(ctx, fmt.Sprintf(`create table if not exists least_log (seq bigint generated always as identity, xid xid8 not null default pg_current_xact_id(), row json not null, primary key (xid, seq));
		truncate least_log;
		create or replace function write_least() returns trigger language plpgsql as $$
		begin insert into least_log (row) select row_to_json(n) from new_rows n; return null; end $$;
		create trigger write_least after update on %[1]s referencing new table as new_rows for each statement execute function write_least();
		create trigger write_least_too after insert on %[1]s referencing new table as new_rows for each statement execute function write_least()`, least))
	if err != nil {
		return err
	}
	if err := triggers.Install(ctx, b.pool, triggers.Options{Schema: silentSchema, Bell: triggers.BellOff}, "public."+silent); err != nil {
		return err
	}
	return triggers.Install(ctx, b.pool, triggers.Options{}, "public."+ours)
}

// targets of writers, by their number: of no trigger, and of the plain NOTIFY trigger.
var writerTargets = map[int][2]*target{16: {atLeast(0.75), atLeast(2)}, 64: {atLeast(0.65), atLeast(2.5)}}

const (
	overNone   = "commits/s of updates of one random row: our triggers with one live node, and no trigger"
	overNotify = "commits/s of updates of one random row: our triggers with one live node, and a trigger that notifies for each row (\"id, manager\") with a listener"
	overInsert = "commits/s of updates of one random row: our triggers with one live node, and capture that rings nothing and that nobody reads"
	leastAlone = "a trigger that does nothing but insert row_to_json of the row into a log that nobody reads"
	leastOver  = "commits/s of updates of one random row: " + leastAlone + ", and no trigger"
)

// writes: what capture costs the writers, with one live node and one listener.
func writes(ctx context.Context, b *bench) error {
	if err := b.writerTables(ctx); err != nil {
		return err
	}
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench"}, accountsTable("public.ours"))
	if err != nil {
		return err
	}
	defer func() { _ = node.Close(ctx) }() // the process ends
	stop, err := b.listen(ctx, "tutorial", func(*pgx.Conn, string) {})
	if err != nil {
		return err
	}
	defer stop()
	load := "pgx"
	if b.pgbench() != "" {
		load = "pgbench, prepared"
	}
	return b.with("writers", load, func() error {
		for _, async := range []bool{false, true} {
			if err := b.writesWith(ctx, node, async); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) writesWith(ctx context.Context, node *lockstep.Node, async bool) error {
	tables, list, what := []string{"plain", "ours", "silent", "tutorial", "least"}, b.writers, "fsync on"
	if b.quick {
		tables = []string{"plain", "ours", "tutorial"}
	}
	commit := "on"
	if async {
		what, commit = "synchronous_commit off", "off"
		if b.quick {
			tables, list = []string{"plain", "ours"}, []int{1}
		}
	}
	return b.with("synchronous_commit", commit, func() error {
		for _, writers := range list {
			rate := map[string]series{}
			for table := range inTurns(b.rounds, tables) {
				n, err := b.hammer(ctx, table, writers, async)
				if err != nil {
					return err
				}
				rate[table] = append(rate[table], n)
			}
			b.sayRates(writers, what, async, rate)
			if err := node.Barrier(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) sayRates(writers int, what string, async bool, rate map[string]series) {
	name := fmt.Sprintf("%d writers, %s", writers, what)
	if writers == 1 {
		name = "1 writer, " + what
	}
	var t [2]*target
	if !async {
		t = writerTargets[writers]
	}
	b.ratio(name+": triggers and one live node / no trigger", overNone, rate["ours"].over(rate["plain"]), t[0])
	b.ratio(name+": triggers and one live node / plain NOTIFY trigger", overNotify, rate["ours"].over(rate["tutorial"]), t[1])
	b.ratio(name+": triggers and one live node / outbox insert alone", overInsert, rate["ours"].over(rate["silent"]), nil)
	b.ratio(name+": "+leastTrigger, leastOver, rate["least"].over(rate["plain"]), nil)
	if async && writers == 1 {
		b.ratio(name+", latency: triggers and one live node / no trigger", "the time of one commit: our triggers with one live node, and no trigger", rate["plain"].over(rate["ours"]), atMost(1.4))
		b.ratio(name+", latency: "+leastTrigger, "the time of one commit: "+leastAlone+", and no trigger", rate["plain"].over(rate["least"]), nil)
	}
	for _, t := range []struct{ table, name string }{{"plain", "no trigger"}, {"ours", "triggers and one live node"}, {"silent", "outbox insert alone"}, {"tutorial", "plain NOTIFY trigger"}, {"least", "the least trigger that writes a log"}} {
		b.value(name+": "+t.name, "commits/s", "updates of one random row of "+grouped(accounts), rate[t.table], nil)
	}
}

// pgbench is where the program is, or "".
func (b *bench) pgbench() string {
	for _, path := range append([]string{filepath.Join(b.server.Binaries().Dir, "pgbench")}, glob("/usr/lib/postgresql/*/bin/pgbench")...) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath("pgbench")
	if err != nil {
		return ""
	}
	return path
}

func glob(pattern string) []string {
	list, _ := filepath.Glob(pattern) // the pattern is well-formed
	return list
}

// hammer updates random rows one by one and returns commits per second.
func (b *bench) hammer(ctx context.Context, table string, writers int, async bool) (float64, error) {
	if path := b.pgbench(); path != "" {
		return b.hammerWith(ctx, path, table, writers, async)
	}
	var commits atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	end := began.Add(b.span)
	for range writers {
		wg.Go(func() {
			if err := b.write(ctx, table, async, end, &commits); err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(commits.Load()) / time.Since(began).Seconds(), nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+) \(without`)

// hammerWith is hammer by pgbench, which counts whole seconds: below one it counts transactions.
func (b *bench) hammerWith(ctx context.Context, path, table string, writers int, async bool) (float64, error) {
	script, err := os.CreateTemp("", "lockstep-bench-*.sql")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(script.Name()) }() // of no use to anybody
	_, err = fmt.Fprintf(script, "\\set id random(1, %d)\nupdate %s set balance = balance + 1 where id = :id;\n", accounts, table)
	if err := errors.Join(err, script.Close()); err != nil {
		return 0, err
	}
	length := []string{"-T", strconv.Itoa(int(b.span.Seconds()))}
	if b.span < 200*time.Millisecond {
		length = []string{"-t", "5"}
	} else if b.span < time.Second {
		length = []string{"-T", "1"}
	}
	args := append([]string{"-n", "-M", "prepared", "-f", script.Name(), "-c", strconv.Itoa(writers), "-j", strconv.Itoa(min(writers, 2))}, length...)
	cmd := exec.CommandContext(ctx, path, append(args, b.server.DSN("postgres"))...)
	cmd.Env = os.Environ()
	if async {
		cmd.Env = append(cmd.Env, "PGOPTIONS=-c synchronous_commit=off")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	found := tps.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench says no rate: %s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

func (b *bench) write(ctx context.Context, table string, async bool, end time.Time, commits *atomic.Int64) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if async {
		if _, err := conn.Exec(ctx, "set synchronous_commit = off"); err != nil {
			return err
		}
		defer func() { _, _ = conn.Exec(ctx, "reset synchronous_commit") }()
	}
	sql := "update " + table + " set balance = balance + 1 where id = $1"
	for time.Now().Before(end) {
		if _, err := conn.Exec(ctx, sql, 1+rand.IntN(accounts)); err != nil {
			return err
		}
		commits.Add(1)
	}
	return nil
}

// listen hears a channel on a connection of its own, which heard may use.
func (b *bench) listen(ctx context.Context, channel string, heard func(conn *pgx.Conn, payload string)) (stop func(), err error) {
	conn, err := pgx.Connect(ctx, b.server.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return nil, err
	}
	listening, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			n, err := conn.WaitForNotification(listening)
			if err != nil {
				return
			}
			heard(conn, n.Payload)
		}
	}()
	return func() {
		cancel()
		<-done
		_ = conn.Close(context.WithoutCancel(ctx))
	}, nil
}
