package replay

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/outbox"
)

// State is what the engine is doing, or cannot do.
type State int

// The states.
const (
	Loading    State = iota // the first load is not complete: there is nothing to read
	Live                    // the last completed fetch, or beat that found nothing to fetch, began within MaxStale, and every table is kept
	Stale                   // reads are answered from memory, which may be older than MaxStale
	CatchingUp              // a new session is replaying what was missed
	Resyncing               // all tables are being loaded again, readers are served the old state
	Closed                  // nothing moves any more
)

// String names the state in lower case.
func (s State) String() string {
	switch s {
	case Loading:
		return "loading"
	case Live:
		return "live"
	case Stale:
		return "stale"
	case CatchingUp:
		return "catching up"
	case Resyncing:
		return "resyncing"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("state %d", int(s))
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reason says why tables were loaded.
type Reason string

// The reasons for a load.
const (
	FirstLoad      Reason = "first load"
	HistoryChanged Reason = "history changed" // all tables: another history id, or a snapshot that went back
	Trimmed        Reason = "trimmed"         // all tables: the horizon has passed the position
	AnchorMissing  Reason = "anchor missing"  // all tables: the server does not have what was applied
	Requested      Reason = "requested"       // by Reload
	Drift          Reason = "catalogue drift" // the table's fingerprint changed
	ReloadEvent    Reason = "reload event"    // an R event without a key
	Unreadable     Reason = "unreadable"      // a row of the log could not be read
	Retry          Reason = "retry"           // of a table that could not be loaded
)

// Reasons are all there are.
var Reasons = [...]Reason{FirstLoad, HistoryChanged, Trimmed, AnchorMissing, Requested, Drift, ReloadEvent, Unreadable, Retry}

// TimeBounds are the upper bounds of the first classes of Times; the last class has none.
var TimeBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// Times counts durations by class.
type Times struct {
	Counts [len(TimeBounds) + 1]uint64 // of each class by itself
	Sum    time.Duration
}

// add counts a duration; one below 0, which only a clock that was set can make, as 0.
func (t *Times) add(d time.Duration) {
	d = max(d, 0)
	i, _ := slices.BinarySearch(TimeBounds[:], d)
	t.Counts[i]++
	t.Sum += d
}

// Load is one load of tables as Status remembers it.
type Load struct {
	At     time.Time     // when it was published
	Took   time.Duration // from the beginning of its fetch
	Reason Reason
	Detail string // what was seen, for a reader; may be empty
	Tables []string
	Rows   uint64
}

// TableStatus is what the engine says about one table.
type TableStatus struct {
	Name string
	// Live is whether the table may be relied upon like an engine that is
	// live: other tables' problems do not count.
	Live     bool
	Problem  error     // why the table is not kept, or nil
	Since    time.Time // of Problem
	LoadedAt time.Time
}

// CutInfo describes a published state. It is the meta value of the cache's
// version, and what Config.OnCut gets.
type CutInfo struct {
	Position outbox.Position // tight: what the next fetch starts from
	Snapshot outbox.Position // the snapshot in which the cut was read: the state is the database's in it
	History  uuid.UUID
	LastSeq  int64 // the highest number handed out when the cut was read
	Events   int   // events applied to followed tables
	Loaded   []string
	Reason   Reason // of the load of all tables that this cut is, else empty
	Replay   bool   // the cut caught up after a reconnect, or from a checkpoint
	// Checkpoint says that the cut is the first and began with the rows of a checkpoint.
	Checkpoint bool
	Began      time.Time
	At         time.Time
}

// Status is the engine's own account at the moment of the call. Counters count
// from Start. Nothing in it is shared with the engine.
type Status struct {
	State  State
	Since  time.Time // since when it is in State
	Reason string    // why, if it is not live

	History      uuid.UUID
	Position     outbox.Position
	AppliedSeq   int64         // the highest number of which an event was applied or loaded
	HandedOutSeq int64         // the highest number handed out, as of the last fetch
	LastFetch    time.Time     // when the last completed fetch began, or beat that found nothing to fetch: the state holds whatever was committed by then
	Staleness    time.Duration // time since LastFetch; 0 before the first load is complete
	Bell         string        // the doorbell of the last session: "wal", "notify", "poll", "stream"
	WhyBell      string        // why it is not a better one; "" where there is nothing to say

	Gaps       GapStats
	Fetches    uint64 // completed
	Stills     uint64 // beats that found that no number had been handed out since the last fetch, and fetched nothing
	Cuts       uint64 // published, loads included
	Events     uint64 // applied to followed tables
	Passed     uint64 // events of tables that are not followed, or not kept
	Skipped    uint64 // events that the position covered
	OutOfOrder uint64 // events that arrived with a number below one applied in an earlier cut
	Rereads    uint64 // fetches that were done again to read rows, or tables, that events could not carry
	Unrung     uint64 // beats that found events for which nobody had rung

	Sessions       uint64 // opened
	Failures       uint64 // calls of the source that failed, bells lost included
	Replays        uint64 // reconnects that caught up without a load, and a start from a checkpoint
	EventsReplayed uint64 // events in them
	Resyncs        uint64 // loads of all tables after the first, but for Requested ones
	Reloads        uint64 // loads of one or some tables
	Loads          []Load // the last Config.KeepLoads, oldest first
	LoadsFor       map[Reason]uint64

	// FetchTimes are how long the completed fetches took, by this process' clock.
	FetchTimes Times
	// VisibleTimes are, for each transaction that a cut brought, from its last
	// captured event until it was visible here. From the event to the snapshot
	// is read on the server's clock, and from before the fetch was sent to its
	// publication on ours, so that clocks that differ do not matter; the way of the
	// request to the server is counted twice. What lies between the event and
	// the commit is counted too: the server does not tell when it was.
	VisibleTimes Times
	LastCut      time.Time // when a cut was last published

	Checkpoint CheckpointStatus

	Tables      []TableStatus
	LastError   error // of the source or of a load; it stays when all is well again
	LastErrorAt time.Time
}

// CheckpointStatus tells what became of the checkpoint that the engine found,
// and of those that it writes. It is zero where none are kept.
type CheckpointStatus struct {
	Restored bool      // the engine began with one: what was missed since is in EventsReplayed
	At       time.Time // of the one that it found: when its rows were as they are in it
	// Encoded is how many of its rows are still as they are in the file. Each is decoded when it is read, or in its turn, soon after Start.
	Encoded int
	Refused string // why that was not used; empty if it was, or there was none

	Written  time.Time       // when the last one was complete; zero: none was since Start
	Position outbox.Position // of the last one
	Bytes    int64           // of its file
	Without  []string        // what it lacks and will be loaded, each with its reason
	// LastError is why the last attempt to write one failed; nil after one that did not.
	LastError   error
	LastErrorAt time.Time
}

// shared is what the engine's goroutine tells the others, under Engine.mu.
type shared struct {
	state  State
	since  time.Time
	reason string
	// staleSince is when the engine was last known not to be stale: failing
	// again while it catches up does not make the staleness younger.
	staleSince time.Time

	st       Status // the counters and whatever needs no computation
	snapshot outbox.Position
}

// enter changes the state. Caller holds mu.
func (s *shared) enter(state State, reason string, now time.Time) {
	switch state {
	case Stale:
		if s.staleSince.IsZero() {
			s.staleSince = now
		}
		s.since = s.staleSince
	default:
		if s.state != state {
			s.since = now
		}
		if state == Live {
			s.staleSince = time.Time{}
		}
	}
	s.state, s.reason = state, reason
}

// Status reports what the engine is doing, computed at the time of the call:
// nothing needs to happen for a live engine to become stale.
func (e *Engine) Status() Status {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.sh.st
	st.State, st.Since, st.Reason = e.sh.state, e.sh.since, e.sh.reason
	st.Loads, st.LoadsFor = slices.Clone(st.Loads), maps.Clone(st.LoadsFor)
	st.Tables = slices.Clone(st.Tables)
	st.Checkpoint.Without = slices.Clone(st.Checkpoint.Without)
	st.Checkpoint.Encoded = e.store.EncodedRows()
	if !st.LastFetch.IsZero() {
		st.Staleness = max(0, now.Sub(st.LastFetch))
	}
	if st.State == Live && st.Staleness > e.cfg.MaxStale {
		st.State, st.Since = Stale, st.LastFetch.Add(e.cfg.MaxStale)
		st.Reason = fmt.Sprintf("no fetch that began within %v has completed", e.cfg.MaxStale)
	}
	live := st.State == Live
	for i := range st.Tables {
		t := &st.Tables[i]
		t.Live = live && t.Problem == nil
		if live && t.Problem != nil && st.State == Live {
			st.State, st.Since, st.Reason = Stale, t.Since, t.Problem.Error()
		}
	}
	return st
}

// Position is where the cache stands: the tight position of the last completed
// fetch, zero before the first load.
func (e *Engine) Position() outbox.Position {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sh.st.Position
}

// History is the history that Position belongs to.
func (e *Engine) History() uuid.UUID {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sh.st.History
}
