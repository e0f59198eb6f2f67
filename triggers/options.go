package triggers

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/psql"
)

// Version is the version of the schema that this package installs, and MinNode the
// oldest node that can read it. A node of version n runs on any schema
// whose min_node is at most n, so in a rolling deploy the schema goes first,
// unless it raises MinNode.
const (
	Version = 5
	MinNode = 3 // reads lists of documents
)

// DefaultSchema is the schema that holds the outbox where none is named.
const DefaultSchema = "lockstep"

// Bell says how the nodes learn of a commit.
type Bell string

const (
	// BellDefault keeps what is set; at the first install it is BellNotify, or
	// BellOff where max_prepared_transactions is above 0, since a transaction
	// that has notified cannot be prepared.
	BellDefault Bell = ""
	// BellNotify rings with pg_notify at commit.
	BellNotify Bell = "notify"
	// BellWAL publishes the outbox to nodes that read the log (package
	// outbox/wal): commits cost the outbox insert only. It needs wal_level
	// logical, and CREATE on the database for the publication.
	BellWAL Bell = "wal"
	// BellOff rings nothing: nodes poll, and commits cost the outbox insert only.
	BellOff Bell = "off"
)

// Options are where and how to install. The zero value is good.
type Options struct {
	// Schema holds the outbox and the functions. Default "lockstep".
	Schema string
	// Owner is the NOLOGIN role that owns the functions; it is created if it is
	// not there and the caller may create roles. Default Schema + "_capture".
	Owner string
	// Bell switches the bell. Default BellDefault.
	Bell Bell
	// MaxRowBytes is how large a row may be, as it is stored (pg_column_size of the row,
	// compressed values as they are), to be copied into the outbox. A larger one is
	// captured by its key, and every node reads it from its table: an event more to fetch, and no copy in
	// the log. From 64 to 131,072, beyond which a document could become too large to
	// write. Default: as it is; at the first install 131,072.
	MaxRowBytes int
	// ExcludeColumns are columns that are never copied into the outbox: secrets, large documents.
	// It has them by table, named as SQL writes it; columns as the catalogue has them. A table that it
	// names is installed, whether Install is given it or not, and of that table these columns are left out
	// from then on and no others: an empty list captures them all again. Other tables keep what they
	// have, also through a new name of the table or of the column; it is remembered by the table's name as well, and
	// holds for the next table of that name. Columns of the primary key cannot be left
	// out. What the outbox holds already stays in it until it is trimmed. Default: as it is; at first all
	// columns are captured.
	ExcludeColumns map[string][]string
	// LockTimeout bounds each wait for a table's lock: CREATE TRIGGER queues
	// behind long writers, and new writers queue behind it. Default 3 s.
	LockTimeout time.Duration
	// Retries is how often a table is tried again when its lock was not to be
	// had, with growing pauses in which writers go on. Default 10.
	Retries int
	// Published lets the schema be made although a publication FOR ALL TABLES
	// would carry it: its subscribers have the schema, or leave it out. Default:
	// ErrPublished.
	Published bool
	// Print, where set, receives the SQL instead of the server. The server is
	// still asked about the tables. Default nil: run it.
	Print io.Writer
	// Logger hears of waits and of what was done. Default slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Schema = cmp.Or(o.Schema, DefaultSchema)
	o.Owner = cmp.Or(o.Owner, psql.Suffixed(o.Schema, "_capture"))
	o.LockTimeout = cmp.Or(o.LockTimeout, 3*time.Second)
	o.Retries = cmp.Or(o.Retries, 10)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// The bounds of Options.MaxRowBytes.
const (
	leastRowBytes = 64
	mostRowBytes  = 131072
)

// DB is a connection or a pool: *pgx.Conn, *pgxpool.Pool and *pgxpool.Conn are.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}
