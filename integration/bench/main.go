// Command bench measures lockstep beside what one would use instead, on a
// private Postgres, and prints ratios. What is compared runs interleaved, in one process
// group with one set of settings; each figure is the median of the rounds with
// the lowest and the highest beside it. Times are context, ratios are the result.
//
//	go run ./integration/bench            all of it
//	go run ./integration/bench -only get  one part
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/triggers"
)

// bench is one run: a server, and how long to measure.
type bench struct {
	server *pgserver.Server
	pool   *pgxpool.Pool
	rounds int
	span   time.Duration // of one round of writers
	rows   int           // of the large tables
}

var parts = []struct {
	name string
	run  func(context.Context, *bench) error
}{
	{"writes", writes},
	{"bells", bells},
	{"statements", statements},
	{"propagation", propagation},
	{"get", get},
	{"load", load},
	{"catchup", catchUp},
	{"restart", restart},
	{"retention", retention}, // minutes: only where it is named
}

func main() {
	only := flag.String("only", "", "one part: writes, bells, statements, propagation, get, load, catchup, restart, retention")
	rounds := flag.Int("rounds", 5, "how often each is measured")
	span := flag.Duration("span", 2*time.Second, "how long writers write in a round")
	rows := flag.Int("rows", 1_000_000, "rows of the large tables")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *only, &bench{rounds: *rounds, span: *span, rows: *rows})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, b *bench) (err error) {
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
	if err := triggers.Install(ctx, b.pool, triggers.Options{}); err != nil {
		return err
	}
	fmt.Printf("%d cores, PostgreSQL %d.%d, fsync on, synchronous_commit on unless said otherwise, %s, %d rounds\n",
		runtime.NumCPU(), b.server.Version()/10000, b.server.Version()%10000, runtime.Version(), b.rounds)
	for _, p := range parts {
		if only != p.name && (only != "" || p.name == "retention") {
			continue
		}
		fmt.Printf("\n%s\n%s\n", p.name, strings.Repeat("-", len(p.name)))
		if err := p.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// serve starts the server that is measured.
func (b *bench) serve(ctx context.Context, walLevel string) (stop func() error, err error) {
	b.server, err = pgserver.Start(ctx, pgserver.Config{Settings: map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "1GB",
		"max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum_naptime": "10s", "wal_level": walLevel,
	}})
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(b.server.DSN("postgres"))
	if err == nil {
		cfg.MaxConns = 100
		b.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	}
	if err != nil {
		return nil, errors.Join(err, b.server.Stop(pgserver.Fast))
	}
	return func() error {
		b.pool.Close()
		return b.server.Stop(pgserver.Fast)
	}, nil
}

// exec runs each piece of SQL on its own: VACUUM must not be in a transaction.
func (b *bench) exec(ctx context.Context, sql ...string) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for _, s := range sql {
		if _, err := conn.Conn().PgConn().Exec(ctx, s).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}
