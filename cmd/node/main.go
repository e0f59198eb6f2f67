// Command lockstep runs nodes on Postgres tables: a demo cluster, a node
// served over HTTP, and what it takes to install, inspect and remove capture.
//
// Build it with: go build -o lockstep ./cmd/node
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	// The first use of a process handle makes the standard library try out clone with a
	// child that shares our memory and has our signal handlers. A Ctrl-C, which reaches every
	// process of the group, would run one of them there and break this process
	// ("fatal: morestack on gsignal"): have it tried before there is anything to leave behind.
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Release() // nothing was opened for long
	}
	// A closed terminal counts: what was started must be stopped then, too.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // whoever interrupts twice does not want to wait
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lockstep: "+oneLine(err))
		status := 1
		if e := (exitError{}); errors.As(err, &e) {
			status = e.status
		}
		os.Exit(status)
	}
}

// options are the flags that most commands share.
type options struct {
	dsn    string
	schema string
}

func root() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "lockstep",
		Short: "Postgres tables in memory, in lockstep with the database",
		Long: `lockstep keeps Postgres tables in the memory of many processes and keeps them right:
triggers write an outbox, every node applies whole transactions in order, and a
node that was cut off replays what it missed instead of loading everything again.`,
		Example: `  lockstep demo
  lockstep install --table public.employees
  lockstep serve --table public.employees --listen 127.0.0.1:8080`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.PersistentFlags().StringVar(&o.dsn, "dsn", "", "connection string; default: $LOCKSTEP_DSN, else the PG* variables (process lists show flags)")
	cmd.PersistentFlags().StringVar(&o.schema, "schema", "lockstep", "schema that holds the outbox")
	cmd.AddCommand(demoCommand(&o), demoNodeCommand(), demoBrokerCommand(), serveCommand(&o), installCommand(&o), uninstallCommand(&o), inspectCommand(&o), doctorCommand(&o),
		statusCommand(&o), verifyCommand(&o), replayCommand(&o), relayCommand(&o), trimCommand(&o), versionCommand())
	return cmd
}
