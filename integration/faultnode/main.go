//go:build unix

// Command faultnode is one node in a process of its own, for tests that stop
// the process or shift its clock. It follows public.items in the database of
// $LOCKSTEP_DSN, prints a line of JSON every few milliseconds and one for each
// change of row 1, and ends when its input does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
)

// Line is what the process prints.
type Line struct {
	// At is the machine's clock in microseconds since 1970, just before
	// the rest was asked for; whatever the process takes for the time.
	At int64
	// Now is what the process takes for the time.
	Now int64
	// Change is the value that row 1 has become, of a line that tells only that.
	Change *int `json:",omitempty"`

	State, Reason, LastError            string
	V, Rows                             int
	Fetches, Sessions, Failures, Unrung uint64
	Loads                               []string
	StaleMicros                         int64
}

type item struct {
	ID int
	V  int
}

// machine is the machine's clock, by a system call of our own.
func machine() int64 {
	var tv syscall.Timeval
	if err := syscall.Gettimeofday(&tv); err != nil {
		return 0 // it cannot fail
	}
	return int64(tv.Sec)*1_000_000 + int64(tv.Usec) //nolint:unconvert // int32 on some systems
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "faultnode:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pool, err := pgxpool.New(ctx, os.Getenv("LOCKSTEP_DSN"))
	if err != nil {
		return err
	}
	defer pool.Close()
	table := lockstep.NewTable("public.items", func(i item) int { return i.ID })
	node, err := lockstep.Start(ctx, pool, lockstep.Config{Name: "faultnode", Register: time.Second, Logger: slog.New(slog.DiscardHandler)}, table)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(l Line) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(l) // nobody listens any more: the input ends as well
	}
	var telling sync.WaitGroup
	live := make(chan struct{})
	telling.Go(func() {
		for c, err := range table.Changes(ctx) {
			switch {
			case err != nil:
				return
			case c.Op == lockstep.OpLive:
				close(live)
			case c.Op != lockstep.OpCurrent && c.Key == 1:
				say(Line{At: machine(), Change: &c.New.V})
			}
		}
	})
	<-live
	telling.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			say(sample(node, table))
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is done with us
	cancel()
	telling.Wait()
	closing, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	return node.Close(closing)
}

// sample first asks for the state and then reads: what is read is at least as
// new as what was claimed.
func sample(node *lockstep.Node, table *lockstep.Table[int, item]) Line {
	l := Line{At: machine(), Now: time.Now().UnixMicro()}
	s := node.Status()
	one, _ := table.Get(1)
	l.State, l.Reason, l.V, l.Rows = s.State.String(), s.Reason, one.V, table.Len()
	l.Fetches, l.Sessions, l.Failures, l.Unrung, l.StaleMicros = s.Fetches, s.Sessions, s.Failures, s.Unrung, s.Staleness.Microseconds()
	for _, load := range s.Loads {
		l.Loads = append(l.Loads, string(load.Reason))
	}
	if s.LastError != nil {
		l.LastError = s.LastError.Error()
	}
	return l
}
