package lockstep

import (
	"encoding/json"
	"time"

	"github.com/pglockstep/lockstep/replay"
)

// TableStatus is what a node says about one table.
type TableStatus struct {
	replay.TableStatus
	Rows  int
	Bytes int64 // of memory, as estimated from the types
}

// Status is a node's own account at the moment of the call. Nothing in it is
// shared with the node. As JSON it has errors as text and durations in seconds.
type Status struct {
	replay.Status
	// Name is Config.Name.
	Name string
	// Tables are in the order in which Start was given them.
	Tables []TableStatus
	// Audit is what Config.Audit has found; zero without one.
	Audit AuditStatus
}

// Status returns the node's own account. It does not block.
func (n *Node) Status() Status {
	s := Status{Status: n.engine.Status(), Name: n.cfg.Name, Tables: []TableStatus{}, Audit: n.audit.status()}
	for i, t := range s.Status.Tables {
		s.Tables = append(s.Tables, TableStatus{TableStatus: t, Rows: n.tables[i].Len(), Bytes: n.tables[i].Bytes()})
	}
	return s
}

// MarshalJSON writes what people and programs read of a status: times as RFC
// 3339, durations in seconds, errors as text, positions as Postgres prints them.
func (s Status) MarshalJSON() ([]byte, error) {
	w := statusJSON{
		Name: s.Name, State: s.State, Since: s.Since, Reason: s.Reason,
		History: s.History.String(), Position: s.Position, AppliedSeq: s.AppliedSeq, HandedOutSeq: s.HandedOutSeq,
		LastFetch: s.LastFetch, Staleness: s.Staleness.Seconds(), Bell: s.Bell, WhyBell: s.WhyBell, Gaps: gapsJSON(s.Gaps),
		Fetches: s.Fetches, Stills: s.Stills, Cuts: s.Cuts, Events: s.Events, Passed: s.Passed, Skipped: s.Skipped,
		OutOfOrder: s.OutOfOrder, Rereads: s.Rereads, Unrung: s.Unrung, Sessions: s.Sessions, Failures: s.Failures,
		Replays: s.Replays, EventsReplayed: s.EventsReplayed, Resyncs: s.Resyncs, Reloads: s.Reloads,
		Checkpoint: checkpointOf(s.Checkpoint), Audit: auditOf(s.Audit),
		Loads: []loadJSON{}, Tables: []tableJSON{}, LastError: text(s.LastError), LastErrorAt: s.LastErrorAt,
	}
	for _, l := range s.Loads {
		w.Loads = append(w.Loads, loadJSON{l.At, l.Took.Seconds(), l.Reason, l.Detail, l.Tables, l.Rows})
	}
	for _, t := range s.Tables {
		w.Tables = append(w.Tables, tableJSON{t.Name, t.Live, t.Rows, t.Bytes, text(t.Problem), t.Since, t.LoadedAt})
	}
	return json.Marshal(w)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

type statusJSON struct {
	Name           string          `json:"name"`
	State          State           `json:"state"`
	Since          time.Time       `json:"since,omitzero"`
	Reason         string          `json:"reason,omitempty"`
	History        string          `json:"history"`
	Position       Position        `json:"position"`
	AppliedSeq     int64           `json:"applied_seq"`
	HandedOutSeq   int64           `json:"handed_out_seq"`
	LastFetch      time.Time       `json:"last_fetch,omitzero"`
	Staleness      float64         `json:"staleness_seconds"`
	Bell           string          `json:"bell"`
	WhyBell        string          `json:"bell_why,omitempty"`
	Gaps           gapsJSON        `json:"gaps"`
	Fetches        uint64          `json:"fetches"`
	Stills         uint64          `json:"stills"`
	Cuts           uint64          `json:"cuts"`
	Events         uint64          `json:"events"`
	Passed         uint64          `json:"passed"`
	Skipped        uint64          `json:"skipped"`
	OutOfOrder     uint64          `json:"out_of_order"`
	Rereads        uint64          `json:"rereads"`
	Unrung         uint64          `json:"unrung"`
	Sessions       uint64          `json:"sessions"`
	Failures       uint64          `json:"failures"`
	Replays        uint64          `json:"replays"`
	EventsReplayed uint64          `json:"events_replayed"`
	Resyncs        uint64          `json:"resyncs"`
	Reloads        uint64          `json:"reloads"`
	Checkpoint     *checkpointJSON `json:"checkpoint,omitempty"`
	Audit          *auditJSON      `json:"audit,omitempty"`
	Loads          []loadJSON      `json:"loads"`
	Tables         []tableJSON     `json:"tables"`
	LastError      string          `json:"last_error,omitempty"`
	LastErrorAt    time.Time       `json:"last_error_at,omitzero"`
}

// gapsJSON has the fields of replay.GapStats, which converts to it.
type gapsJSON struct {
	Open      int64  `json:"open"`
	Late      uint64 `json:"late"`
	Void      uint64 `json:"void"`
	Replayed  uint64 `json:"replayed"`
	Reloaded  uint64 `json:"reloaded"`
	Misjudged uint64 `json:"misjudged"`
}

type checkpointJSON struct {
	Restored    bool      `json:"restored"`
	Encoded     int       `json:"encoded,omitempty"`
	At          time.Time `json:"at,omitzero"`
	Refused     string    `json:"refused,omitempty"`
	Written     time.Time `json:"written,omitzero"`
	Position    Position  `json:"position"`
	Bytes       int64     `json:"bytes"`
	Without     []string  `json:"without,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

// checkpointOf is nil where nothing is known of checkpoints: mostly none are kept.
func checkpointOf(c replay.CheckpointStatus) *checkpointJSON {
	j := &checkpointJSON{
		Restored: c.Restored, Encoded: c.Encoded, At: c.At, Refused: c.Refused, Written: c.Written, Position: c.Position,
		Bytes: c.Bytes, Without: c.Without, LastError: text(c.LastError), LastErrorAt: c.LastErrorAt,
	}
	if !j.Restored && j.At.IsZero() && j.Refused == "" && j.Written.IsZero() && j.LastError == "" {
		return nil
	}
	return j
}

type loadJSON struct {
	At     time.Time     `json:"at"`
	Took   float64       `json:"took_seconds"`
	Reason replay.Reason `json:"reason"`
	Detail string        `json:"detail,omitempty"`
	Tables []string      `json:"tables"`
	Rows   uint64        `json:"rows"`
}

type tableJSON struct {
	Name     string    `json:"name"`
	Live     bool      `json:"live"`
	Rows     int       `json:"rows"`
	Bytes    int64     `json:"bytes"`
	Problem  string    `json:"problem,omitempty"`
	Since    time.Time `json:"problem_since,omitzero"`
	LoadedAt time.Time `json:"loaded_at,omitzero"`
}
