package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

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
	warm, cold := lockstep.Config{Name: "bench", Checkpoint: dir}, lockstep.Config{Name: "bench2"}
	if _, _, _, err := b.once(ctx, warm, nil); err != nil {
		return err
	}
	var loaded, restarted, write, built series
	var bytes int64
	for round := range b.rounds {
		if err := b.missSome(ctx, round); err != nil {
			return err
		}
		first, _, _, err := b.once(ctx, cold, nil)
		if err != nil {
			return err
		}
		took, wrote, s, err := b.once(ctx, warm, nil)
		if err != nil {
			return err
		}
		loaded = append(loaded, first.Seconds())
		if !s.Checkpoint.Restored || len(s.Loads) > 0 {
			return fmt.Errorf("the node did not begin with its checkpoint: %+v", s)
		}
		restarted, write = append(restarted, took.Seconds()), append(write, wrote.Seconds())
		bytes, built = s.Checkpoint.Bytes, append(built, b.makeRows().Seconds())
	}
	b.sayRestart(loaded, restarted, write, built, bytes)
	return b.profileStarts(ctx, cold, warm)
}

// profileStarts says what starts are spent on; whoever is profiled is not timed.
func (b *bench) profileStarts(ctx context.Context, cold, warm lockstep.Config) error {
	coldly, warmly := spending{}, spending{}
	for round := range b.rounds {
		if err := b.missSome(ctx, round); err != nil {
			return err
		}
		if _, _, _, err := b.once(ctx, cold, coldly); err != nil {
			return err
		}
		if _, _, _, err := b.once(ctx, warm, warmly); err != nil {
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

// once starts a node and stops it, and tells how long each took; where spent is not nil, also what the start is spent on.
func (b *bench) once(ctx context.Context, cfg lockstep.Config, spent spending) (start, stop time.Duration, s lockstep.Status, err error) {
	cfg.Register, cfg.CheckpointEvery = -1, -1
	var node *lockstep.Node
	began := time.Now()
	err = spent.watch(func() (err error) {
		node, err = lockstep.Start(ctx, b.pool, cfg, accountsTable("public.large"))
		return err
	})
	if err != nil {
		return 0, 0, s, err
	}
	start = time.Since(began)
	if err := b.touch(ctx, node); err != nil {
		return 0, 0, s, errors.Join(err, node.Close(ctx))
	}
	began = time.Now()
	err = node.Close(ctx)
	return start, time.Since(began), node.Status(), err
}

func (b *bench) sayRestart(cold, restarted, write, built series, bytes int64) {
	n := grouped(int64(b.rows)) + " rows"
	b.ratio("start from a checkpoint, 1% of "+n+" missed / cold start", "until Start returns: with the checkpoint of a node that was stopped before the changes, and without one", restarted.over(cold), atMost(0.25))
	b.ratio("making "+n+" / cold start", "rows like the table's, each allocated by itself, and a builtin map of them for each core: no file is read, nothing is decoded or asked; and a node's start without a checkpoint", built.over(cold), nil)
	b.value("cold start, "+n, "s", "until Start returns", cold, nil)
	b.value("start from a checkpoint, 1% of "+n+" missed", "s", "until Start returns", restarted, nil)
	b.value("stopping, which writes the checkpoint", "s", "until Close returns", write, nil)
	b.value("making "+n, "s", "rows like the table's, and a builtin map of them for each core", built, nil)
	b.value("the checkpoint of "+n, "bytes", "the size of its file", series{float64(bytes)}, nil)
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
