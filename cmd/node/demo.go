package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep/cmd/node/internal/demo"
)

func demoCommand(o *options) *cobra.Command {
	d := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "A cluster in one command: Postgres, three nodes, traffic, an outage, the account",
		Long: `demo starts a private Postgres, three node processes and a company's traffic, cuts
one node off while writes go on, heals it, and compares every node with Postgres
row by row. Nothing is left behind. Exit status 1 if any row differs.

With --dsn it uses your own server, in schemas of its own that it drops at the end.`,
		Example: `  lockstep demo
  lockstep demo --once
  lockstep demo --nodes 5 --rate 500 --duration 30s
  lockstep demo --dsn postgres://me@db.example/test`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.Nodes < 1 || d.Rate < 1 || d.Duration < 3*time.Second {
				return errors.New("demo needs at least 1 node, 1 transaction a second and a duration of 3s")
			}
			d.DSN, d.Out = o.dsn, cmd.OutOrStdout()
			if d.DSN != "" {
				pool, err := o.connect(cmd.Context()) // says what is wrong with it
				if err != nil {
					return err
				}
				pool.Close()
			}
			return demo.Run(cmd.Context(), d)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.Once, "once", false, "end after one round; else go on until interrupted")
	f.IntVar(&d.Nodes, "nodes", 3, "node processes")
	f.IntVar(&d.Rate, "rate", 200, "transactions a second")
	f.DurationVar(&d.Duration, "duration", 12*time.Second, "of a round; the outage is in its middle")
	return cmd
}

// demoNodeCommand is a node process of the demo.
func demoNodeCommand() *cobra.Command {
	var name, company, schema string
	cmd := &cobra.Command{
		Use:     "demo-node",
		Short:   "A node process of the demo",
		Example: "  (started by lockstep demo)",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := pgxpool.ParseConfig(os.Getenv("LOCKSTEP_DSN"))
			if err != nil {
				return fmt.Errorf("demo-node is started by lockstep demo: %w", err)
			}
			secrets = append(secrets, cfg.ConnConfig.Password)
			return demo.RunNode(context.Background(), name, company, schema, os.Stdin, os.Stdout)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the node's name")
	cmd.Flags().StringVar(&company, "company", "", "the company's schema")
	cmd.Flags().StringVar(&schema, "log-schema", "", "the outbox's schema")
	return cmd
}
