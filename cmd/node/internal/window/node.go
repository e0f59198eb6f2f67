package window

import (
	"context"
	"fmt"

	"github.com/pglockstep/lockstep"
)

// Node is a node that the page asks.
type Node interface {
	// Name is the one that the node registers.
	Name() string
	// Sample is the node's own account now.
	Sample(ctx context.Context) (Sample, error)
	// Look reads some rows of a table.
	Look(ctx context.Context, q Query) (Look, error)
}

// Sample is what a node says of itself at one moment. Counters count from its start.
type Sample struct {
	StateName string  `json:"state"`
	Reason    string  `json:"reason,omitempty"` // why it is not live
	Staleness float64 `json:"staleness"`        // in seconds
	Position  string  `json:"position"`
	Bell      string  `json:"bell"`
	BellWhy   string  `json:"bell_why,omitempty"` // why it is not a better one

	Events         uint64 `json:"events"`    // applied
	Gaps           uint64 `json:"gaps"`      // closed, in whichever way
	OpenGaps       int64  `json:"open_gaps"` // not accounted for yet
	Replays        uint64 `json:"replays"`
	EventsReplayed uint64 `json:"events_replayed"`
	Loads          uint64 `json:"loads"` // of one, some or all tables, after the first

	Tables []TableSample `json:"tables"`

	// Answer is what the node answers to Config.Question.
	Answer string `json:"answer,omitempty"`
	// Offers names the actions on this node that make sense now.
	Offers []string `json:"offers,omitempty"`
}

// TableSample is what a node says of one table.
type TableSample struct {
	Name    string `json:"name"`
	Rows    int    `json:"rows"`
	Bytes   int64  `json:"bytes"`
	Problem string `json:"problem,omitempty"`
}

// local is a node of this process.
type local struct {
	node   *lockstep.Node
	tables []*Table
}

// Local is a node of this process with those of its tables that can be looked into.
func Local(node *lockstep.Node, tables ...*Table) Node { return &local{node, tables} }

func (l *local) Name() string { return l.node.Status().Name }

func (l *local) Sample(context.Context) (Sample, error) {
	s := l.node.Status()
	out := Sample{
		StateName: s.State.String(), Reason: s.Reason, Staleness: s.Staleness.Seconds(), Position: s.Position.String(), Bell: s.Bell, BellWhy: s.WhyBell,
		Events: s.Events, Gaps: s.Gaps.Late + s.Gaps.Void + s.Gaps.Replayed + s.Gaps.Reloaded, OpenGaps: s.Gaps.Open,
		Replays: s.Replays, EventsReplayed: s.EventsReplayed, Loads: s.Resyncs + s.Reloads,
	}
	for _, t := range s.Tables {
		ts := TableSample{Name: l.pageName(t.Name), Rows: t.Rows, Bytes: t.Bytes}
		if t.Problem != nil {
			ts.Problem = t.Problem.Error()
		}
		out.Tables = append(out.Tables, ts)
	}
	return out, nil
}

// pageName is what the page calls a table.
func (l *local) pageName(of string) string {
	for _, t := range l.tables {
		if t.of == of {
			return t.name
		}
	}
	return of
}

func (l *local) Look(_ context.Context, q Query) (Look, error) {
	for _, t := range l.tables {
		if t.name != q.Table {
			continue
		}
		var out Look
		l.node.View(func(v *lockstep.View) { out = t.look(v, q) })
		return out, nil
	}
	return Look{}, fmt.Errorf("there is no table %s", q.Table)
}
