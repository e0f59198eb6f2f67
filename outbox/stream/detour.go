package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// detour follows Postgres while the stream is away.
type detour struct {
	*outbox.Session
	src   *source
	feed  *feed
	why   string
	tried time.Time
	p     finder
	last  part // that came, believed or not
}

// Fetch implements replay.Session. Between two fetches it tries the stream.
func (d *detour) Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	if d.due(&req, time.Since(d.tried)) {
		d.tried = time.Now()
		flows, err := d.flows(ctx)
		if err != nil {
			return err
		}
		if flows {
			d.src.away = ""
			return fmt.Errorf("stream: %w: the stream is back", outbox.ErrMoved)
		}
	}
	d.src.Counters.Asked.Add(1)
	return d.Session.Fetch(ctx, req, sink)
}

// due reports whether it is time to try the stream, for so long after the last time. Whoever waits for
// Postgres' answer is not held up, but where somebody always does.
func (d *detour) due(req *outbox.Request, since time.Duration) bool {
	if req.Snapshot != "" || req.From.IsZero() {
		return false
	}
	return since >= d.src.Return && !req.Now || since >= 10*d.src.Return
}

// flows reports whether batches come of a run that is there: one after the other, since the
// first is the last of the stream, and may be old.
func (d *detour) flows(ctx context.Context) (bool, error) {
	messages, _ := d.feed.take()
	fresh := false
	for _, message := range messages {
		m, err := open(message)
		if err != nil {
			continue
		}
		fresh = fresh || m.run == d.last.run && m.number > d.last.number
		d.last = part{run: m.run, number: m.number}
	}
	if !fresh {
		return false, nil
	}
	run, err := d.p.find(ctx, d.Session, messages)
	return run != nil, err
}

// Still implements replay.Session: fetches try the stream.
func (d *detour) Still(context.Context, int64) (bool, error) { return false, nil }

// WhyBell implements replay.Session.
func (d *detour) WhyBell() string {
	why := "not on the stream: " + d.why
	if bell := d.Session.WhyBell(); bell != "" {
		why += "; " + bell
	}
	return why
}

// Close implements replay.Session.
func (d *detour) Close() {
	d.feed.close()
	d.Session.Close()
}
