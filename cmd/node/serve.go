package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

func serveCommand(o *options) *cobra.Command {
	var tables []string
	var listen, name, bell string
	var maxStale time.Duration
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep tables in memory and serve them over HTTP",
		Long: `serve keeps tables in memory and serves them over HTTP:

  GET /v1/tables/{table}/rows/{key}  one row, as row_to_json gives it
  GET /v1/tables/{table}/rows        all rows of one instant, one a line; Lockstep-Position says which
  GET /v1/status                     what the node knows of itself
  GET /healthz, /readyz              the process runs; the tables are loaded

A table is named as SQL writes it and percent-encoded; a key is the JSON of the
key column, or a JSON array for a key of several, percent-encoded.`,
		Example: `  lockstep serve --table public.employees --table 'public."Odd Name"'
  curl http://127.0.0.1:8080/v1/tables/public.employees/rows/7
  curl http://127.0.0.1:8080/v1/tables/public.employees/rows/%22text-key%22
  curl http://127.0.0.1:8080/v1/tables/public.pairs/rows/%5B1%2C2%5D`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(tables) == 0 {
				return errors.New("serve needs a --table, such as --table public.employees or --table 'public.*'")
			}
			log := slog.New(zerolog.NewSlogHandler(zerolog.New(os.Stderr).With().Timestamp().Logger()))
			slog.SetDefault(log)
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			names, err := expand(cmd.Context(), pool, o.schema, tables, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			// The port first: who loads a million rows to learn that it is taken?
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("cannot listen on %s: %w (choose another address with --listen)", listen, err)
			}
			cfg := lockstep.Config{Name: name, Schema: o.schema, Bell: lockstep.Bell(bell), Logger: log}
			declared := serve.Declare(names)
			node, err := lockstep.Start(cmd.Context(), pool, cfg, declared.Any()...)
			if err != nil {
				_ = l.Close()
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "serving %d tables on http://%s\n", len(names), l.Addr())
			return run(cmd.Context(), l, node, serve.Handler(node, declared, maxStale))
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&tables, "table", nil, "table as SQL writes it, or schema.* for all that can be kept; may be given again")
	f.StringVar(&listen, "listen", "127.0.0.1:8080", "address to serve on")
	f.StringVar(&name, "name", "", "the node's name; default: host and process id")
	f.StringVar(&bell, "bell", "", "notify or poll; default: notify where it works")
	f.DurationVar(&maxStale, "max-stale", 0, "make /readyz fail when the node is staler than this; default: an outage leaves it ready")
	return cmd
}

// run serves until the context ends, then lets requests finish.
func run(ctx context.Context, l net.Listener, node *lockstep.Node, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if e := server.Shutdown(closing); err == nil {
		err = e
	}
	if e := node.Close(closing); err == nil {
		err = e
	}
	return err
}
