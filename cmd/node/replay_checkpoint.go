package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// updating brings a checkpoint up to date.
type updating struct {
	pool      *pgxpool.Pool
	schema    string
	dry, json bool
	reload    bool
	out, errs io.Writer
}

func (u *updating) run(ctx context.Context, dir, node string) error {
	c, err := openCheckpoint(dir, node)
	if errors.Is(err, checkpoint.ErrCorrupt) {
		return exitError{3, fmt.Errorf("%w: the node will load its tables when it starts", err)}
	}
	if err != nil {
		return err
	}
	r := &replaying{pool: u.pool, schema: u.schema, from: c.info.Position, json: u.json, dry: u.dry, out: u.out, errs: u.errs}
	total, err := r.count(ctx)
	if err != nil {
		return err
	}
	w := &watched{r: r, from: c.info.Position}
	r.meter = newMeter(u.errs, total)
	up, err := c.catchUp(ctx, u.pool, u.schema, catchUpOptions{readOnly: u.dry, wrap: w.session})
	if u.reload && worthless(err) {
		fmt.Fprintln(u.errs, "loading the tables again: "+oneLine(err))
		for _, t := range c.tables {
			t.Renew()
		}
		up, err = c.catchUp(ctx, u.pool, u.schema, catchUpOptions{readOnly: u.dry, wrap: w.session, load: true})
	}
	if err != nil {
		r.meter.end()
		return u.explain(r, err)
	}
	if u.dry {
		up.close()
	} else {
		err = up.write()
	}
	r.meter.end() // nobody else uses it any more
	if err != nil {
		return err
	}
	w.merge()
	s := up.engine.Status()
	r.sum.From, r.sum.Position = c.info.Position, s.Position
	for _, l := range s.Loads {
		fmt.Fprintf(u.errs, "table %s was loaded: %d rows (%s)\n", strings.Join(l.Tables, ", "), l.Rows, l.Reason)
		r.sum.Loaded = append(r.sum.Loaded, l.Tables...)
	}
	for _, name := range slices.Sorted(maps.Keys(c.left)) {
		fmt.Fprintf(u.errs, "table %s is left out, its node will load it: %s\n", name, c.left[name])
		r.sum.Left = append(r.sum.Left, name)
	}
	return r.say()
}

// worthless says that the checkpoint cannot be brought up to date, and that loading the tables would make another one of this database.
func worthless(err error) bool {
	var no *replay.CheckpointError
	return errors.As(err, &no) && (no.Reason != "" || errors.Is(err, checkpoint.ErrCorrupt))
}

// explain says what to do about a checkpoint that cannot be brought up to date.
func (u *updating) explain(r *replaying, err error) error {
	var no *replay.CheckpointError
	if !errors.As(err, &no) {
		return err
	}
	if no.Reason == replay.Trimmed {
		err = fmt.Errorf("the outbox no longer reaches back to the checkpoint: %w%s", no.Err, r.lastTrimmed())
	}
	if worthless(no) {
		return exitError{3, fmt.Errorf("%w: the node will load its tables when it starts; --reload does so now", err)}
	}
	return err
}

// watched counts what comes on the way into the checkpoint.
type watched struct {
	r    *replaying
	from outbox.Position
	last summary // of the last fetch: one from the same position takes its place
}

func (w *watched) session(s replay.Session) replay.Session { return &watchedSession{s, w} }

// merge takes over what the last fetch has brought.
func (w *watched) merge() {
	w.r.sum.join(&w.last)
	w.last = summary{}
}

type watchedSession struct {
	replay.Session
	w *watched
}

func (s *watchedSession) Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error {
	if !req.From.IsZero() && req.From.String() != s.w.from.String() {
		s.w.merge()
		s.w.from = req.From
	}
	s.w.last = summary{}
	return s.Session.Fetch(ctx, req, &watchedSink{sink, s.w, req.From}) //nolint:wrapcheck // the engine's to read
}

type watchedSink struct {
	outbox.Sink
	w    *watched
	from outbox.Position
}

func (s *watchedSink) Event(table int, ev *outbox.Event, row pgx.CollectableRow) error {
	s.w.r.meter.add()
	if table >= 0 && !s.from.Covers(ev.Xid) {
		s.w.last.add(ev)
	}
	return s.Sink.Event(table, ev, row) //nolint:wrapcheck // the engine's to read
}
