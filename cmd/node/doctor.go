package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep/internal/doctor"
)

// What doctor ends with where something was found; it has been printed.
var (
	errWrong    = errors.New("something is wrong: see above")
	errWarnings = exitError{2, errors.New("something will be wrong: see above")}
)

// exitError ends the command with a status of its own.
type exitError struct {
	status int
	err    error
}

func (e exitError) Error() string { return e.err.Error() }

func doctorCommand(o *options) *cobra.Command {
	var d doctor.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the server and the install for what bites nodes, with the reason and the mend",
		Long: `doctor examines the server and the install for what is wrong, what will be, and what is
good to know, each with the reason and the mend. It only reads. A node's role sees most of it; what
a role may not see is said. Before the install it examines the server.

Exit status: 0 nothing to mend, 1 something is wrong or the server cannot be asked, 2 warnings only.`,
		Example: `  lockstep doctor
  lockstep doctor --json
  lockstep doctor --retention 6h --max-outbox 50000000000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.Retention <= 0 || d.MaxOutbox <= 0 || d.Long <= 0 {
				return errors.New("--retention, --max-outbox and --long must be above 0")
			}
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			d.Schema = o.schema
			r, err := doctor.Examine(cmd.Context(), pool, d)
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if asJSON {
				enc := json.NewEncoder(&out)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				err = enc.Encode(r)
			} else {
				sayReport(&out, r)
			}
			fmt.Fprint(cmd.OutOrStdout(), scrub(out.String()))
			switch {
			case err != nil:
				return err
			case r.Count(doctor.Wrong) > 0:
				return errWrong
			case r.Count(doctor.Warning) > 0:
				return errWarnings
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "as JSON")
	f.DurationVar(&d.Retention, "retention", 24*time.Hour, "what the nodes' Config.Retention is")
	f.Int64Var(&d.MaxOutbox, "max-outbox", 10<<30, "how large the outbox may become, in bytes")
	f.DurationVar(&d.Long, "long", 5*time.Minute, "how long a transaction may take")
	f.StringVar(&d.Owner, "owner", "", "role that owns the functions; default: the schema's name and _capture")
	return cmd
}

// sayReport prints the findings, the worst first: what, and below it why and how to mend it.
func sayReport(out io.Writer, r *doctor.Report) {
	managed := ""
	if r.Provider != "" {
		managed = " (" + r.Provider + ")"
	}
	fmt.Fprintf(out, "PostgreSQL %s%s, database %s, schema %s, as role %s\n\n", r.Server, managed, r.Database, r.Schema, r.Role)
	for _, f := range r.Findings {
		fmt.Fprintf(out, "%-8s %s: %s\n", f.Level, f.Check, f.What)
		fmt.Fprintf(out, "         why: %s\n", f.Why)
		if f.Mend != "" {
			fmt.Fprintf(out, "         mend: %s\n", f.Mend)
		}
		for _, d := range f.Detail {
			fmt.Fprintf(out, "         %s\n", d)
		}
	}
	fmt.Fprintf(out, "\n%d checks: %s\n", len(r.Checked), strings.Join(r.Checked, ", "))
	fmt.Fprintf(out, "%d wrong, %d warnings, %d not seen, %d notes\n", r.Count(doctor.Wrong), r.Count(doctor.Warning), r.Count(doctor.Unseen), r.Count(doctor.Note))
}
