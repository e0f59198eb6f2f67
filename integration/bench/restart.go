package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
)

// restart: a node that begins with its checkpoint and has missed changes of 1%
// of the rows, against one that loads them.
func restart(ctx context.Context, b *bench) error {
	if err := b.largeTable(ctx, b.rows); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lockstep-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the process ends
	cold, warm := lockstep.Config{Name: "bench2"}, lockstep.Config{Name: "bench", Checkpoint: dir}
	if _, err := b.once(ctx, warm, nil); err != nil {
		return err
	}
	var here, apart restarts // in this process, and in one of its own each
	var built series
	for round := range b.rounds {
		err := here.add(func(cfg lockstep.Config) (started, error) { return b.once(ctx, cfg, nil) }, cold, warm, func() error { return b.missSome(ctx, 2*round) })
		if err == nil {
			err = apart.add(func(cfg lockstep.Config) (started, error) { return b.process(ctx, cfg.Checkpoint) }, cold, warm, func() error { return b.missSome(ctx, 2*round+1) })
		}
		if err != nil {
			return err
		}
		built = append(built, b.makeRows().Seconds())
	}
	b.sayRestart(&here, &apart, built)
	return b.profileStarts(ctx, cold, warm)
}

// restarts are starts without and with a checkpoint, by turns.
type restarts struct{ cold, warm []started }

func (r *restarts) add(start func(lockstep.Config) (started, error), cold, warm lockstep.Config, miss func() error) error {
	if err := miss(); err != nil {
		return err
	}
	c, err := start(cold)
	if err != nil {
		return err
	}
	w, err := start(warm)
	if err != nil {
		return err
	}
	if !w.Restored || w.Loads > 0 {
		return fmt.Errorf("the node did not begin with its checkpoint: %+v", w)
	}
	r.cold, r.warm = append(r.cold, c), append(r.warm, w)
	return nil
}

// started is how a node has started and stopped, in a process of its own.
type started struct {
	Start, Decoded, Stop float64 // seconds: until Start returned; from then until no row was encoded any more; until Close returned
	Restored             bool
	Loads                int
	Bytes                int64
}

func seconds(list []started, of func(*started) float64) (s series) {
	for i := range list {
		s = append(s, of(&list[i]))
	}
	return s
}

// process starts and stops a node in a process of its own, as a restart does, with its checkpoint in a directory, or without one.
func (b *bench) process(ctx context.Context, checkpoint string) (s started, err error) {
	h, err := startHelper(ctx, "start", checkpoint, b.server.DSN("postgres"))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	if err := b.exec(ctx, "update large set balance = balance where id = 1"); err != nil { // there shall be something to keep
		return s, err
	}
	if _, err := io.WriteString(h.in, "\n"); err != nil {
		return s, err
	}
	if !h.out.Scan() {
		return s, errors.Join(errors.New("the node has ended"), h.out.Err())
	}
	err = json.Unmarshal(h.out.Bytes(), &s)
	return s, err
}

// helpStart is the life of a process with a node: it starts, and stops once it has caught up with what its input tells it of.
func helpStart() error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(helperDSN))
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil { // an application is connected when it starts its node
		return err
	}
	cfg := lockstep.Config{Name: "bench", Checkpoint: os.Getenv(helperNATS), Register: -1, CheckpointEvery: -1, Logger: slog.New(slog.DiscardHandler)}
	if cfg.Checkpoint == "" {
		cfg.Name = "bench2"
	}
	began := time.Now()
	node, err := lockstep.Start(ctx, pool, cfg, accountsTable("public.large"))
	if err != nil {
		return err
	}
	s := started{Start: time.Since(began).Seconds()}
	s.decoded(node)
	fmt.Println("started")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	if err := node.Barrier(ctx); err != nil {
		return err
	}
	if err := s.closed(ctx, node); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// profileStarts says what starts are spent on; whoever is profiled is not timed.
func (b *bench) profileStarts(ctx context.Context, cold, warm lockstep.Config) error {
	coldly, warmly := spending{}, spending{}
	for round := range b.rounds {
		if err := b.missSome(ctx, round); err != nil {
			return err
		}
		if _, err := b.once(ctx, cold, coldly); err != nil {
			return err
		}
		if _, err := b.once(ctx, warm, warmly); err != nil {
			return err
		}
	}
	coldly.say(b, whileStarting, "a cold start")
	warmly.say(b, whileStarting, "a start from a checkpoint")
	return nil
}

// missSome changes 1% of the rows, which nobody follows.
func (b *bench) missSome(ctx context.Context, round int) error {
	return b.exec(ctx, fmt.Sprintf("update large set balance = balance + 1 where id %% 100 = %d", round))
}

// once starts a node here and stops it; where spent is not nil, it also tells what the start is spent on.
func (b *bench) once(ctx context.Context, cfg lockstep.Config, spent spending) (s started, err error) {
	cfg.Register, cfg.CheckpointEvery = -1, -1
	var node *lockstep.Node
	began := time.Now()
	err = spent.watch(func() (err error) {
		node, err = lockstep.Start(ctx, b.pool, cfg, accountsTable("public.large"))
		return err
	})
	if err != nil {
		return s, err
	}
	s.Start = time.Since(began).Seconds()
	s.decoded(node)
	if err := b.touch(ctx, node); err != nil {
		return s, errors.Join(err, node.Close(ctx))
	}
	return s, s.closed(ctx, node)
}

// decoded waits until no row is encoded any more.
func (s *started) decoded(node *lockstep.Node) {
	began := time.Now()
	for node.Status().Checkpoint.Encoded > 0 {
		time.Sleep(time.Millisecond) // nobody tells of it
	}
	s.Decoded = time.Since(began).Seconds()
}

func (s *started) closed(ctx context.Context, node *lockstep.Node) error {
	began := time.Now()
	err := node.Close(ctx)
	st := node.Status()
	s.Stop, s.Restored, s.Loads, s.Bytes = time.Since(began).Seconds(), st.Checkpoint.Restored, len(st.Loads), st.Checkpoint.Bytes
	return err
}

func (b *bench) sayRestart(here, apart *restarts, built series) {
	start := func(s *started) float64 { return s.Start }
	cold, warm := seconds(here.cold, start), seconds(here.warm, start)
	coldApart, warmApart := seconds(apart.cold, start), seconds(apart.warm, start)
	n := grouped(int64(b.rows)) + " rows"
	warmly := "start from a checkpoint, 1% of " + n + " missed"
	b.ratio(warmly+" / cold start", "until Start returns: with the checkpoint of a node that was stopped before the changes, and without one", warm.over(cold), atMost(0.25))
	b.ratio(warmly+" / cold start, new processes", "the same, each in a process that has done nothing yet: every page of memory is new to it", warmApart.over(coldApart), nil)
	b.ratio("making "+n+" / cold start", "rows like the table's, each allocated by itself, and a builtin map of them for each core: no file is read, nothing is decoded or asked; and a node's start without a checkpoint", built.over(cold), nil)
	b.value("cold start, "+n, "s", "until Start returns", cold, nil)
	b.value("cold start, "+n+", a new process", "s", "until Start returns", coldApart, nil)
	b.value(warmly, "s", "until Start returns: every read is answered, and a row that nobody has read is still encoded", warm, nil)
	b.value(warmly+", a new process", "s", "until Start returns", warmApart, nil)
	b.value("from there until every row is decoded", "s", "by one goroutine, beside everything else", seconds(here.warm, func(s *started) float64 { return s.Decoded }), nil)
	b.value("stopping, which writes the checkpoint", "s", "until Close returns", seconds(here.warm, func(s *started) float64 { return s.Stop }), nil)
	b.value("making "+n, "s", "rows like the table's, and a builtin map of them for each core", built, nil)
	b.value("the checkpoint of "+n, "bytes", "the size of its file", seconds(here.warm, func(s *started) float64 { return float64(s.Bytes) }), nil)
}

// makeRows is what it takes to make as many rows as the table has, and maps of them, on all cores.
func (b *bench) makeRows() time.Duration {
	runtime.GC()
	began := time.Now()
	var all sync.WaitGroup
	cores := runtime.GOMAXPROCS(0)
	for core := range cores {
		all.Go(func() {
			rows := make(map[int]*account, b.rows/cores)
			note := []byte("note of 0000000")
			for id := 1 + core; id <= b.rows; id += cores {
				rows[id] = &account{ID: id, Manager: id / 10, Note: string(note)}
			}
			runtime.KeepAlive(rows)
		})
	}
	all.Wait()
	return time.Since(began)
}
