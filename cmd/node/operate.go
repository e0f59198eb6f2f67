package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep/internal/human"
	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
)

func statusCommand(o *options) *cobra.Command {
	var watch, asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Every registered node and the outbox, as the database knows them",
		Long: `status reads the register of nodes and the outbox.

A node writes its row every few seconds, one on a stream has the relay write it every ten minutes:
"behind" is what its position did not cover at that beat, and "staleness" how long ago it had last looked
for changes then. A node whose last beat is older has ended, or reaches neither. What nobody has told is "?".`,
		Example: `  lockstep status
  lockstep status --watch
  lockstep status --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch && asJSON {
				return errors.New("--watch and --json do not go together")
			}
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			out := cmd.OutOrStdout()
			for first := true; ; first = false {
				v, err := outbox.Look(cmd.Context(), pool, o.schema)
				switch {
				case watch && cmd.Context().Err() != nil:
					return nil
				case err != nil && first:
					return err
				case err != nil: // whoever watches an outage wants to see its end
					fmt.Fprintf(out, "%s: %s\n", time.Now().Format(time.TimeOnly), oneLine(err))
				case asJSON:
					enc := json.NewEncoder(out)
					enc.SetIndent("", "  ")
					return enc.Encode(v)
				case watch:
					fmt.Fprintf(out, "\x1b[H\x1b[2J%s\n", time.Now().Format(time.DateTime))
					sayOverview(out, v)
				default:
					sayOverview(out, v)
				}
				if !watch || !pause.For(cmd.Context(), 2*time.Second) {
					return nil
				}
			}
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "again every two seconds, until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func sayOverview(out io.Writer, v *outbox.Overview) {
	oldest := "it is empty"
	if !v.Oldest.IsZero() {
		oldest = "the oldest event is of " + v.Oldest.Local().Format(time.DateTime)
	}
	fmt.Fprintf(out, "outbox: about %d rows, %s; %s; %.1f events/s in the last minute; bell %s\n", v.Rows, human.Bytes(v.Bytes), oldest, v.Rate, v.Bell)
	fmt.Fprintf(out, "horizon: transaction %d, moved %s\n", v.Horizon, v.Trimmed.Local().Format(time.DateTime))
	for _, who := range []string{v.OldestWriter, v.OldestPrepared} {
		if who != "" {
			fmt.Fprintf(out, "nothing newer can be trimmed than %s\n", who)
		}
	}
	if v.LogKept > 0 {
		fmt.Fprintf(out, "nodes that read the server's log keep %s of it\n", human.Bytes(v.LogKept))
	}
	if v.Relay != nil {
		fmt.Fprintf(out, "a relay leads on %s since %s\n", cmp.Or(v.Relay.Host, "?"), v.Relay.Since.Local().Format(time.DateTime))
	}
	if len(v.Nodes) == 0 {
		fmt.Fprintln(out, "no node has registered")
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\nnode\tstate\tstaleness\tbehind\tposition\tlast beat\tbell\tversion\thost")
	for _, n := range v.Nodes {
		stale := "?"
		if n.Staleness != nil {
			stale = seconds(*n.Staleness)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s ago\t%s\t%d\t%s\n", n.Name, n.State, stale, behind(n), short(n.Position), seconds(n.Age), cmp.Or(n.Bell, "?"), n.Version, n.Host)
	}
	_ = w.Flush() // to a terminal or a pipe
}

func behind(n outbox.NodeSeen) string {
	switch {
	case n.Position == "":
		return "everything"
	case n.Behind == 0:
		return "-"
	case n.Behind > 100_000:
		return fmt.Sprintf("over 100000 events, %s", seconds(n.BehindSeconds))
	}
	return fmt.Sprintf("%d events, %s", n.Behind, seconds(n.BehindSeconds))
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// short leaves out the middle of a position with many transactions in flight.
func short(position string) string {
	if len(position) <= 48 {
		return position
	}
	return position[:45] + "..."
}

func trimCommand(o *options) *cobra.Command {
	var t outbox.TrimOptions
	var past bool
	cmd := &cobra.Command{
		Use:   "trim",
		Short: "Delete old events from the outbox now; nodes do so by themselves",
		Long: `trim deletes events that are older than --keep, in small transactions, oldest first.

What a node seen within the last hour has not fetched stays, unless it is older than
--hard or --past-nodes is given: such a node then loads its tables again. Nothing is
deleted past a transaction that is still in flight; status names it.`,
		Example: `  lockstep trim
  lockstep trim --keep 2h
  lockstep trim --keep-rows 1000000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t.KeepAge <= 0 || t.KeepRows < 0 || t.HardAge < 0 {
				return errors.New("trim needs a --keep above 0, such as 24h, and no negative limit")
			}
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			t.Schema = o.schema
			if past {
				t.Spare = -1
			}
			done, err := outbox.Trim(cmd.Context(), pool, t)
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%d events deleted in %d steps\n", done.Deleted, done.Steps)
			if err != nil {
				return err
			}
			v, err := outbox.Look(cmd.Context(), pool, o.schema)
			if err != nil {
				return err
			}
			sayOverview(out, v)
			return nil
		},
	}
	f := cmd.Flags()
	f.DurationVar(&t.KeepAge, "keep", 24*time.Hour, "how old an event may become")
	f.Int64Var(&t.KeepRows, "keep-rows", 0, "how many events may stay; default: any number")
	f.DurationVar(&t.HardAge, "hard", 0, "how old an event may become whoever needs it; default: 7 times --keep, 24h at least")
	f.BoolVar(&past, "past-nodes", false, "delete what nodes have not fetched, too: such a node loads its tables again")
	return cmd
}
