//go:build unix

package robust

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/logbuf"
	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/triggers"
)

//go:embed schema.sql
var schemaSQL string

//go:embed archive.sql
var archiveSQL string

// world is a run under way: a server, nodes, writers, and what is done to them.
type world struct {
	cfg    Config
	dir    string
	rng    *rand.Rand // of the faults
	server *pgserver.Server
	disk   *disk // of the server; nil where it has none of its own
	dsn    string
	forger string // the address as a role without rights
	rec    *recorder
	nodes  []*process
	nats   *natsProcess    // nil: nobody follows a stream
	relays []*relayProcess // that publish there
	stderr logbuf.Buffer   // of the nodes
	gate   sync.RWMutex    // stops writers whose commits wait for the disk

	crashes    []Crash
	trouble    context.Context // ends with the last fault
	background sync.WaitGroup  // faults that go on beside the next ones
}

// startServer starts the run's cluster. One whose backend panics stays down, so that every crash is known.
func (w *world) startServer(ctx context.Context) error {
	settings := map[string]string{
		"max_connections": "60", "max_prepared_transactions": "20", "restart_after_crash": "off",
		"autovacuum_naptime": "2s", "wal_writer_delay": "5s", "log_min_messages": "warning",
		"wal_level": "logical", "max_replication_slots": "5",
	}
	programs, err := pgserver.Find(ctx, pgserver.Options{})
	if err != nil {
		return err
	}
	if programs.Version >= 170000 {
		settings["max_notify_queue_pages"] = "2048" // 16 MB: see docs/guarantees.md for a smaller one
	}
	w.disk, err = newDisk()
	if err != nil {
		w.cfg.Logf("no disk of its own: %v", err)
	}
	c := pgserver.Config{Settings: settings, Binaries: programs}
	if w.disk != nil {
		c.Dir = w.disk.dir
	}
	if w.server, err = pgserver.Start(ctx, c); err != nil {
		return err
	}
	w.dsn = w.server.DSN("run")
	admin, err := pgx.Connect(ctx, w.server.DSN("postgres"))
	if err != nil {
		return err
	}
	_, err = admin.Exec(ctx, "create database run template template0")
	if err == nil {
		_, err = admin.Exec(ctx, "create role forger login password 'forger'")
	}
	w.forger = w.server.DSNAs("run", "forger", "forger")
	return errors.Join(err, admin.Close(ctx))
}

// prepare makes the tables and puts capture on them.
func (w *world) prepare(ctx context.Context) error {
	if err := w.sql(ctx, schemaSQL); err != nil {
		return err
	}
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = "public." + t
	}
	if err := w.install(ctx, w.cfg.Bell, names...); err != nil {
		return err
	}
	// What is there already is the first state: it has no events, but the witness saw it.
	return w.sql(ctx, archiveSQL)
}

// install puts a bell in place, and capture on tables.
func (w *world) install(ctx context.Context, bell triggers.Bell, tables ...string) error {
	pool, err := pgxpool.New(ctx, w.dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	return triggers.Install(ctx, pool, triggers.Options{Bell: bell, Logger: slog.New(slog.DiscardHandler)}, tables...)
}

// sql runs statements on a connection of their own, past every proxy.
func (w *world) sql(ctx context.Context, sql string) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// on calls fn with a connection.
func (w *world) on(ctx context.Context, dsn string, fn func(*pgx.Conn) error) error {
	connecting, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(connecting, dsn)
	if err != nil {
		return err
	}
	err = fn(conn)
	closing, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	_ = conn.Close(closing) // the server may be gone
	return err
}

// crash takes the server away, lets time pass, and brings it back. What was read before it ended and
// what is read after it began are told apart by the moment between.
func (w *world) crash(ctx context.Context, end func() error, hold time.Duration) error {
	if err := end(); err != nil {
		return err
	}
	c := Crash{T: now()}
	pause.For(ctx, hold)
	starting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute) // it may have a million rows to recover
	defer cancel()
	if err := w.server.Restart(starting); err != nil {
		return fmt.Errorf("the server does not come back: %w; %s", err, w.server.LogTail(5))
	}
	err := w.on(starting, w.server.DSN("postgres"), func(conn *pgx.Conn) error {
		var next string
		if err := conn.QueryRow(starting, "select next_xid from pg_control_checkpoint()").Scan(&next); err != nil {
			return err
		}
		epoch, xid, _ := strings.Cut(next, ":")
		hi, err := strconv.ParseUint(epoch, 10, 32)
		lo, err2 := strconv.ParseUint(xid, 10, 32)
		c.Next = hi<<32 | lo
		return errors.Join(err, err2)
	})
	w.crashes = append(w.crashes, c)
	return err
}

// between draws a duration.
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

// some draws a node.
func (w *world) some() *process { return w.nodes[w.rng.IntN(len(w.nodes))] }
