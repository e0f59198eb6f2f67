package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
)

// request is what the parent asks of a node process, a JSON line.
type request struct {
	ID    int            `json:"id"`
	Do    string         `json:"do"` // status, ask, rows
	Who   int            `json:"who,omitempty"`
	Token lockstep.Token `json:"token"`
}

// message is what a node process says, a JSON line.
type message struct {
	Kind   string    `json:"kind"` // ready, state, visible, reply, failed
	ID     int       `json:"id,omitempty"`
	State  string    `json:"state,omitempty"`
	Text   string    `json:"text,omitempty"`
	Stamp  int64     `json:"stamp,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Rows   []string  `json:"rows,omitempty"`
	Status *account  `json:"status,omitempty"`
}

// account is the part of a node's status that the last table shows.
type account struct {
	State          string  `json:"state"`
	Staleness      float64 `json:"staleness"`
	Events         uint64  `json:"events"`
	Replays        uint64  `json:"replays"`
	EventsReplayed uint64  `json:"events_replayed"`
	Reloads        uint64  `json:"reloads"`
	Position       string  `json:"position"`
}

// RunNode is a node process: it follows the company, answers requests from
// in, and ends when in does, so that it never outlives the demo. The connection
// string comes from the environment, where process lists do not show it.
func RunNode(ctx context.Context, name, company, schema string, in io.Reader, out io.Writer) error {
	p := &process{out: json.NewEncoder(out), dir: newDirectory(company)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pool, err := pgxpool.New(ctx, os.Getenv("LOCKSTEP_DSN"))
	if err != nil {
		return p.failed(err)
	}
	defer pool.Close()
	cfg := lockstep.Config{Name: name, Schema: schema, Logger: slog.New(slog.DiscardHandler)}
	if p.node, err = lockstep.Start(ctx, pool, cfg, p.dir.departments, p.dir.employees); err != nil {
		return p.failed(err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = p.node.Close(closing) // the process ends
	}()
	p.say(message{Kind: "ready", Text: fmt.Sprintf("%d employees, %d departments", p.dir.employees.Len(), p.dir.departments.Len())})
	var behind sync.WaitGroup
	defer behind.Wait()
	defer cancel()
	behind.Go(func() { p.watchWrites(ctx) })
	behind.Go(func() { p.watchState(ctx) })
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return p.failed(err)
		}
		behind.Go(func() { p.answer(ctx, r) })
	}
	return lines.Err()
}

// process is the inside of a node process.
type process struct {
	mu   sync.Mutex
	out  *json.Encoder
	node *lockstep.Node
	dir  *directory
}

func (p *process) say(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.out.Encode(m) // the parent has gone, if it fails, and so does this process
}

func (p *process) failed(err error) error {
	p.say(message{Kind: "failed", Text: err.Error()})
	return err
}

func (p *process) answer(ctx context.Context, r request) {
	m := message{Kind: "reply", ID: r.ID}
	switch r.Do {
	case "ask":
		m.Text = p.dir.manager(p.node, r.Who)
	case "rows":
		waiting, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := p.node.WaitFor(waiting, r.Token); err != nil {
			m.Text = err.Error()
			break
		}
		v := p.node.OpenView()
		defer v.Close()
		m.Rows = p.dir.rows(v)
	}
	s := p.node.Status()
	m.Status = &account{
		State: s.State.String(), Staleness: s.Staleness.Seconds(), Events: s.Events, Replays: s.Replays,
		EventsReplayed: s.EventsReplayed, Reloads: s.Resyncs + s.Reloads, Position: s.Position.String(),
	}
	p.say(m)
}

// watchWrites tells when each stamped write became visible.
func (p *process) watchWrites(ctx context.Context) {
	for c, err := range p.dir.employees.Changes(ctx) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				p.say(message{Kind: "failed", Text: err.Error()})
			}
			return
		}
		if (c.Op == lockstep.OpInsert || c.Op == lockstep.OpUpdate) && c.New.Stamp != c.Old.Stamp {
			p.say(message{Kind: "visible", Stamp: c.New.Stamp, At: time.Now()})
		}
	}
}

// watchState tells when the node is live, or is not any more.
func (p *process) watchState(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := lockstep.Live
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s := p.node.Status(); s.State != last {
			last = s.State
			p.say(message{Kind: "state", State: s.State.String(), Text: s.Reason})
		}
	}
}
