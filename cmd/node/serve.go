package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
	"github.com/pglockstep/lockstep/cmd/node/internal/window"
	"github.com/pglockstep/lockstep/outbox/wal"
)

const serveHelp = `serve keeps tables in memory and serves them over HTTP:

  GET /v1/tables/{table}/rows/{key}  one row, as row_to_json gives it
  PUT, DELETE the same               with --writes: write the row to Postgres; it is visible here afterwards
  GET /v1/tables/{table}/rows        all rows of one instant, one a line; Lockstep-Position says which
  GET /v1/changes                    every change as it happens, as server-sent events; ?table=... for some tables
  POST /v1/tables/{table}/reload     load the table again, which lockstep verify --repair does
  POST /v1/cuts                      an instant of the node and of Postgres to compare, which lockstep verify does
  GET /v1/status                     what the node knows of itself
  GET /metrics                       the same for Prometheus
  GET /                              a page to look at it all with a browser
  GET /healthz, /readyz              the process runs; the tables are loaded

A table is named as SQL writes it and percent-encoded; a key is the JSON of the
key column, or a JSON array for a key of several, percent-encoded. A write answers with a
Lockstep-Token; a read that sends it, to any node, waits until it sees that write.

Whoever reaches the address may read the tables, so it is loopback. For another one with --listen
clients must send the token of --token-file or $LOCKSTEP_HTTP_TOKEN, and --tls-cert and --tls-key make it HTTPS.`

func serveCommand(o *options) *cobra.Command {
	s := &serveFlags{options: o}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep tables in memory and serve them over HTTP",
		Long:  serveHelp,
		Example: `  lockstep serve --table public.employees --table 'public."Odd Name"'
  curl http://127.0.0.1:8080/v1/tables/public.employees/rows/7
  curl http://127.0.0.1:8080/v1/tables/public.employees/rows/%22text-key%22
  curl http://127.0.0.1:8080/v1/tables/public.pairs/rows/%5B1%2C2%5D
  curl -i -X PUT -H 'Content-Type: application/json' -d '{"name":"Ann"}' http://127.0.0.1:8080/v1/tables/public.employees/rows/7`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(cmd); err != nil {
				return err
			}
			return s.run(cmd)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&s.tables, "table", nil, "table as SQL writes it, or schema.* for all that can be kept; may be given again")
	s.who.flags(cmd)
	s.from.flags(cmd)
	f.BoolVar(&s.pages.Writes, "writes", false, "let clients write rows with PUT and DELETE; default: rows are read only")
	f.IntVar(&s.pages.MaxStreams, "max-streams", 100, "how many streams of changes there may be")
	f.IntVar(&s.pages.Window, "window", 8<<20, "memory of the recent changes that a stream can resume from, in bytes")
	f.Int64Var(&s.pages.MaxBody, "max-body", 1<<20, "largest row that a client may send, in bytes")
	f.StringVar(&s.cfg.Name, "name", "", "the node's name; default: host and process id")
	f.StringVar(&s.cfg.Checkpoint, "checkpoint", "", "directory for a checkpoint, with which the node of this --name begins again; it holds rows; default: none")
	f.DurationVar(&s.cfg.CheckpointEvery, "checkpoint-every", 5*time.Minute, "time between two checkpoints; one more is written at the end")
	s.keep.flags(cmd, &s.cfg)
	f.StringVar(&s.bell, "bell", string(lockstep.BellAuto), "auto (the one that install has put in place, else poll), notify, wal or poll")
	f.DurationVar(&s.pages.MaxStale, "max-stale", 0, "make /readyz fail when the node is staler than this; default: an outage leaves it ready")
	completeWords(cmd, "bell", string(lockstep.BellAuto), string(lockstep.BellNotify), string(lockstep.BellWAL), string(lockstep.BellPoll))
	return cmd
}

// serveFlags are what serve is told.
type serveFlags struct {
	*options

	tables []string
	cfg    lockstep.Config
	bell   string
	who    access
	from   sourceFlags
	keep   keepFlags
	pages  serve.Options
}

// check says what cannot be, before anything is done.
func (s *serveFlags) check(cmd *cobra.Command) error {
	if len(s.tables) == 0 {
		return errors.New("serve needs a --table, such as --table public.employees or --table 'public.*'")
	}
	if s.pages.MaxBody <= 0 || s.pages.MaxStreams <= 0 || s.pages.Window <= 0 {
		return errors.New("--max-body, --max-streams and --window must be above 0")
	}
	if err := checkpointFlags(cmd, s.cfg); err != nil {
		return err
	}
	if err := s.keep.check(&s.cfg); err != nil {
		return err
	}
	feed, err := s.from.feed(cmd)
	if err == nil && feed != nil {
		s.cfg.Source = *feed
	}
	return err
}

// run serves until it is told to stop.
func (s *serveFlags) run(cmd *cobra.Command) error {
	ctx, log := cmd.Context(), logger()
	slog.SetDefault(log)
	in, err := s.who.read()
	if err != nil {
		return err
	}
	pool, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	names, err := expand(ctx, pool, s.schema, s.tables, cmd.ErrOrStderr(), true)
	if err != nil {
		return err
	}
	declared, err := declare(ctx, pool, names)
	if err != nil {
		return err
	}
	// The port first: who loads a million rows to learn that it is taken?
	l, err := in.open(log)
	if err != nil {
		return err
	}
	in.admit(&s.pages)
	page := newPage(pool, s.schema, &s.pages)
	served := &served{pages: serve.New(declared, s.pages), page: page, tls: in.tls, say: func(n int) {
		fmt.Fprintf(cmd.OutOrStdout(), "serving %d tables on %s\n", n, in.url(l))
	}}
	s.cfg.Schema, s.cfg.Bell, s.cfg.WAL, s.cfg.Logger = s.schema, lockstep.Bell(s.bell), wal.Bell{}, log
	return served.run(ctx, l, pool, s.cfg, declared)
}

// keepFlags say how the outbox is kept, and how the node is held to it. 0 says that this node does without.
type keepFlags struct {
	retention time.Duration
	loads     int
}

func (k *keepFlags) flags(cmd *cobra.Command, cfg *lockstep.Config) {
	f := cmd.Flags()
	f.DurationVar(&k.retention, "retention", 24*time.Hour, "how long events stay in the outbox, where this node may trim it; the shortest of all nodes counts; 0: this node does not trim")
	f.Int64Var(&cfg.RetentionRows, "retention-rows", 0, "how many events stay, besides what a node seen within the last hour lacks; default: any number")
	f.IntVar(&k.loads, "max-loads", 2, "how many nodes may load all of their tables at a time; 0: this node does not wait for a turn")
	f.Int64Var(&cfg.MaxBytes, "max-bytes", 0, "memory that the tables may take, in bytes: what would exceed it is refused, by name; default: any")
	f.IntVar(&cfg.Audit, "audit", 0, "how many rows a second are held against Postgres all the while; those that are wrong are named in the log and counted; default: none")
	f.DurationVar(&cfg.Beat, "beat", 250*time.Millisecond, "longest time between two looks for changes, twice as long where nothing has come for some time and a bell would ring: what a lost ring costs; below a second")
}

// check takes the flags over, or says which of them cannot be.
func (k *keepFlags) check(cfg *lockstep.Config) error {
	switch {
	case k.retention < 0 || cfg.RetentionRows < 0 || k.loads < 0 || cfg.MaxBytes < 0 || cfg.Audit < 0:
		return errors.New("--retention, --retention-rows, --max-loads, --max-bytes and --audit must be 0 or above")
	case k.retention == 0 && cfg.RetentionRows > 0:
		return errors.New("--retention-rows needs a --retention above 0: at 0 this node does not trim")
	case cfg.Beat <= 0 || cfg.Beat >= time.Second:
		return fmt.Errorf("--beat %v: it must be above 0 and below 1s, within which a node calls itself live", cfg.Beat)
	}
	cfg.Retention, cfg.MaxLoads = cmp.Or(k.retention, -1), cmp.Or(k.loads, -1)
	return nil
}

// checkpointFlags checks what Start would take for something else, or find out late.
func checkpointFlags(cmd *cobra.Command, cfg lockstep.Config) error {
	switch {
	case cfg.Checkpoint != "" && cfg.Name == "":
		return errors.New("--checkpoint needs a --name that stays the same: the checkpoint is that node's")
	case cfg.CheckpointEvery <= 0:
		return errors.New("--checkpoint-every must be above 0")
	case cfg.Checkpoint == "" && cmd.Flags().Changed("checkpoint-every"):
		return errors.New("--checkpoint-every needs --checkpoint")
	}
	return nil
}

// logger logs JSON lines, without passwords, where errors go.
func logger() *slog.Logger {
	return slog.New(zerolog.NewSlogHandler(zerolog.New(scrubbed{os.Stderr}).With().Timestamp().Logger()))
}

// declare declares each table once, under its full name and as it was spelled.
func declare(ctx context.Context, pool *pgxpool.Pool, names []string) (*serve.Tables, error) {
	full := make([]string, len(names))
	for i, name := range names {
		var err error
		if full[i], err = fullName(ctx, pool, name); err != nil {
			return nil, err
		}
	}
	declared := serve.Declare(slices.Clone(full))
	for i, name := range names {
		declared.Alias(name, full[i])
	}
	return declared, nil
}

// served is a node over HTTP.
type served struct {
	pages *serve.Handler
	page  *window.Window
	tls   *tls.Config      // nil: plain HTTP
	say   func(tables int) // once they are loaded
}

// run serves until the context ends, then lets requests finish. Requests are
// answered while the tables load, if only to say so: a long load must not look
// like a process that hangs.
func (s *served) run(ctx context.Context, l net.Listener, pool *pgxpool.Pool, cfg lockstep.Config, declared *serve.Tables) error {
	server := &http.Server{
		Handler: s.pages, TLSConfig: s.tls, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, // which a stream of rows puts off as it goes
		IdleTimeout:  2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(s.pages.End) // a stream would never finish
	server.RegisterOnShutdown(s.page.End)
	defer s.page.End()
	ended := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			ended <- server.ServeTLS(l, "", "") // its certificate is in the configuration
			return
		}
		ended <- server.Serve(l)
	}()
	node, err := lockstep.Start(ctx, pool, cfg, declared.Any()...)
	if err == nil {
		s.pages.Ready(node)
		s.page.Add(window.Local(node, window.Documents(declared.Any())...))
		s.say(len(declared.Any()))
		select {
		case err = <-ended:
		case <-ctx.Done():
		}
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if e := server.Shutdown(closing); e != nil {
		_ = server.Close() // a client that reads for longer than that is left
	}
	if node != nil {
		err = errors.Join(err, node.Close(closing))
	}
	return err
}
