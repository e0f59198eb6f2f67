package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/demo"
)

func demoCommand(o *options) *cobra.Command {
	d := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "A cluster in one command: Postgres, three nodes, traffic, an outage, the account",
		Long: `demo starts a private Postgres, three node processes and a company's traffic, cuts
one node off while writes go on, heals it, and compares every node with Postgres
row by row. Nothing is left behind. Exit status 1 if any row differs, or a node had
to load its tables again.

It prints the address of a page that shows all of it. The page has buttons: once one is
pressed, what happens is up to you, and the script rests.

With --fanout the nodes follow a stream of NATS JetStream, which the demo runs with its files in a temporary
directory, and which a relay fills. NATS has an outage as well: the nodes follow Postgres
directly meanwhile, and return by themselves.

With --dsn it uses your own server, in schemas of its own that it drops at the end; it
takes the password from PGPASSWORD or a password file too. $LOCKSTEP_DSN is left alone.`,
		Example: `  lockstep demo
  lockstep demo --once
  lockstep demo --fanout
  lockstep demo --nodes 5 --rate 500 --duration 30s
  lockstep demo --dsn postgres://me@db.example/test`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.Nodes < 1 || d.Rate < 1 || d.Duration < 3*time.Second {
				return errors.New("demo needs at least 1 node, 1 transaction a second and a duration of 3s")
			}
			d.DSN, d.Out = o.dsn, cmd.OutOrStdout()
			// Unasked for, it would kill a demo whose reader has gone (lockstep demo | head):
			// what was made on a server must be dropped then, too.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			if d.DSN == "" {
				forgetServer()
				return demo.Run(cmd.Context(), d)
			}
			pool, err := o.connect(cmd.Context()) // says what is wrong with it
			if err != nil {
				return err
			}
			pool.Close()
			return demo.Run(cmd.Context(), d)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.Once, "once", false, "end after one round; else go on until interrupted")
	f.BoolVar(&d.Fanout, "fanout", false, "the nodes follow NATS JetStream, which has an outage as well")
	f.IntVar(&d.Nodes, "nodes", 3, "node processes")
	f.IntVar(&d.Rate, "rate", 200, "transactions a second")
	f.StringVar(&d.Page, "page", "127.0.0.1:0", "loopback address of the page, or off; default: a free port, which is printed")
	f.DurationVar(&d.Duration, "duration", 12*time.Second, "of a round; the outage takes its middle third")
	return cmd
}

// forgetServer takes the PG* variables away, which speak of another server than
// the private one and would change how that is reached.
func forgetServer() {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name) // it was set
		}
	}
}

// demoNodeCommand is a node process of the demo.
func demoNodeCommand() *cobra.Command {
	var name, company, schema, proxy, nats string
	cmd := &cobra.Command{
		Use:     "demo-node",
		Short:   "A node process of the demo",
		Example: "  (started by lockstep demo)",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if proxy == "" {
				return errors.New("demo-node is started by lockstep demo")
			}
			cfg, err := parse(os.Getenv("LOCKSTEP_DSN"))
			if err != nil {
				return err
			}
			node := lockstep.Config{Name: name, Schema: schema}
			return demo.RunNode(cmd.Context(), cfg, proxy, nats, node, company, os.Stdin, os.Stdout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "the node's name")
	f.StringVar(&company, "company", "", "the company's schema")
	f.StringVar(&schema, "log-schema", "", "the outbox's schema")
	f.StringVar(&proxy, "proxy", "", "address by which it reaches Postgres")
	f.StringVar(&nats, "nats", "", "address by which it reaches NATS; default: it asks Postgres")
	return cmd
}

// demoBrokerCommand is the NATS server of the demo.
func demoBrokerCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "demo-broker DIR",
		Short:   "The NATS server of the demo",
		Example: "  (started by lockstep demo)",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return demo.RunBroker(args[0], os.Stdin, os.Stdout) },
	}
}
