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
	"os/exec"
	"time"

	"github.com/pglockstep/lockstep/internal/natsserver"
	"github.com/pglockstep/lockstep/outbox/stream"
)

// helper is this program again, as a NATS server or a relay, so that its processor time is
// neither the nodes' nor waits for them, or as a node that is started. It ends when its input does.
type helper struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	said string // its first line, which comes once it works
}

const (
	helperKind = "LOCKSTEP_BENCH_HELPER" // nats, relay, or start
	helperNATS = "LOCKSTEP_NATS"         // the NATS server's directory; the relay's server; the directory of the node's checkpoint
	helperDSN  = "LOCKSTEP_DSN"
)

// help is a helper's life, and reports whether this process is one.
func help() bool {
	var err error
	switch os.Getenv(helperKind) {
	case "":
		return false
	case "nats":
		err = helpNATS()
	case "relay":
		err = helpRelay()
	case "start":
		err = helpStart()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	return true
}

func helpNATS() error {
	s, err := natsserver.Start(natsserver.Config{Dir: os.Getenv(helperNATS)})
	if err != nil {
		return err
	}
	defer s.Stop()
	fmt.Println(s.URL())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// helpRelay says that it leads, and what it has asked Postgres for whenever it is asked.
func helpRelay() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var w wire
	pool, err := w.pool(ctx, os.Getenv(helperDSN))
	if err != nil {
		return err
	}
	defer pool.Close()
	relay, err := stream.NewRelay(stream.RelayConfig{Pool: pool, URL: os.Getenv(helperNATS), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for relay.Counters().Batches.Load() < 2 {
		select {
		case err := <-ended:
			return errors.Join(errors.New("the relay has ended"), err)
		case <-tick.C:
		}
	}
	fmt.Println("leads")
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := out.Encode(traffic{w.asks.Load(), w.received.Load(), relay.Counters().Rows.Load()}); err != nil {
			return err
		}
	}
	cancel()
	return <-ended
}

// traffic is what was asked of Postgres.
type traffic struct {
	Asks, Bytes int64
	Rows        uint64 // of nodes, that a relay has written
}

// startHelper returns a helper that works.
func startHelper(ctx context.Context, kind, nats, dsn string) (*helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h := &helper{cmd: exec.CommandContext(ctx, self)}
	h.cmd.Env = append(os.Environ(), helperKind+"="+kind, helperNATS+"="+nats, helperDSN+"="+dsn)
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	h.out = bufio.NewScanner(out)
	if !h.out.Scan() {
		return nil, errors.Join(fmt.Errorf("the %s did not come up", kind), h.stop())
	}
	h.said = h.out.Text()
	return h, nil
}

// traffic asks a relay.
func (h *helper) traffic() (t traffic, err error) {
	if _, err := io.WriteString(h.in, "\n"); err != nil {
		return t, err
	}
	if !h.out.Scan() {
		return t, errors.Join(errors.New("the relay has ended"), h.out.Err())
	}
	err = json.Unmarshal(h.out.Bytes(), &t)
	return t, err
}

// used is the processor time that it has used, 0 for none; see processCPU.
func (h *helper) used() time.Duration {
	if h == nil {
		return 0
	}
	_, own, _ := processCPU(h.cmd.Process.Pid)
	return own
}

func (h *helper) stop() error { return errors.Join(h.in.Close(), h.cmd.Wait()) }
