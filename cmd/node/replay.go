package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

const replayLong = `With --checkpoint, replay brings the checkpoint of a node that is not running up to date: it
reads the file, applies what was missed in one snapshot, and puts a new file in its place once that is complete
and on disk. Interrupted, it leaves the file as it was, and can be run again. It holds the
tables in memory. A table whose rows are read by code of the application's own, or whose columns have changed, is
left out and named: the node loads it when it starts. With --node where the directory has the files of
several. Where the outbox no longer reaches back, or the file is damaged, it says so and changes nothing; with --reload
it then loads the tables and writes the file anew. With --dry-run nothing is written.

Otherwise replay reads from the outbox what --from, or the node of --node at its last beat, has not applied,
up to --to, and prints it: an event a line, as JSON, in the order of seq. A summary by table and
operation and the new position go to standard error; with --dry-run only they are printed, to
standard output. Nothing is written to Postgres.

Everything is read in one snapshot. Run again with the same --from, after an interruption too, it
prints the same events in the same order, with the same seq, and then what is new; with the
position that it ended with it prints only what is new. The positions count all tables, whatever --table says.

Exit status: 0 all was printed, or the checkpoint is up to date; 3 the outbox no longer reaches back to the position, or
the checkpoint is damaged or of a history that has ended; 1 anything else.`

const replayExample = `  lockstep replay --checkpoint /var/lib/web-1
  lockstep replay --node web-1 --dry-run
  lockstep replay --from 4711:4711: --table public.employees > missed.ndjson`

func replayCommand(o *options) *cobra.Command {
	var r replaying
	var from, node, to, dir string
	var reload bool
	cmd := &cobra.Command{
		Use:     "replay",
		Short:   "Bring a checkpoint up to date, or print the events that a position, or a node, has missed",
		Long:    replayLong,
		Example: replayExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if dir != "" {
				if from != "" || to != "now" || len(r.tables) > 0 {
					return errors.New("--checkpoint goes with --node, --reload, --json and --dry-run only")
				}
				pool, err := o.connect(cmd.Context())
				if err != nil {
					return err
				}
				defer pool.Close()
				u := &updating{pool: pool, schema: o.schema, dry: r.dry, json: r.json, reload: reload, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
				return u.run(cmd.Context(), dir, node)
			}
			if reload {
				return errors.New("--reload needs a --checkpoint")
			}
			if (from == "") == (node == "") {
				return errors.New("replay needs a --checkpoint, a --from with a position or a --node with a name, and not both")
			}
			if r.from, err = outbox.ParsePosition(from); err != nil {
				return fmt.Errorf("--from: %w", err)
			}
			if to != "now" {
				if r.to, err = outbox.ParsePosition(to); err != nil {
					return fmt.Errorf("--to, which is now or a position: %w", err)
				}
				if r.to.IsZero() {
					return errors.New("--to is empty: want now or a position")
				}
			}
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			r.pool, r.schema, r.out, r.errs = pool, o.schema, cmd.OutOrStdout(), cmd.ErrOrStderr()
			if node != "" {
				if r.from, err = r.positionOf(cmd.Context(), node); err != nil {
					return err
				}
			}
			if err := r.resolve(cmd.Context()); err != nil {
				return err
			}
			return r.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "position to begin at, as status --json and this command print it")
	f.StringVar(&node, "node", "", "begin where this node was at its last beat; with --checkpoint: whose it is")
	f.StringVar(&dir, "checkpoint", "", "directory with the checkpoint to bring up to date")
	f.BoolVar(&reload, "reload", false, "load the tables where the checkpoint cannot be brought up to date")
	f.StringVar(&to, "to", "now", "position to end at, or now")
	f.StringArrayVar(&r.tables, "table", nil, "only this table's events; may be given again; default: all")
	f.BoolVar(&r.json, "json", false, "the summary as JSON, on one line")
	f.BoolVar(&r.dry, "dry-run", false, "print the summary only")
	return cmd
}

// replaying is one run; it is the sink of its one fetch.
type replaying struct {
	pool      *pgxpool.Pool
	schema    string
	from, to  outbox.Position // to is zero: now
	tables    []string        // none: all
	json, dry bool
	out, errs io.Writer

	header  outbox.Header
	lines   *bufio.Writer
	meter   *meter
	highest uint64
	sum     summary
}

// summary is what was missed.
type summary struct {
	From     outbox.Position `json:"from"`
	Position outbox.Position `json:"position"` // the new one
	Events   uint64          `json:"events"`
	First    time.Time       `json:"first,omitzero"` // when the first was captured; a server does not tell when it was committed
	Last     time.Time       `json:"last,omitzero"`
	Tables   []*tableSum     `json:"tables"`
	Loaded   []string        `json:"loaded,omitempty"`   // tables of a checkpoint that were loaded again
	Left     []string        `json:"left_out,omitempty"` // tables that are in the checkpoint no more
}

type tableSum struct {
	Table string            `json:"table"`
	Ops   map[string]uint64 `json:"operations"`
}

// resolve names the tables as events do.
func (r *replaying) resolve(ctx context.Context) error {
	if len(r.tables) == 0 {
		return nil
	}
	tracked, err := trackedNames(ctx, r.pool, triggers.Options{Schema: r.schema})
	if err != nil {
		return err
	}
	for i, name := range r.tables {
		full, err := fullName(ctx, r.pool, name)
		if err != nil {
			return err
		}
		if !slices.Contains(tracked, full) {
			return fmt.Errorf("table %s is not captured: lockstep inspect lists those that are", full)
		}
		r.tables[i] = full
	}
	return nil
}

// positionOf is where a registered node was at its last beat.
func (r *replaying) positionOf(ctx context.Context, node string) (outbox.Position, error) {
	v, err := outbox.Look(ctx, r.pool, r.schema)
	if err != nil {
		return outbox.Position{}, err //nolint:wrapcheck // said as it is
	}
	for _, n := range v.Nodes {
		if n.Name != node {
			continue
		}
		if n.Position == "" {
			return outbox.Position{}, fmt.Errorf("node %s had not loaded anything at its last beat: it has no position to begin at", node)
		}
		return outbox.ParsePosition(n.Position) //nolint:wrapcheck // said as it is
	}
	return outbox.Position{}, fmt.Errorf("no node %s is registered: lockstep status lists those that are", node)
}

func (r *replaying) run(ctx context.Context) error {
	src, err := outbox.NewSource(outbox.Config{Schema: r.schema, Pool: r.pool, Bell: outbox.BellPoll})
	if err != nil {
		return err //nolint:wrapcheck // said as it is
	}
	session, err := src.Open(ctx)
	if err != nil {
		return err //nolint:wrapcheck // said as it is
	}
	defer session.Close()
	total, err := r.count(ctx)
	if err != nil {
		return err
	}
	r.lines, r.meter = bufio.NewWriterSize(r.out, 64<<10), newMeter(r.errs, total)
	err = session.Fetch(ctx, outbox.Request{From: r.from}, r)
	r.meter.end()
	if flushErr := r.lines.Flush(); err == nil {
		err = flushErr
	}
	if err != nil {
		return err //nolint:wrapcheck // said as it is
	}
	r.sum.From, r.sum.Position = r.from, r.to
	if r.to.IsZero() {
		r.sum.Position = r.from.Tight(r.header.Snapshot, r.highest)
	}
	return r.say()
}

// count tells the meter how much there is to read; a moment later there may be more.
func (r *replaying) count(ctx context.Context) (n int64, err error) {
	inFlight := []string{}
	for _, xid := range r.from.Xip() {
		inFlight = append(inFlight, fmt.Sprint(xid))
	}
	log := pgx.Identifier{r.schema, "outbox"}.Sanitize()
	err = r.pool.QueryRow(ctx, "select (select count(*) from "+log+" where xid >= $1::text::xid8) + (select count(*) from "+log+" where xid = any ($2::text[]::xid8[]))",
		fmt.Sprint(r.from.Xmax()), inFlight).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the events: %w", err)
	}
	return n, nil
}

// Begin implements outbox.Sink: it refuses a position from which not everything can be read.
func (r *replaying) Begin(h *outbox.Header) error {
	r.header = *h
	switch {
	case !h.Snapshot.Includes(r.from):
		return fmt.Errorf("the position %s is not in this database's past (it is of another database, or was taken before a crash or a restore): load the tables again", r.from)
	case !r.to.IsZero() && !r.to.Includes(r.from):
		return fmt.Errorf("--to %s does not include the position to begin at, %s", r.to, r.from)
	case !r.to.IsZero() && !h.Snapshot.Includes(r.to):
		return fmt.Errorf("--to %s is not reached yet: the database is at %s", r.to, h.Snapshot)
	case r.from.Xmin() < h.Horizon:
		return r.trimmed(h)
	}
	return nil
}

// trimmed says since when the events are gone, and what to do.
func (r *replaying) trimmed(h *outbox.Header) error {
	return exitError{3, fmt.Errorf("the outbox no longer reaches back to the position %s: events below transaction %d may be gone%s, and it needs those from %d; "+
		"load the tables again (a node does so by itself; lockstep verify --repair makes one)", r.from, h.Horizon, r.lastTrimmed(), r.from.Xmin())}
}

// lastTrimmed says since when the events are gone.
func (r *replaying) lastTrimmed() string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var moved time.Time
	if err := r.pool.QueryRow(ctx, "select moved from "+pgx.Identifier{r.schema, "horizon"}.Sanitize()).Scan(&moved); err != nil {
		return fmt.Sprintf(", when they went is not known (%v)", err)
	}
	return ", last trimmed " + moved.UTC().Format(time.RFC3339)
}

// Event implements outbox.Sink.
func (r *replaying) Event(_ int, ev *outbox.Event, _ pgx.CollectableRow) error {
	r.meter.add()
	if r.from.Covers(ev.Xid) || !r.to.IsZero() && !r.to.Covers(ev.Xid) {
		return nil
	}
	r.highest = max(r.highest, ev.Xid)
	if len(r.tables) > 0 && !slices.Contains(r.tables, ev.Table) {
		return nil
	}
	for one, err := range ev.Changes() { // one that is of a table of the command's own is one already
		if err == nil {
			err = r.change(&one)
		}
		if err != nil {
			return fmt.Errorf("event %d of %s: %w", ev.Seq, ev.Table, err)
		}
	}
	return nil
}

// change writes one change down.
func (r *replaying) change(ev *outbox.Event) error {
	r.sum.add(ev)
	if r.dry {
		return nil
	}
	row := json.RawMessage("null")
	if ev.Row != nil {
		var buf bytes.Buffer
		if err := json.Compact(&buf, ev.Row); err != nil {
			return fmt.Errorf("no JSON: %w", err)
		}
		row = buf.Bytes()
	}
	line, err := json.Marshal(struct {
		Seq   int64           `json:"seq"`
		Part  int             `json:"part,omitempty"` // of a list, whose changes have one number
		Xid   string          `json:"xid"`            // 64 bits: too many for a number of JavaScript's
		At    time.Time       `json:"at"`
		Table string          `json:"table"`
		Op    string          `json:"op"`
		Row   json.RawMessage `json:"row"`
	}{ev.Seq, ev.Part, fmt.Sprint(ev.Xid), ev.At.UTC(), ev.Table, ev.Op.String(), row})
	if err != nil {
		return err //nolint:wrapcheck // by the caller
	}
	_, err = r.lines.Write(append(line, '\n'))
	return err //nolint:wrapcheck // names the file
}

// Problem implements outbox.Sink; no table is loaded.
func (r *replaying) Problem(int, error) error { return nil }

// Load implements outbox.Sink.
func (r *replaying) Load(int, pgx.CollectableRow) error { return nil }

// Reread implements outbox.Sink.
func (r *replaying) Reread(int, pgx.CollectableRow, pgx.CollectableRow) error { return nil }

func (s *summary) add(ev *outbox.Event) {
	s.Events++
	if s.First.IsZero() || ev.At.Before(s.First) {
		s.First = ev.At.UTC()
	}
	if ev.At.After(s.Last) {
		s.Last = ev.At.UTC()
	}
	s.of(ev.Table).Ops[ev.Op.String()]++
}

func (s *summary) of(table string) *tableSum {
	i := slices.IndexFunc(s.Tables, func(t *tableSum) bool { return t.Table == table })
	if i < 0 {
		i = len(s.Tables)
		s.Tables = append(s.Tables, &tableSum{table, map[string]uint64{}})
	}
	return s.Tables[i]
}

// join adds what another one has counted.
func (s *summary) join(o *summary) {
	s.Events += o.Events
	if s.First.IsZero() || !o.First.IsZero() && o.First.Before(s.First) {
		s.First = o.First
	}
	if o.Last.After(s.Last) {
		s.Last = o.Last
	}
	for _, t := range o.Tables {
		for op, n := range t.Ops {
			s.of(t.Table).Ops[op] += n
		}
	}
}

// say prints the summary where it does not mix with the events.
func (r *replaying) say() error {
	out := r.errs
	if r.dry {
		out = r.out
	}
	slices.SortFunc(r.sum.Tables, func(a, b *tableSum) int { return strings.Compare(a.Table, b.Table) })
	if r.json {
		if r.sum.Tables == nil {
			r.sum.Tables = []*tableSum{}
		}
		return json.NewEncoder(out).Encode(r.sum) //nolint:wrapcheck // names the file
	}
	switch {
	case r.sum.Events == 0 && len(r.sum.Loaded) > 0:
	case r.sum.Events == 0:
		fmt.Fprintln(out, "nothing was missed")
	default:
		w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
		fmt.Fprintln(w, "table\tinsert\tupdate\tdelete\ttruncate\treload")
		for _, t := range r.sum.Tables {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\n", t.Table, t.Ops["insert"], t.Ops["update"], t.Ops["delete"], t.Ops["truncate"], t.Ops["reload"])
		}
		_ = w.Flush() // to a terminal or a pipe
		fmt.Fprintf(out, "%d events, captured from %s to %s\n", r.sum.Events, r.sum.First.Format(time.RFC3339Nano), r.sum.Last.Format(time.RFC3339Nano))
	}
	fmt.Fprintf(out, "position %s\n", r.sum.Position)
	return nil
}

// meter says how far the reading is: a bar on a terminal, else a line every five seconds.
type meter struct {
	out          io.Writer
	bar          *progressbar.ProgressBar // nil: lines
	n, total     int64
	began, spoke time.Time
}

func newMeter(out io.Writer, total int64) *meter {
	now := time.Now()
	m := &meter{out: out, total: total, began: now, spoke: now}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file's number
		m.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(out), progressbar.OptionSetDescription("replay"),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"), progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return m
}

func (m *meter) add() {
	if m.n++; m.n > m.total {
		m.total = m.n // committed since they were counted
	}
	if m.n%256 != 0 {
		return
	}
	if m.bar != nil {
		m.bar.ChangeMax64(m.total)
		_ = m.bar.Set64(m.n) // it is only a picture
		return
	}
	if now := time.Now(); now.Sub(m.spoke) >= 5*time.Second {
		m.spoke = now
		rate := float64(m.n) / now.Sub(m.began).Seconds()
		left := time.Duration(float64(m.total-m.n) / rate * float64(time.Second)).Round(time.Second)
		fmt.Fprintf(m.out, "%d of %d events, %.0f events/s, %s left\n", m.n, m.total, rate, left)
	}
}

func (m *meter) end() {
	if m.bar != nil {
		_ = m.bar.Finish() // it is only a picture
	}
}
