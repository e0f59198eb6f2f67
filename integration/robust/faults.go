//go:build unix

package robust

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/internal/pgserver"
)

// faults are what can be done to a run. Each does it, lets it last, and heals it; its error says that the
// test could not do it, and not that a promise was broken.
var faults = map[string]func(context.Context, *world) error{
	"the server is killed": func(ctx context.Context, w *world) error {
		return w.crash(ctx, w.server.Kill, w.between(0, time.Second))
	},
	"the server is killed and loses its tail": lostTail,
	"the server stops at once": func(ctx context.Context, w *world) error {
		return w.crash(ctx, func() error { return w.server.Halt(pgserver.Immediate) }, w.between(0, time.Second))
	},
	"the server is shut down": func(ctx context.Context, w *world) error {
		return w.crash(ctx, func() error { return w.server.Halt(pgserver.Fast) }, w.between(0, time.Second))
	},
	"listening backends are terminated": func(ctx context.Context, w *world) error {
		return w.sql(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep bell'")
	},
	"fetching backends are terminated in the middle of a cut": midCut,
	"one node's packets are dropped":                          toxic(1, "timeout", `"timeout": 0`),
	"two nodes' packets are dropped":                          toxic(2, "timeout", `"timeout": 0`),
	"all nodes' packets are dropped":                          toxic(9, "timeout", `"timeout": 0`),
	"one node's network is slow":                              toxic(1, "latency", `"latency": 150, "jitter": 100`),
	"one node's network is narrow":                            toxic(1, "bandwidth", `"rate": 20`),
	"all nodes' packets are sliced":                           toxic(9, "slicer", `"average_size": 50, "size_variation": 40, "delay": 2000`),
	"two nodes' connections are reset":                        toxic(2, "reset_peer", `"timeout": 0`),
	"all nodes' connections are refused":                      refused,
	"a node is stopped, trimmed past, and goes on":            stopped,
	"a node is killed and started again":                      killed,
	"the outbox is trimmed":                                   trimmed,
	"the outbox is trimmed under a long writer":               longWriter,
	"the bell is held by an open transaction":                 bellHeld,
	"ringers fail at commit":                                  ringersFail,
	"another bell is installed":                               otherBell,
	"no slot is free":                                         slotsTaken,
	"connections are exhausted":                               exhausted,
	"timeouts are set for everybody":                          timeouts,
	"a writer idles in its transaction":                       idler,
	"one transaction of many rows":                            manyRows,
	"tables are emptied while a node loads":                   truncateWhileLoading,
	"forged notifications flood the channel":                  forged,
	"nonsense is put into the outbox":                         nonsense,
	"a new history begins":                                    newHistory,
	"the disk is full":                                        diskFull,
	"the notification queue is full":                          queueFull,
	ClockJumps:                                                clockJumps,
}

// Those that only a run with a stream can have.
var streamFaults = map[string]func(context.Context, *world) error{
	"NATS is killed":                                          natsKilled(false),
	"NATS is killed and loses its disk":                       natsKilled(true),
	"the stream is deleted":                                   streamDeleted,
	"the relay that leads is killed":                          relayKilled,
	"the relay that leads is stopped, and goes on":            relayStopped,
	"the relay that leads is cut off from Postgres":           relayCutOff,
	"messages are doubled, reordered, dropped and sent again": tampered,
	"what comes over the stream comes slowly":                 streamToxic("bandwidth", `"rate": 20`),
	"nothing comes over the stream":                           streamToxic("timeout", `"timeout": 0`),
}

// ClockJumps is the fault that needs a Config.Program.
const ClockJumps = "a node's clock jumps"

// Faults are the names of the faults that every run can have, in order.
func Faults() []string {
	return slices.Sorted(maps.Keys(faults))
}

// StreamFaults are the names of those that a run has only where nodes follow a stream, in order.
func StreamFaults() []string { return slices.Sorted(maps.Keys(streamFaults)) }

// outage draws how long something lasts: long enough for "live" to be over in half of the cases.
func (w *world) outage() time.Duration { return w.between(200*time.Millisecond, 2*time.Second) }

// toxic gives some nodes a bad network for a while.
func toxic(nodes int, kind, attributes string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		order := w.rng.Perm(len(w.nodes))
		var err error
		for _, i := range order[:min(nodes, len(order))] {
			err = errors.Join(err, poison(w.nodes[i].proxy, kind, attributes))
		}
		pause.For(ctx, w.outage())
		return errors.Join(err, w.heal(ctx))
	}
}

// heal gives every node its network back.
func (w *world) heal(ctx context.Context) (err error) {
	for _, p := range w.nodes {
		for _, proxy := range p.proxies() {
			err = errors.Join(err, cure(context.WithoutCancel(ctx), proxy))
		}
	}
	return err
}

func refused(ctx context.Context, w *world) error {
	for _, p := range w.nodes {
		p.proxy.Stop()
	}
	pause.For(ctx, w.outage())
	return w.heal(ctx)
}

// lostTail kills the server when nobody has waited for the disk for a while: commits that were visible,
// and that nodes have applied, are gone, and their ids are given out again.
func lostTail(ctx context.Context, w *world) error {
	w.gate.Lock()
	defer w.gate.Unlock()
	holding, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, p := range w.nodes {
		if err := p.tell("hold"); err != nil {
			return err
		}
	}
	defer func() {
		for _, p := range w.nodes {
			_ = p.tell("go on") // one that has ended is found out later
		}
	}()
	for _, p := range w.nodes {
		if err := p.await(holding, "held"); err != nil {
			return err
		}
	}
	pause.For(ctx, w.between(50*time.Millisecond, 400*time.Millisecond))
	return w.crash(ctx, w.server.Kill, w.between(0, 300*time.Millisecond))
}

// midCut terminates fetching backends for as long as they answer with a large cut.
func midCut(ctx context.Context, w *world) error {
	for range 3 {
		if err := w.bulk(ctx, 20_000); err != nil {
			return err
		}
		for range 5 {
			err := w.sql(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep fetch' and state = 'active'")
			if err != nil {
				return err
			}
			pause.For(ctx, 20*time.Millisecond)
		}
	}
	return nil
}

// stopped stops a node's process, trims past it, and lets it go on.
func stopped(ctx context.Context, w *world) error {
	p := w.some()
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pause.For(ctx, w.outage())
	err := w.trim(ctx, everything)
	return errors.Join(err, p.signal(syscall.SIGCONT))
}

func killed(ctx context.Context, w *world) error {
	p := w.some()
	if err := p.kill(); err != nil {
		return err
	}
	pause.For(ctx, w.between(0, 500*time.Millisecond))
	return p.start(w)
}

// truncateWhileLoading starts a node again and again while tables are emptied and filled.
func truncateWhileLoading(ctx context.Context, w *world) error {
	p := w.some()
	if err := p.kill(); err != nil {
		return err
	}
	if err := p.start(w); err != nil {
		return err
	}
	for i := range 25 {
		err := w.sql(ctx, fmt.Sprintf("set lock_timeout = '200ms'; begin; truncate part; insert into part (id, v, stamp) select i, %d, 's' || nextval('stamps') from generate_series(1, 30) i; commit", i))
		if err != nil && !strings.Contains(err.Error(), "55P03") && !strings.Contains(err.Error(), "40P01") {
			return err
		}
		pause.For(ctx, 20*time.Millisecond)
	}
	return nil
}
