package stream

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"

	"github.com/pglockstep/lockstep/outbox"
)

// keptFor is how long after it was asked a question may come, by the newest batch that its node had then. Tests change it.
var keptFor = 3 * time.Second

const (
	// maxWaiting is how many rows may wait to be written. Nodes that are not answered write theirs themselves.
	maxWaiting = 1024
	// enrollAfter is how long no row is written after one could not be: the register may be locked.
	enrollAfter = 10 * time.Second
	// clockFor is how old the relay's last look at the server's clock may be.
	clockFor = 2 * time.Second
)

// desk answers the questions of nodes to a run. The clock is answered at once, by the last fetch; rows
// wait for whoever has the relay's connection.
type desk struct {
	r     *Relay
	run   outbox.Run
	start time.Time // of the run
	sub   *nats.Subscription

	mu          sync.Mutex
	last        clockAnswer // t0: when it was true, by the relay's own clock
	wall        time.Time   // the same, by the clock on the wall
	rows        []waitingRow
	pausedUntil time.Time // no row is taken until then
	said        bool      // that rows cannot be written
}

type waitingRow struct {
	q   question
	msg *nats.Msg
	row outbox.NodeRow
}

// open begins to answer.
func (d *desk) open() (err error) {
	d.sub, err = d.r.out.nc.Subscribe(asks(d.r.cfg.Stream), d.take)
	return err
}

// close answers nobody any more.
func (d *desk) close() { _ = d.sub.Unsubscribe() } // or the connection has ended

// noteClock notes what a fetch has found of the server's clock.
func (d *desk) noteClock(c *collector) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = clockAnswer{t0: c.header.Began, clock: c.clock, took: c.took, uptime: c.uptime}
	d.wall = c.header.Began.Round(0)
}

// take takes a question. It runs on a goroutine of the connection's.
func (d *desk) take(msg *nats.Msg) {
	q, err := openQuestion(msg.Data, &d.run)
	now := time.Now()
	if err != nil || now.Sub(d.start)-q.uptime > keptFor || msg.Reply == "" {
		d.r.stats.Refused.Add(1)
		return
	}
	switch q.kind {
	case askClock:
		d.say(msg, &q, d.clock(now))
	case askRow:
		w := waitingRow{q: q, msg: msg}
		if json.Unmarshal(q.body, &w.row) != nil || !d.queue(w, now) {
			d.say(msg, &q, nil)
		}
	default:
		d.say(msg, &q, nil)
	}
}

// say sends an answer.
func (d *desk) say(msg *nats.Msg, q *question, body []byte) {
	d.r.stats.Answered.Add(1)
	_ = msg.Respond(q.answer(d.run.Key, body)) // who gets none asks Postgres
}

// clock is what the server's clock says now, as a batch that was fetched now would. It moved on since the last fetch as
// the relay's did, or nearly.
func (d *desk) clock(now time.Time) []byte {
	d.mu.Lock()
	last, wall := d.last, d.wall
	d.mu.Unlock()
	since := now.Sub(last.t0)
	slept := now.Round(0).Sub(wall) - since // the machine, when the one clock stands and the other does not
	if last.t0.IsZero() || since > clockFor || slept.Abs() > step {
		return nil
	}
	slack := since.Abs()*drift/1_000_000 + time.Microsecond // to which times are cut
	a := clockAnswer{clock: last.clock.Add(since - slack), took: last.took + 2*slack, uptime: last.uptime + since}
	return a.write()
}

// queue queues a row, if rows are taken.
func (d *desk) queue(w waitingRow, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.rows) == maxWaiting || now.Before(d.pausedUntil) {
		return false
	}
	d.rows = append(d.rows, w)
	return true
}

// enroll writes the rows that wait. An error is the connection's.
func (d *desk) enroll(ctx context.Context, s *outbox.Session) error {
	d.mu.Lock()
	waiting := d.rows
	d.rows = nil
	d.mu.Unlock()
	uptime := time.Since(d.start)
	waiting = slices.DeleteFunc(waiting, func(w waitingRow) bool { return uptime-w.q.uptime > askWithin }) // the node has given up
	if len(waiting) == 0 {
		return nil
	}
	rows := make([]outbox.NodeRow, len(waiting))
	for i := range waiting {
		rows[i] = waiting[i].row
	}
	writing, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	beats, err := s.Enroll(writing, rows)
	var refused *pgconn.PgError
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	d.mu.Lock()
	said := d.said
	if d.said = err != nil; d.said {
		d.pausedUntil = time.Now().Add(enrollAfter)
	}
	d.mu.Unlock()
	if err != nil && !said {
		d.r.cfg.Logger.Warn("nodes write their rows in the register themselves", "reason", err)
	}
	for i, w := range waiting {
		var body []byte
		if err == nil && !beats[i].IsZero() {
			d.r.stats.Rows.Add(1)
			body = binary.BigEndian.AppendUint64(nil, uint64(beats[i].UnixMicro()))
		}
		d.say(w.msg, &w.q, body)
	}
	return nil
}
