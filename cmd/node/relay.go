package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox/stream"
	"github.com/pglockstep/lockstep/outbox/wal"
)

func relayCommand(o *options) *cobra.Command {
	var n natsFlags
	var cfg stream.RelayConfig
	var bell string
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Publish the log over NATS JetStream, for nodes that should not each ask Postgres",
		Long: `relay follows the outbox, holds no table, and publishes what it reads to a stream of NATS
JetStream, which it makes if it is not there. Nodes with serve --source stream, or lockstep.Config.Source,
follow that stream.

Several relays may run: one leads, and another takes over within two seconds of its end, within ten where it
no longer reaches NATS, and within 17 where it hangs. Its role needs
triggers/sql/grants_relay.sql.`,
		Example: `  lockstep relay --nats nats://nats-1:4222,nats://nats-2:4222 --replicas 3
  lockstep serve --source stream --nats nats://nats-1:4222 --table public.employees`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Retention <= 0 || cfg.MaxBytes <= 0 || cfg.Replicas <= 0 {
				return errors.New("--retention, --max-bytes and --replicas must be above 0")
			}
			servers, nats, err := n.options()
			if err != nil {
				return err
			}
			log := logger()
			slog.SetDefault(log)
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			cfg.Pool, cfg.Schema, cfg.Bell, cfg.WAL = pool, o.schema, lockstep.Bell(bell), wal.Bell{}
			cfg.URL, cfg.Options, cfg.Stream, cfg.Logger = servers, nats, n.stream, log
			relay, err := stream.NewRelay(cfg)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "relaying schema %s to stream %s\n", o.schema, n.stream)
			return relay.Run(cmd.Context())
		},
	}
	n.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&bell, "bell", string(lockstep.BellAuto), "auto (the one that install has put in place, else poll), notify, wal or poll")
	f.DurationVar(&cfg.Retention, "retention", 24*time.Hour, "how long the stream keeps messages")
	f.Int64Var(&cfg.MaxBytes, "max-bytes", 1<<30, "what the stream may take on NATS' disk, in bytes")
	f.IntVar(&cfg.Replicas, "replicas", 1, "on how many NATS servers the stream is kept")
	completeWords(cmd, "bell", string(lockstep.BellAuto), string(lockstep.BellNotify), string(lockstep.BellWAL), string(lockstep.BellPoll))
	return cmd
}
