package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/window"
	"github.com/pglockstep/lockstep/outbox/stream"
)

// request is what the parent asks of a node process, a JSON line.
type request struct {
	ID    int            `json:"id"`
	Do    string         `json:"do"` // status, manager, rows, sample, look; of the NATS server: down, up
	Who   int            `json:"who,omitempty"`
	Token lockstep.Token `json:"token"` // to wait for first; zero: answer as things are
	Query *window.Query  `json:"query,omitempty"`
}

// message is what a node process says, a JSON line.
type message struct {
	Kind   string         `json:"kind"` // ready, state, source, visible, reply, failed
	ID     int            `json:"id,omitempty"`
	State  string         `json:"state,omitempty"`
	Text   string         `json:"text,omitempty"`
	Failed string         `json:"failed,omitempty"`
	Stamp  int64          `json:"stamp,omitempty"`
	At     time.Time      `json:"at,omitzero"`
	Rows   []string       `json:"rows,omitempty"`
	Status *account       `json:"status,omitempty"`
	Sample *window.Sample `json:"sample,omitempty"`
	Look   *window.Look   `json:"look,omitempty"`
}

// account is the part of a node's status that the last table shows.
type account struct {
	State          string  `json:"state"`
	Staleness      float64 `json:"staleness"`
	Events         uint64  `json:"events"`
	Replays        uint64  `json:"replays"`
	EventsReplayed uint64  `json:"events_replayed"`
	Reloads        uint64  `json:"reloads"` // full ones, after the first load
	Aborted        int64   `json:"aborted"` // rows seen that were never committed
	Source         string  `json:"source"`  // stream, or the bell by which it follows Postgres
	Batches        uint64  `json:"batches"` // taken from the stream
	Asked          uint64  `json:"asked"`   // fetches from Postgres of a node with a stream
}

// RunNode is a node process: it follows the company, answers requests from
// in, and ends when in does, so that it never outlives the demo. The connection
// string comes from the environment, where process lists do not show it. proxy leads to
// Postgres, nats to NATS; "": it asks Postgres.
func RunNode(ctx context.Context, cfg *pgxpool.Config, proxy, nats string, node lockstep.Config, company string, in io.Reader, out io.Writer) error {
	p := &process{out: json.NewEncoder(out), dir: newDirectory(company)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	through(cfg, proxy)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return p.failed(err)
	}
	defer pool.Close()
	node.Logger = slog.New(slog.DiscardHandler) // the parent tells the story
	if nats != "" {
		p.fanned = true
		node.Source, node.Register = follow(nats, &p.stream), 5*time.Second // as other nodes: the page shows it
	}
	requests := readRequests(in, cancel)
	if p.node, err = lockstep.Start(ctx, pool, node, p.dir.departments, p.dir.employees); err != nil {
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
	for r := range requests {
		behind.Go(func() { p.answer(ctx, r) })
	}
	return nil
}

// readRequests reads until the parent goes, which ends everything, a load that
// has not ended too.
func readRequests(in io.Reader, gone context.CancelFunc) <-chan request {
	requests := make(chan request)
	go func() {
		defer close(requests)
		defer gone()
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			var r request
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				return // not the parent
			}
			requests <- r
		}
	}()
	return requests
}

// process is the inside of a node process.
type process struct {
	mu   sync.Mutex
	out  *json.Encoder
	node *lockstep.Node
	dir  *directory

	fanned bool            // it follows a stream
	stream stream.Counters // of which

	aborted atomic.Int64 // rows with a salary that was rolled back
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
	waiting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := p.node.WaitFor(waiting, r.Token); err != nil {
		m.Failed = err.Error()
		p.say(m)
		return
	}
	switch r.Do {
	case "manager":
		m.Text = p.dir.manager(p.node, r.Who)
	case "rows":
		v := p.node.OpenView()
		defer v.Close()
		m.Rows = p.dir.rows(v)
	case "sample", "look":
		p.show(ctx, &r, &m)
		p.say(m)
		return
	}
	s := p.node.Status()
	m.Status = &account{
		State: s.State.String(), Staleness: s.Staleness.Seconds(), Events: s.Events, Replays: s.Replays,
		EventsReplayed: s.EventsReplayed, Reloads: s.Resyncs + s.Reloads, Aborted: p.aborted.Load(),
		Source: s.Bell, Batches: p.stream.Batches.Load(), Asked: p.stream.Asked.Load(),
	}
	p.say(m)
}

// show answers for the page.
func (p *process) show(ctx context.Context, r *request, m *message) {
	node := window.Local(p.node, p.dir.forPage()...)
	if r.Do == "sample" {
		s, err := node.Sample(ctx)
		s.Answer = p.dir.manager(p.node, r.Who)
		m.Sample, m.Failed = &s, failure(err)
		return
	}
	l, err := node.Look(ctx, *r.Query)
	m.Look, m.Failed = &l, failure(err)
}

func failure(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
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
		if c.New.Salary == neverCommitted {
			p.aborted.Add(1)
		}
		if (c.Op == lockstep.OpInsert || c.Op == lockstep.OpUpdate) && c.New.Stamp != c.Old.Stamp {
			p.say(message{Kind: "visible", Stamp: c.New.Stamp, At: time.Now()})
		}
	}
}

// watchState tells when the node is live, or is not any more, and when it goes over to the stream, or to Postgres.
func (p *process) watchState(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last, source := lockstep.Live, onStream
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := p.node.Status()
		if s.State != last {
			last = s.State
			p.say(message{Kind: "state", State: s.State.String(), Text: s.Reason, At: time.Now()})
		}
		if p.fanned && s.Bell != source && s.Bell != "" {
			source = s.Bell
			p.say(message{Kind: "source", State: s.Bell, Text: s.WhyBell})
		}
	}
}
