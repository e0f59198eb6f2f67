package outbox

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/psql"
)

//go:embed sql/*.sql
var files embed.FS

// NodeVersion is what this package can read: a schema whose min_node is above
// it is refused (ErrSchema).
const NodeVersion = 3

// Bell is a way to learn that there is something to fetch.
type Bell string

const (
	// BellDefault is BellAuto.
	BellDefault Bell = ""
	// BellAuto is the bell that the database was installed with, where it
	// works: WAL (which needs Config.WAL) or NOTIFY. Else it polls, says why, and
	// tries a WAL bell that was refused again.
	BellAuto Bell = "auto"
	// BellNotify listens to NOTIFY on a connection of its own, and polls where
	// the database was installed with another bell. Where LISTEN hears nothing
	// there is no session.
	BellNotify Bell = "notify"
	// BellWAL reads the log on a replication connection (Config.WAL). Where that
	// is refused when the session begins there is none. It polls until its slot is there, and from a rest (Session.Rest)
	// until it hangs again.
	BellWAL Bell = "wal"
	// BellPoll has no connection of its own; whoever drives the session looks at every beat.
	BellPoll Bell = "poll"
)

// Config is what a Source follows and how.
type Config struct {
	// Schema holds the outbox. Default "lockstep".
	Schema string
	// Pool gives the way to connect: its ConnConfig, BeforeConnect and
	// AfterConnect are used (TLS, rotating passwords, registered types). No
	// connection is ever taken out of it.
	Pool *pgxpool.Pool
	// Tables are followed; their order gives them their index.
	Tables []TableSpec
	// Node is the name under which this node has its row in the register, for
	// Session.Beat. Default: it has none.
	Node string
	// Bell is the doorbell. Default BellDefault.
	Bell Bell
	// WAL is the bell that reads the log: wal.Bell{} of package outbox/wal, which
	// only who names it here links. Default: none.
	WAL Doorbell
	// RetryBell is the time after which a WAL bell that was refused is tried
	// again. Default 30 s.
	RetryBell time.Duration
	// LockTimeout bounds the wait for a table's lock before a load. Default 3 s.
	LockTimeout time.Duration
	// ProveWithin is how long the bell's own ring, or the WAL bell's slot, may
	// take at start before the source polls instead. Default 2 s.
	ProveWithin time.Duration
	// Check says why a table's capture cannot be trusted; nil: it can. It is
	// asked before each load of the table, by its registered name. Default: no check.
	Check func(ctx context.Context, q Querier, table string) error
	// Logger hears which bell is used, and why. Default: nothing is logged.
	Logger *slog.Logger
}

// TableSpec is one table to follow.
type TableSpec struct {
	// Name is the table's name as SQL writes it.
	Name string
	// Columns picks the columns to read from those that the table has, in
	// their order there. It is asked at every load, since a migration may
	// have changed them. One that is left out of capture (ColumnInfo.Excluded) must not be
	// among them, or the table is refused; of documents it is left out. Default: all others.
	Columns func(have []ColumnInfo) ([]string, error)
	// Document asks for whole rows as row_to_json gives them, without what is left out of capture, instead of
	// columns: a row's one raw value is then the JSON text, or for a deletion
	// or a reread key that of the key columns at least.
	Document bool
}

// ColumnInfo is a column of a table as the catalogue has it.
type ColumnInfo struct {
	Name      string
	OID       uint32 // of its type, or of the base type of a domain
	Type      string // its type's name as SQL writes it, with its schema and without a modifier
	Format    int16  // in which a load brings it and its events are decoded: pgx.TextFormatCode, pgx.BinaryFormatCode
	KeyPlace  int    // its place in the primary key, from 1; 0: not part of it
	Generated bool   // computed by Postgres: never written
	Identity  bool   // GENERATED ALWAYS AS IDENTITY: no UPDATE may set it, and an INSERT only OVERRIDING SYSTEM VALUE
	Excluded  bool   // left out of capture: no event has it, and it is never read
	Required  bool   // NOT NULL without a default, its type's domains included: every insert must give it
}

// Querier reads: a connection, a pool and a transaction are ones.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

var (
	// ErrStandby means that the server is a hot standby, whose snapshots do not
	// list the transactions in flight.
	ErrStandby = errors.New("the server is a standby, where a snapshot does not show which transactions are in flight: connect to the primary")
	// ErrNotInstalled means that the schema with the outbox is not there.
	ErrNotInstalled = errors.New("lockstep is not installed in this database")
	// ErrSchema means that the schema needs a newer node than this one.
	ErrSchema = errors.New("the schema needs a newer node")
	// ErrForeignCluster means that the outbox was made in another cluster: it
	// came with a dump or through pg_upgrade, and its transaction ids mean nothing here.
	ErrForeignCluster = errors.New("the outbox was made in another cluster")
	// ErrBellRefused means that the server answers and the WAL bell is not to be had there.
	ErrBellRefused = errors.New("the WAL bell cannot be used here")
	// ErrBellChanged means that another bell is in place, or that it is to be asked
	// again whether the WAL bell may hang: open a session again.
	ErrBellChanged = errors.New("the bell was changed")
	// ErrMoved means that the log is to be followed another way from now on: open a
	// session again. Nothing has failed.
	ErrMoved = errors.New("the log is followed another way")
	// ErrTable is wrapped by every TableError.
	ErrTable = errors.New("table cannot be followed")
)

// TableError says why one table cannot be followed, and what to do.
type TableError struct {
	Table string
	Why   string
	Hint  string // what to do; "" where there is nothing short to say
	Err   error  // nil where Why says it all
}

// Error is one line.
func (e *TableError) Error() string {
	s := "table " + e.Table + ": " + e.Why
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap lets errors.Is find ErrTable and the cause.
func (e *TableError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrTable}
	}
	return []error{ErrTable, e.Err}
}

// statements are the rendered files that a session uses.
type statements struct {
	open, header, last, events, eventsAfter, newest, missing, describe, fingerprints, plainFingerprints, turns, running, leader, registered string
}

func loadStatements(schema string) (statements, error) {
	var s statements
	vars := map[string]string{"schema": schema}
	for file, into := range map[string]*string{
		"open": &s.open, "header": &s.header, "last": &s.last, "events": &s.events, "events_after": &s.eventsAfter, "newest": &s.newest,
		"missing": &s.missing, "describe": &s.describe, "fingerprints": &s.fingerprints, "fingerprints_plain": &s.plainFingerprints, "turns": &s.turns,
		"running": &s.running, "leader": &s.leader, "registered": &s.registered,
	} {
		sql, err := psql.Render(files, "sql/"+file+".sql", vars)
		if err != nil {
			return s, fmt.Errorf("outbox: %w", err)
		}
		*into = sql
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	c.Schema = cmp.Or(c.Schema, "lockstep")
	c.Bell = cmp.Or(c.Bell, BellAuto)
	c.RetryBell = cmp.Or(c.RetryBell, 30*time.Second)
	c.LockTimeout = cmp.Or(c.LockTimeout, 3*time.Second)
	c.ProveWithin = cmp.Or(c.ProveWithin, 2*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
