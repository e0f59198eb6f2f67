package lockstep

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// attend runs what a node does for the cluster until it is closed: its row in
// the register, and its turns at trimming.
func (n *Node) attend() {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.attended = cancel, make(chan struct{})
	var all sync.WaitGroup
	if n.cfg.Register >= 0 {
		all.Go(func() { n.register(ctx) })
	}
	if n.cfg.Retention >= 0 {
		all.Go(func() { n.trim(ctx) })
	}
	if n.cfg.Audit > 0 {
		all.Go(func() { newAuditor(n).run(ctx) })
	}
	go func() {
		all.Wait()
		close(n.attended)
	}()
}

// register keeps the node's row in the register of nodes, for people and for
// trimming. What it writes decides nothing in this node, so a failure is said
// once and tried again.
func (n *Node) register(ctx context.Context) {
	said := false
	var last outbox.NodeRow
	for {
		row, err := n.writeRegister(ctx, "")
		if err != nil && ctx.Err() == nil && !said {
			n.cfg.Logger.Warn("the node is not in the register", "error", err)
		}
		said = err != nil
		row.Stale = 0 // it always differs a little, and is no news
		every := beatEvery(n.cfg.Register, err == nil && row == last)
		last = row
		if !pause.For(ctx, every*3/4+rand.N(every/2+1)) { // nodes that were started together part
			n.sayClosed()
			return
		}
	}
}

// beatEvery is the time between two beats: twice what was asked for where the last one had nothing to tell but that the node is
// there. Most nodes are idle most of the time.
func beatEvery(asked time.Duration, nothingNew bool) time.Duration {
	if nothingNew && asked < time.Minute {
		return 2 * asked
	}
	return asked
}

// writeRegister writes what the status says, under another state where one is given, and returns it.
func (n *Node) writeRegister(ctx context.Context, state string) (outbox.NodeRow, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is for people only
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	since, s := n.engine.Attesting(), n.engine.Status()
	row := outbox.NodeRow{
		Name: n.cfg.Name, Position: s.Position.String(), State: cmp.Or(state, s.State.String()), Host: host, Version: outbox.NodeVersion,
		Stale: s.Staleness.Seconds(), Bell: s.Bell,
	}
	if r, ok := n.source.(replay.Registrar); ok && state == "" { // who closes cannot wait for others
		if at, err := r.Enroll(ctx, row); err == nil {
			n.engine.Attest(since, at, true)
			return row, nil
		}
	}
	at, err := outbox.Enroll(ctx, n.pool, n.cfg.Schema, row)
	if err == nil {
		n.engine.Attest(since, at, false)
	}
	return row, err //nolint:wrapcheck // logged as it is
}

// sayClosed leaves a last word, if it can be had quickly.
func (n *Node) sayClosed() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = n.writeRegister(ctx, Closed.String()) // best effort: the beat's age says the same
}
