package lockstep

import (
	"cmp"
	"log/slog"
	"os"
	"time"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// Bell is a node's way to learn that there is something new.
type Bell = outbox.Bell

// The bells.
const (
	BellDefault = outbox.BellDefault // BellAuto
	BellAuto    = outbox.BellAuto    // the one that the database was installed with where it works, else polling
	BellNotify  = outbox.BellNotify  // NOTIFY; polling where the database has another bell; Start fails where LISTEN hears nothing
	BellWAL     = outbox.BellWAL     // the log, with Config.WAL; Start fails where it is refused; polling until its slot is there, and while it rests
	BellPoll    = outbox.BellPoll    // a look at every beat
)

// Doorbell is a bell of another package: wal.Bell.
type Doorbell = outbox.Doorbell

// Feed is a way to follow of another package: stream.Source.
type Feed = replay.Feed

// Config is a node's configuration. The zero value of every field means its default.
type Config struct {
	// Name tells the node apart in the register, in logs and in status: one
	// name for one process. Default: the host's name and the process id.
	Name string
	// Schema holds the outbox. Default "lockstep".
	Schema string
	// Bell is the doorbell. Default BellDefault.
	Bell Bell
	// WAL is wal.Bell{} of package outbox/wal, for a database that was installed
	// with bell wal. It is a value so that who does not name it does not link it.
	// Default: none, and such a database is polled.
	WAL Doorbell
	// Source is another way to follow than to ask Postgres each time: stream.Source of package
	// outbox/stream, which only who names it here links. Default: none.
	Source Feed
	// Beat is the longest time between two looks for changes (a fetch, or a beat that finds nothing to fetch), and
	// so what a lost ring costs. Where there is a bell, and eight looks in a row have found nothing, it is twice as long,
	// but no more than half of MaxStale, and never less than Beat. Default 250 ms.
	Beat time.Duration
	// MaxStale is how long ago the last completed look for changes may have begun for the
	// node to be live. It must be longer than Beat. Default 1 s.
	MaxStale time.Duration
	// MaxBytes bounds the memory of all tables: a load or a change that would
	// exceed it is refused, naming the table. Default: no bound.
	MaxBytes int64
	// MaxLag is how many changes a subscriber may be behind before it gets a
	// reset and the current rows. Default 100,000.
	MaxLag int
	// CoalesceAfter is how many changes a subscriber may have pending before
	// it gets one coalesced change per key. Default 1,000.
	CoalesceAfter int
	// DetectMutation makes the cache find callers who change a map, a slice or
	// what a pointer leads to inside a row that they share with everybody. It
	// costs a hash of every row and is for tests. Default off.
	DetectMutation bool
	// Register is how often the node writes its name, position and state into the
	// table of nodes, or with a Source has whoever feeds it write them; each pause is drawn, up to a quarter shorter or longer, and
	// twice as long, where it is below a minute, while there is nothing new to tell. Trimming spares
	// only what nodes seen within the last hour have not fetched: keep it below half an hour. Negative:
	// never, and then trimming does not spare what this node has not fetched. Default 5 s, with a Source 10 min.
	Register time.Duration
	// Retention is how long events stay in the outbox, which is how long a node
	// may be away and still come back by replay. The nodes trim by turns, each
	// with its own Retention; never what a node seen within the last hour has not
	// fetched, unless it is 7 times as old (24 h at least). It needs the
	// trimmer's rights; a node without them leaves it to others. Negative: this
	// node does not trim. Default 24 h.
	Retention time.Duration
	// RetentionRows is how many events are kept, besides what a node seen within the last hour has not fetched and
	// what a transaction in flight holds up. Default: any number.
	RetentionRows int64
	// Checkpoint is a directory in which the node keeps its tables and its
	// position while it is away, in one file that belongs to Name, which must be
	// given. Start begins with it and asks Postgres for what was missed since;
	// where it is no longer good the tables are loaded, and the log and the status
	// say why. Rows of large tables are decoded when they are read first, or soon
	// after Start: see Status.Checkpoint.Encoded. The file holds rows: it and the directory are for this user
	// only. A table that WithRow reads needs WithEncode. Default: none.
	Checkpoint string
	// CheckpointEvery is the time between two checkpoints while the node runs;
	// Close writes one more. Nothing waits for them. Negative: only Close
	// does. Default 5 min.
	CheckpointEvery time.Duration
	// MaxLoads is how many nodes of this database may load all of their tables at
	// a time. The others wait for their turn, for as long as it takes, and their
	// status, or the error of a Start that ran out of time, says for whom.
	// Negative: this node does not wait, nor is it waited for. Default 2.
	MaxLoads int
	// Audit is how many rows a second the node holds against Postgres while it
	// runs, some hundred at a time, each time at one instant of both: a row that changes
	// meanwhile is never taken for a wrong one. A row that is wrong is named in the log, in the
	// status and in the metrics; it is not mended, which Reload does. It costs a
	// connection more, and reading each table once and its keys once in a sweep; after a sweep
	// there is a pause of a minute. Tables that WithRow reads need WithEncode. Default: no audit.
	Audit int
	// Logger hears of loads, outages and recoveries. Default slog.Default().
	Logger *slog.Logger
	// OnCut is called after each published cut, on the node's own goroutine,
	// and holds it up. It is for tests and metrics. Default: nothing.
	OnCut func(Cut)
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "node"
		}
		c.Name = host + "-" + itoa(os.Getpid())
	}
	c.Schema = cmp.Or(c.Schema, "lockstep")
	c.MaxLoads = cmp.Or(c.MaxLoads, 2)
	if c.Source != nil { // a fleet of such nodes is not to be felt
		c.Register = cmp.Or(c.Register, 10*time.Minute)
	}
	c.Register = cmp.Or(c.Register, 5*time.Second)
	c.Retention = cmp.Or(c.Retention, 24*time.Hour)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("node", c.Name)
	return c
}
