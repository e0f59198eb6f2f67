package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/pglockstep/lockstep/internal/human"
	"github.com/pglockstep/lockstep/outbox"
)

// What trimming keeps (outbox.TrimOptions): the newest events whatever their
// age, and what a node that was seen lately has not fetched.
const (
	keptNewest = 1000
	spared     = time.Hour
)

// checkNodes compares what nodes have not fetched with what the outbox keeps.
func (e *exam) checkNodes(ctx context.Context) error {
	log, err := e.overview(ctx)
	if err != nil {
		return err
	}
	hard := max(7*e.Retention, 24*time.Hour)
	for _, n := range log.Nodes {
		if n.State == "closed" {
			continue
		}
		f := Finding{Check: "nodes", Level: Warning}
		position, _ := outbox.ParsePosition(n.Position) // one that has none yet has the zero position
		away, behind := time.Duration(n.Age*float64(time.Second)), time.Duration(n.BehindSeconds*float64(time.Second))
		switch {
		case !position.IsZero() && position.Xmin() < log.Horizon:
			f.What = fmt.Sprintf("node %s (%s), last seen %s ago, stands before the horizon", n.Name, n.State, lasting(n.Age))
			f.Why = "what it lacks is no longer there: it loads all of its tables when it comes back"
			f.Mend = "nothing, if it comes back; DELETE FROM " + quote(e.Schema) + ".nodes WHERE name = '" + n.Name + "' if it does not"
		case away > spared:
			f.What = fmt.Sprintf("node %s (%s) has not been seen for %s, and lacks %s", n.Name, n.State, lasting(n.Age), events(n.Behind))
			f.Why = "trimming spares a node for " + spared.String() + " only: what it lacks goes when it is " + e.Retention.String() + " old, and it then loads all of its tables"
			f.Mend = "start it again; DELETE FROM " + quote(e.Schema) + ".nodes WHERE name = '" + n.Name + "' if it will not come back"
		case behind > e.Retention/2:
			f.What = fmt.Sprintf("node %s (%s) is %s behind, by %s", n.Name, n.State, lasting(n.BehindSeconds), events(n.Behind))
			f.Why = "the outbox is kept for it, beyond " + e.Retention.String() + " if it must be and up to " + hard.String() + ": it grows, and then the node loads all of its tables"
			f.Mend = "look at that node's own status and log: something keeps it from fetching or applying"
		case n.State != "live" && n.State != "starting" && n.State != "loading":
			f.What = fmt.Sprintf("node %s says that it is %s", n.Name, n.State)
			f.Why = "it answers from memory, and what it shows may be old"
			f.Mend = "look at that node's own status and log, which say why"
		default:
			continue
		}
		e.add(f)
	}
	return nil
}

func events(n int64) string {
	if n > 100_000 {
		return "over 100000 events"
	}
	return fmt.Sprintf("%d events", n)
}

// logSize is what log.sql tells.
type logSize struct {
	Bytes, Rows, Live, Dead int64
	Vacuumed                *time.Time
	Off                     bool     // autovacuum, for the outbox
	Trimmable               *float64 // the age of the oldest event that may be trimmed, in seconds
	EventBytes              float64  // of the newest events' rows, without indexes
	Rate                    float64  // of the newest 10,000 events
}

// logSize is asked for once.
func (e *exam) logSize(ctx context.Context) (*logSize, error) {
	if e.size != nil {
		return e.size, nil
	}
	size, err := queryOne[logSize](ctx, e, "log.sql", keptNewest-1)
	if err != nil {
		return nil, err
	}
	e.size = &size
	return e.size, nil
}

// checkTrimming finds out that nobody trims, or that trimming is held up.
func (e *exam) checkTrimming(ctx context.Context) error {
	log, err := e.overview(ctx)
	if err != nil {
		return err
	}
	size, err := e.logSize(ctx)
	if err != nil {
		return err
	}
	slack := e.Retention + max(e.Retention/4, 10*time.Minute)
	if size.Trimmable == nil || *size.Trimmable < slack.Seconds() {
		return nil
	}
	f := Finding{
		Check: "trimming", Level: Warning, What: fmt.Sprintf("the outbox holds events that are %s old; %s are to be kept", lasting(*size.Trimmable), e.Retention),
		Why:  "no node trims: none is running, or none has a trimmer's rights; the outbox grows without end",
		Mend: "lockstep trim; and give the nodes' role triggers/sql/grants_trimmer.sql, or --retention, if nodes are to keep more",
	}
	for _, held := range []string{log.OldestWriter, log.OldestPrepared} {
		if held != "" {
			f.Why, f.Mend = "nothing newer than the oldest transaction in flight can be trimmed: the outbox grows until that one ends", "end it"
			f.Detail = append(f.Detail, held)
		}
	}
	for _, n := range log.Nodes {
		if n.State != "closed" && n.Age < spared.Seconds() && n.BehindSeconds > slack.Seconds() {
			f.Why, f.Mend = "what a node that was seen lately has not fetched is spared", "look at that node's own status and log"
			f.Detail = append(f.Detail, fmt.Sprintf("node %s is %s behind", n.Name, lasting(n.BehindSeconds)))
		}
	}
	e.add(f)
	return nil
}

func (e *exam) checkVacuum(ctx context.Context) error {
	size, err := e.logSize(ctx)
	if err != nil {
		return err
	}
	const why = "what is trimmed stays in the table and its index: they grow, and every fetch takes longer"
	switch {
	case size.Off:
		e.add(Finding{
			Check: "vacuum", Level: Warning, What: "autovacuum is off for the outbox", Why: why,
			Mend: "ALTER TABLE " + quote(e.Schema) + ".outbox RESET (autovacuum_enabled)",
		})
	case !e.server.Vacuums:
		e.add(Finding{Check: "vacuum", Level: Warning, What: "autovacuum or track_counts is off", Why: why, Mend: "set both on in postgresql.conf"})
	}
	if size.Dead > e.DeadRows && size.Dead > 3*size.Live {
		when := "it has never been vacuumed"
		if size.Vacuumed != nil {
			when = "it was vacuumed last at " + size.Vacuumed.Format(time.DateTime)
		}
		e.add(Finding{
			Check: "vacuum", Level: Warning, What: fmt.Sprintf("the outbox has %d dead rows beside %d live ones; %s", size.Dead, size.Live, when),
			Why: "something holds vacuum back, or it is too slow: " + why, Mend: "see long transactions and old snapshots; then VACUUM " + quote(e.Schema) + ".outbox",
		})
	}
	return nil
}

// perEvent is what an event takes beside its columns: the row's header and pointer, and its index entry.
const perEvent = 28 + 28

// checkGrowth says how large the outbox becomes at the rate of now.
func (e *exam) checkGrowth(ctx context.Context) error {
	log, err := e.overview(ctx)
	if err != nil {
		return err
	}
	size, err := e.logSize(ctx)
	if err != nil {
		return err
	}
	rate := max(log.Rate, size.Rate)
	each := size.EventBytes + perEvent
	full := int64(rate * each * e.Retention.Seconds())
	f := Finding{
		Check: "growth", Level: Note, What: fmt.Sprintf("the outbox has %s; at %.1f events/s of %.0f bytes it comes to %s in %s", human.Bytes(size.Bytes), rate, each, human.Bytes(full), e.Retention),
		Why: "events are kept for " + e.Retention.String() + ", so that a node that was away that long replays what it missed",
	}
	if max(full, size.Bytes) > e.MaxOutbox {
		f.Level = Warning
		f.Why = "that is more than the " + human.Bytes(e.MaxOutbox) + " of --max-outbox; " + f.Why
		f.Mend = "a shorter Config.Retention, or Config.RetentionRows; or --max-outbox, if there is room"
	}
	e.add(f)
	return nil
}
