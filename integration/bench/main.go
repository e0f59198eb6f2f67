// Command bench measures lockstep beside what one would use instead, on a
// private Postgres, and writes docs/benchmarks.md, its plots, and docs/benchmarks.json. What is compared
// runs interleaved, in one process group with one set of settings; each figure is
// the median of the rounds with the lowest and the highest beside it. Times are
// context, ratios are the result.
//
//	go run ./integration/bench                    all of it, about 26 minutes on two cores
//	go run ./integration/bench -only reads,load   parts, merged into what is there
//	go run ./integration/bench --quick            what is to be reached, scaled down; writes nothing
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgserver"
)

// bench is one run.
type bench struct {
	scale

	quick    bool
	print    io.Writer
	server   *pgserver.Server
	pool     *pgxpool.Pool
	part     string
	settings map[string]string // of what is measured now
	figures  []figure
}

// scale is how much is measured.
type scale struct {
	rounds  int           // how often each is measured
	span    time.Duration // of one round of writers
	writers []int         // how many at once
	rows    int           // of the large tables
	looks   int           // keys that are read in turn from memory
	look    time.Duration // of one round of reads
	commits int           // timed one by one in a round
	outbox  int           // rows of the largest outbox
	missed  int           // events of the cut that must not fill the memory
	nodes   int           // the most that follow writers
	idle    int           // nodes that do nothing
	fleet   int           // the most that follow directly, and over a stream
	watched time.Duration // for which each number of them is watched
	quiet   time.Duration // for which idle nodes are watched
}

// full is what docs/benchmarks.md is made of, small what --quick runs.
var (
	full = scale{
		rounds: 3, span: 2 * time.Second, writers: []int{1, 4, 16, 64}, rows: 1_000_000, looks: 500_000, look: 150 * time.Millisecond, commits: 200, outbox: 10_000_000,
		missed: 10_000_000, nodes: 64, idle: 100, quiet: 10 * time.Second, fleet: 200, watched: 2500 * time.Millisecond,
	}
	small = scale{
		rounds: 1, span: 500 * time.Millisecond, writers: []int{16, 64}, rows: 200_000, looks: 500_000, look: 150 * time.Millisecond, commits: 150, outbox: 200_000,
		missed: 200_000, nodes: 8, idle: 30, quiet: 2 * time.Second, fleet: 12, watched: 800 * time.Millisecond,
	}
)

// parts, in the order in which they run and stand on the page. Those of --quick have targets.
var parts = []struct {
	name, title string
	quick       bool
	run         func(context.Context, *bench) error
}{
	{"writes", "Writers", true, writes},
	{"statements", "Statements of many rows", true, statements},
	{"bells", "The bells", false, bells},
	{"propagation", "From commit to visible", true, propagation},
	{"reads", "Reads", true, reads},
	{"memory", "Memory", true, memory},
	{"load", "Loading", true, load},
	{"catchup", "Catching up", true, catchUp},
	{"restart", "Starting from a checkpoint", false, restart},
	{"fetches", "A fetch, and the size of the outbox", true, fetches},
	{"idle", "Idle nodes", true, idle},
	{"growth", "How cost grows", false, growth},
	{"fanout", "Many nodes: direct, and over NATS", true, fanout},
	{"bounded", "A cut that does not fit into memory", false, bounded},
	{"retention", "An outbox that trims itself", false, retention}, // 20 minutes: only where it is named
}

func names() string {
	var list []string
	for _, p := range parts {
		list = append(list, p.name)
	}
	return strings.Join(list, ",")
}

func main() {
	if help() {
		return
	}
	b := &bench{print: os.Stdout, scale: full}
	flag.BoolVar(&b.quick, "quick", false, "only what is to be reached, scaled down; writes nothing and exits 0 whatever it is")
	only := flag.String("only", strings.TrimSuffix(names(), ",retention"), "the parts to run; there is retention as well, which takes 20 minutes")
	out := flag.String("out", "docs", "the directory of benchmarks.md and benchmarks.json")
	flag.IntVar(&b.rounds, "rounds", full.rounds, "how often each is measured")
	flag.DurationVar(&b.span, "span", full.span, "how long writers write in a round")
	flag.IntVar(&b.rows, "rows", full.rows, "rows of the large tables")
	flag.IntVar(&b.outbox, "outbox", full.outbox, "rows of the largest outbox")
	flag.IntVar(&b.fleet, "fleet", full.fleet, "the most nodes that follow directly, and over a stream")
	flag.IntVar(&b.missed, "missed", full.missed, "events of the cut that must not fill the memory")
	flag.Parse()
	if b.quick {
		b.scale, *out = small, ""
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.all(ctx, strings.Split(*only, ","), *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// all runs the parts that are named, and publishes after each what it measured,
// if out names a directory.
func (b *bench) all(ctx context.Context, only []string, out string) (err error) {
	for _, name := range only {
		if !slices.Contains(strings.Split(names(), ","), name) {
			return fmt.Errorf("there is no part %q: there are %s", name, names())
		}
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	stop, err := b.serve(ctx, "replica")
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := stop(); err == nil {
			err = stopErr
		}
	}()
	fmt.Fprintln(b.print, settingsLine(b.settings))
	if b.quick {
		fmt.Fprintf(b.print, "scaled down: %d round of %v, %s rows, %s rows in the largest outbox, %d idle nodes for %v, %d on a stream for %v\n",
			b.rounds, b.span, grouped(int64(b.rows)), grouped(int64(b.outbox)), b.idle, b.quiet, b.fleet, b.watched)
	}
	for _, p := range parts {
		if !slices.Contains(only, p.name) || b.quick && !p.quick {
			continue
		}
		began := time.Now()
		fmt.Fprintf(b.print, "%s\n", p.name)
		b.part, b.figures = p.name, nil
		if err := p.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if out != "" {
			if err := publish(out, b.figures); err != nil {
				return err
			}
		}
		fmt.Fprintf(b.print, "  took %v\n", time.Since(began).Round(100*time.Millisecond))
		debug.FreeOSMemory() // what is left of one part is not the next one's
	}
	return nil
}
