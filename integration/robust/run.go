//go:build unix

package robust

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/triggers"
)

// Config is a run. The zero value of a field means its default.
type Config struct {
	// Seed decides traffic, faults and their times; only what the machine does is left to chance.
	Seed uint64
	// Profile is the traffic. Default: drawn by the seed.
	Profile Profile
	// Bell is the one that is installed. Default: drawn by the seed, WAL in half of the runs, and otherwise
	// NOTIFY, or none where PREPARE TRANSACTION forbids it.
	Bell triggers.Bell
	// For is how long faults are made. Default 20 s.
	For time.Duration
	// Faults are made in this order, and the run ends after the last. Default: drawn by the seed, until For is over.
	Faults []string
	// Nodes follow. Default 3.
	Nodes int
	// Streamed is how many of the nodes follow a stream that two relays fill. Default: drawn by the seed, none in half of the
	// runs and one or two in the others; below 0: none.
	Streamed int
	// BulkRows is how many rows one transaction writes where it writes many. Default 30,000.
	BulkRows int
	// Idle is how long a transaction idles where one does. Default 10 s.
	Idle time.Duration
	// Program is what a node runs; its clock is shifted by the file that $CLOCK_SHIFT names. Default: the
	// program that calls Run, whose clock cannot be shifted.
	Program string
	// Dir is where histories go; each run has a directory of its own in it, which goes when nothing was found. Default: a temporary one.
	Dir string
	// Logf says what is done. Default: nothing.
	Logf func(format string, args ...any)
}

// Report is what a run came to.
type Report struct {
	Seed       uint64
	Version    int // of the server
	Profile    Profile
	Bell       triggers.Bell
	Streamed   int    // nodes that follow a stream
	Dir        string // of the histories, "" where they were removed
	Violations []Violation
	Counts     Counts
	Faults     map[string]int // how often each was made
	NotRun     map[string]int
	Slowest    time.Duration // a node took to be well again after the last fault
	Crashes    int
	Resyncs    uint64
	Replays    uint64
	History    *History
}

// Run makes one run. The error says that the run itself failed; what it found is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	rng := rand.New(rand.NewPCG(cfg.Seed, 0))
	cfg.Profile = cmp.Or(cfg.Profile, Profiles[rng.IntN(len(Profiles))])
	cfg.Bell = cmp.Or(cfg.Bell, bells(cfg.Profile)[rand.New(rand.NewPCG(cfg.Seed, 1)).IntN(2)])
	cfg.For, cfg.Idle = cmp.Or(cfg.For, 20*time.Second), cmp.Or(cfg.Idle, 10*time.Second)
	cfg.Nodes, cfg.BulkRows = cmp.Or(cfg.Nodes, 3), cmp.Or(cfg.BulkRows, 30_000)
	if draw := rand.New(rand.NewPCG(cfg.Seed, 2)); cfg.Streamed == 0 && draw.IntN(2) == 0 {
		cfg.Streamed = min(1+draw.IntN(2), cfg.Nodes)
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	dir, err := os.MkdirTemp(cfg.Dir, fmt.Sprintf("lockstep-history-%d-", cfg.Seed))
	if err != nil {
		return nil, err
	}
	w := &world{cfg: cfg, dir: dir, rng: rng}
	report, err := w.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("seed %d (histories in %s): %w\n%s", cfg.Seed, dir, err, w.stderr.String())
	}
	if len(report.Violations) == 0 {
		report.Dir = ""
		return report, os.RemoveAll(dir)
	}
	return report, report.History.keep(filepath.Join(dir, "server.json"))
}

func (w *world) run(ctx context.Context) (_ *Report, err error) {
	if w.rec, err = newRecorder(filepath.Join(w.dir, "world.ndjson")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.startServer(ctx); err != nil {
		return nil, err
	}
	if err := w.prepare(ctx); err != nil {
		return nil, err
	}
	if err := w.startStream(ctx); err != nil {
		return nil, err
	}
	if err := w.startNodes(ctx); err != nil {
		return nil, err
	}
	if err := w.disturb(ctx); err != nil {
		return nil, err
	}
	h, err := w.settle(ctx)
	if err != nil {
		return nil, err
	}
	return w.report(h), nil
}

func (w *world) startNodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i := range w.cfg.Nodes {
		p, err := newProcess(i, w.server.Addr())
		if err != nil {
			return err
		}
		w.nodes = append(w.nodes, p)
		if i < w.cfg.Streamed {
			if err := p.follow(w); err != nil {
				return err
			}
		}
		if err := p.start(w); err != nil {
			return err
		}
	}
	for _, p := range w.nodes {
		if err := p.await(ctx, "live"); err != nil {
			return fmt.Errorf("%w\n%s", err, w.stderr.String())
		}
	}
	return nil
}

// disturb lets writers write and makes faults meanwhile.
func (w *world) disturb(ctx context.Context) error {
	writing, stop := context.WithCancel(ctx)
	var writers sync.WaitGroup
	for i := range 6 {
		wr := &writer{
			name: fmt.Sprintf("w%d", i), dsn: w.dsn, rec: w.rec, rng: rand.New(rand.NewPCG(w.cfg.Seed, uint64(100+i))),
			profile: w.cfg.Profile, async: i == 5, gate: &w.gate,
		}
		if wr.async {
			wr.profile = Mixed
		}
		writers.Go(func() { wr.run(writing) })
	}
	w.trouble = writing
	err := w.makeFaults(ctx)
	stop()
	w.background.Wait()
	writers.Wait()
	return errors.Join(err, w.heal(ctx), w.endPrepared(ctx))
}

// makeFaults makes one after another; now and then two at once.
func (w *world) makeFaults(ctx context.Context) error {
	names, all := Faults(), maps.Clone(faults)
	if w.nats != nil {
		names = append(names, StreamFaults()...)
		maps.Copy(all, streamFaults)
	}
	end := time.Now().Add(w.cfg.For)
	for i := 0; ; i++ {
		if !pause.For(ctx, w.between(100*time.Millisecond, 1200*time.Millisecond)) {
			return ctx.Err()
		}
		if w.cfg.Faults == nil && time.Now().After(end) || w.cfg.Faults != nil && i == len(w.cfg.Faults) {
			return nil
		}
		name := names[w.rng.IntN(len(names))]
		if w.cfg.Faults != nil {
			name = w.cfg.Faults[i]
		}
		fault, ok := all[name]
		if !ok {
			return fmt.Errorf("there is no fault %q", name)
		}
		f := &Fault{Name: name, From: now()}
		w.cfg.Logf("%s", name)
		faultCtx, cancel := context.WithTimeout(ctx, 90*time.Second)
		err := fault(faultCtx, w)
		cancel()
		f.To = now()
		if err != nil {
			f.Err = err.Error()
			w.cfg.Logf("%s: %v", name, err)
		}
		w.rec.add(record{Fault: f})
		if w.server.PID() == 0 {
			return fmt.Errorf("after %s the server does not run: %s", name, w.server.LogTail(5))
		}
	}
}

// endPrepared ends what writers prepared and could not commit.
func (w *world) endPrepared(ctx context.Context) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, "select gid from pg_prepared_xacts") // CollectRows has its error
		gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, gid := range gids {
			_, endErr := conn.Exec(ctx, "commit prepared '"+gid+"'")
			err = errors.Join(err, endErr)
		}
		return err
	})
}

// settle lets the nodes come to rest, ends them, and reads what they and the server recorded.
func (w *world) settle(ctx context.Context) (*History, error) {
	for _, step := range []struct{ tell, hear string }{{"quiet", "quiet"}, {"settle", "settled"}} {
		waiting, cancel := context.WithTimeout(ctx, 2*settleWithin)
		defer cancel()
		for _, p := range w.nodes {
			if err := p.tell(step.tell); err != nil {
				return nil, err
			}
		}
		for _, p := range w.nodes {
			if err := p.await(waiting, step.hear); err != nil {
				return nil, err
			}
		}
	}
	h := &History{Crashes: w.crashes}
	if err := w.readServer(ctx, h); err != nil {
		return nil, err
	}
	ending, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for _, p := range w.nodes {
		if err := p.finish(ending); err != nil {
			return nil, err
		}
	}
	if err := w.endStream(ending); err != nil {
		return nil, err
	}
	if err := w.left(ctx, h); err != nil {
		return nil, err
	}
	w.rec.flush()
	return h, w.load(h)
}

func (w *world) report(h *History) *Report {
	r := &Report{Seed: w.cfg.Seed, Version: w.server.Version(), Profile: w.cfg.Profile, Bell: w.cfg.Bell, Streamed: max(w.cfg.Streamed, 0), Dir: w.dir, Faults: map[string]int{}, NotRun: map[string]int{}, Crashes: len(w.crashes), History: h}
	r.Violations, r.Counts = Judge(h)
	for _, f := range h.Faults {
		if f.Err == "" {
			r.Faults[f.Name]++
		} else {
			r.NotRun[f.Name]++
		}
	}
	for _, n := range h.Nodes {
		if f := n.Final; f != nil {
			r.Slowest = max(r.Slowest, f.Took)
			r.Resyncs += f.Resyncs
			r.Replays += f.Replays
		}
	}
	return r
}

// close ends whatever still runs.
func (w *world) close() (err error) {
	for _, p := range w.nodes {
		if p.running() {
			_ = p.kill() // an error has come before
		}
		for _, proxy := range p.proxies() {
			proxy.Stop()
		}
	}
	w.closeStream()
	err = w.rec.close()
	if w.server != nil {
		err = errors.Join(err, w.server.Stop(pgserver.Immediate))
	}
	if w.disk != nil {
		err = errors.Join(err, w.disk.close())
	}
	return err
}

// String is a line about a run.
func (r *Report) String() string {
	made := 0
	for _, n := range r.Faults {
		made += n
	}
	return fmt.Sprintf("seed %d, PostgreSQL %d, %s traffic, bell %s, %d nodes on a stream: %d violations; %d faults of %d kinds, %d ends of the server; %s; %d replays and %d loads of everything in nodes that lived to the end, the slowest of which was well %v after the last fault",
		r.Seed, r.Version, r.Profile, r.Bell, r.Streamed, len(r.Violations), made, len(r.Faults), r.Crashes, r.Counts, r.Replays, r.Resyncs, r.Slowest.Round(time.Millisecond))
}
