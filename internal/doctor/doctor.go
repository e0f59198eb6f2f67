// Package doctor examines a server and an install for what bites nodes there:
// what is wrong now, what will be, and what is good to know, each with the
// reason and the mend.
//
// It only reads, and takes no lock that a writer would notice. What a role may
// not see is itself a finding.
package doctor

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/psql"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

//go:embed sql/*.sql
var files embed.FS

// Level is how bad a finding is.
type Level string

// The levels, the worst first.
const (
	Wrong   Level = "wrong"   // nodes are not served, or not told, as they should be
	Warning Level = "warning" // nothing is wrong yet, or only slow
	Unseen  Level = "unseen"  // this role may not look
	Note    Level = "note"    // good to know; nothing to do
)

var levels = []Level{Wrong, Warning, Unseen, Note}

// Finding is one thing that was found. What, Why and Mend are one line each.
type Finding struct {
	Check  string   `json:"check"` // one of the checks' names
	Level  Level    `json:"level"`
	What   string   `json:"what"`
	Why    string   `json:"why"`              // what it does to nodes or to the database
	Mend   string   `json:"mend,omitempty"`   // what to run; "" for most notes
	Detail []string `json:"detail,omitempty"` // more of what was seen
}

// Report is what an examination found.
type Report struct {
	Server    string    `json:"server"`             // the version, as the server says it
	Provider  string    `json:"provider,omitempty"` // of a managed server, as its roles tell
	Database  string    `json:"database"`
	Role      string    `json:"role"`
	Schema    string    `json:"schema"`
	Installed bool      `json:"installed"`
	Checked   []string  `json:"checked"` // the names of the checks that were made
	Findings  []Finding `json:"findings"`
}

// Count is how many findings of a level there are.
func (r *Report) Count(l Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Options are what is looked for. The zero value is good.
type Options struct {
	// Schema holds the outbox. Default "lockstep".
	Schema string
	// Owner is the role that owns the functions. Default: as triggers.Options has it.
	Owner string
	// Retention is what nodes are configured with. Default 24 h.
	Retention time.Duration
	// MaxOutbox is how large the outbox may become, in bytes. Default 10 GB.
	MaxOutbox int64
	// Long is how long a transaction may take. Default 5 min.
	Long time.Duration
	// OldXids is how many transactions old a snapshot of a slot or a standby may
	// be. Default 1,000,000.
	OldXids int64
	// MaxWAL is how much of the log an idle slot may keep, in bytes. Default 1 GB.
	MaxWAL int64
	// QueueUse is how full the notification queue may be, from 0 to 1. Default 0.1.
	QueueUse float64
	// DeadRows is how many dead rows the outbox may have, however few live ones
	// there are. Default 100,000.
	DeadRows int64
}

func (o Options) withDefaults() Options {
	o.Schema = cmp.Or(o.Schema, triggers.DefaultSchema)
	o.Retention = cmp.Or(o.Retention, 24*time.Hour)
	o.MaxOutbox = cmp.Or(o.MaxOutbox, 10<<30)
	o.Long = cmp.Or(o.Long, 5*time.Minute)
	o.OldXids = cmp.Or(o.OldXids, 1_000_000)
	o.MaxWAL = cmp.Or(o.MaxWAL, 1<<30)
	o.QueueUse = cmp.Or(o.QueueUse, 0.1)
	o.DeadRows = cmp.Or(o.DeadRows, 100_000)
	return o
}

// exam is one examination.
type exam struct {
	Options
	pool   *pgxpool.Pool
	report *Report
	server server
	tables []triggers.Table
	log    *outbox.Overview // nil: it could not be read
	size   *logSize         // the same
}

// check is one thing to look for.
type check struct {
	name    string
	install bool // needs an install
	run     func(*exam, context.Context) error
}

var checks = []check{
	{"server", false, (*exam).checkServer},
	{"pooler", false, (*exam).checkPooler},
	{"replication role", false, (*exam).checkReplicationRole},
	{"publications", false, (*exam).checkPublications},
	{"two-phase commit", false, (*exam).checkTwoPhase},
	{"prepared transactions", false, (*exam).checkPrepared},
	{"long transactions", false, (*exam).checkTransactions},
	{"old snapshots", false, (*exam).checkSlots},
	{"notification queue", false, (*exam).checkQueue},
	{"drift", true, (*exam).checkDrift},
	{"row-level security", true, (*exam).checkPolicies},
	{"subscriptions", true, (*exam).checkSubscriptions},
	{"a node's session", true, (*exam).checkSession},
	{"bell", true, (*exam).checkBell},
	{"nodes", true, (*exam).checkNodes},
	{"trimming", true, (*exam).checkTrimming},
	{"vacuum", true, (*exam).checkVacuum},
	{"growth", true, (*exam).checkGrowth},
}

// Examine makes all checks. A role with a reader's grants sees most, and any
// role something; what was denied is reported as Unseen. An error means that
// the server could not be asked.
func Examine(ctx context.Context, pool *pgxpool.Pool, o Options) (*Report, error) {
	e := &exam{Options: o.withDefaults(), pool: pool, report: &Report{Checked: []string{}, Findings: []Finding{}}}
	e.report.Schema = e.Schema
	if err := e.ask(ctx); err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	for _, c := range checks {
		if c.install && !e.report.Installed {
			continue
		}
		err := c.run(e, ctx)
		switch {
		case err == nil:
			e.report.Checked = append(e.report.Checked, c.name)
		case denied(err) != "":
			e.add(Finding{Check: c.name, Level: Unseen, What: denied(err), Why: "this was not examined", Mend: e.readerGrants()})
		default:
			return nil, fmt.Errorf("doctor: %s: %w", c.name, err)
		}
	}
	slices.SortStableFunc(e.report.Findings, func(a, b Finding) int {
		return slices.Index(levels, a.Level) - slices.Index(levels, b.Level)
	})
	return e.report, nil
}

func (e *exam) add(f Finding) { e.report.Findings = append(e.report.Findings, f) }

// denied is what a server says that does not let this role look, or does not
// have what is looked at; "" for any other error.
func denied(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && slices.Contains([]string{"42501", "42883", "0A000"}, pgErr.Code) {
		return pgErr.Message
	}
	return ""
}

// readerGrants is the command that lets this role read the schema.
func (e *exam) readerGrants() string {
	return "psql -v schema=" + psql.Literal(e.Schema) + " -v role=" + psql.Literal(e.report.Role) + " -f triggers/sql/grants_reader.sql"
}

// query runs one of the files and collects its rows.
func query[T any](ctx context.Context, e *exam, file string, args ...any) ([]T, error) {
	sql, err := psql.Render(files, "sql/"+file, map[string]string{"schema": e.Schema, "schema_quoted": pgx.Identifier{e.Schema}.Sanitize()})
	if err != nil {
		return nil, err
	}
	var found []T
	err = pgx.BeginTxFunc(ctx, e.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, psql.ByIndex); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, sql, args...) // the error comes with the rows
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[T])
		return err
	})
	return found, err
}

// queryOne is query for a file that gives one row.
func queryOne[T any](ctx context.Context, e *exam, file string, args ...any) (one T, err error) {
	found, err := query[T](ctx, e, file, args...)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%s gives %d rows", file, len(found))
	}
	if err == nil {
		one = found[0]
	}
	return one, err
}
