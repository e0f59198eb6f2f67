//go:build unix

package robust

import (
	"bufio"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pglockstep/lockstep/outbox"
)

// Nanos is an instant of the machine's monotonic clock, which all processes of a run share.
type Nanos int64

// now reads that clock.
func now() Nanos {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // there is no Unix without it
	}
	return Nanos(ts.Nano())
}

// at is the instant of a time that carries a monotonic reading.
func at(t time.Time) Nanos { return now() - Nanos(time.Since(t)) }

// Row is a row of any of the run's tables; all have these columns.
type Row struct {
	ID     int
	Region int
	V      int64
	Body   string
	Stamp  string // names the write that made the row what it is
}

// text is the row as histories hold it, and as the witness writes it. A body is told by its length and digest.
func (r Row) text() string {
	sum := md5.Sum([]byte(r.Body))
	return fmt.Sprintf("%d,%d,%s,%d:%s", r.Region, r.V, r.Stamp, len(r.Body), hex.EncodeToString(sum[:]))
}

// RowState is what one row became; Row is "" where it is gone.
type RowState struct {
	Table string `json:"t"`
	ID    int    `json:"k"`
	Row   string `json:"r,omitempty"`
}

// Cut is one published state of one node.
type Cut struct {
	T        Nanos           // when it was visible
	Began    Nanos           // when its fetch began
	Rev      uint64          // the cache's version
	Position outbox.Position // where the node then stood
	Snapshot outbox.Position // the snapshot that the state is of
	History  string
	LastSeq  int64
	Events   int // applied
	Loaded   []string
	Reason   string // of a load of everything
	Replay   bool
	Broken   map[string]string // tables that the node said it could not keep, and why
	// Diff is what a walk over all rows found to differ from the state before, and
	// has nothing to do with what the node says that it changed.
	Diff []RowState
}

// Txn is a transaction as a subscriber across tables was told of it.
type Txn struct {
	Rev     uint64
	Xid     uint64
	Seq     int64
	Resync  bool
	Lost    bool // coalesced or reset: what it was made of is not known
	Changes []RowState
}

// Claim is what a node said of itself, and what it showed right after.
type Claim struct {
	T        Nanos // before it was asked
	State    string
	Bell     string          // in use
	Snapshot outbox.Position // of the state that was visible after the answer
}

// Read is a look through one View.
type Read struct {
	Reader int
	Call   Nanos
	Return Nanos
	Rev    uint64
	Total  int64 // of both account tables
	Rows   []RowState
}

// Get is a plain read between two looks at the version.
type Get struct {
	Reader int
	From   uint64
	To     uint64
	Row    RowState
}

// What an operation on a register was.
const (
	OpPut    = "put"
	OpUpdate = "update" // Old is what its function was given
	OpDelete = "delete" // Old is "" where there was no row
	OpRead   = "read"   // after a Barrier
	OpMine   = "mine"   // right after a write of this client's own, without waiting
	OpWaited = "waited" // after WaitFor with the token of another node's write, which wrote New
)

// How an operation or a write ended.
const (
	OK      = "ok"
	Failed  = "failed" // it had no effect
	Unknown = "unknown"
)

// Op is an operation of a client of a node on one register. It is recorded twice:
// before the call with Return 0, and after it.
type Op struct {
	Client  int
	N       int // of the client's operations
	Kind    string
	Key     int
	Old     string `json:",omitempty"`
	New     string `json:",omitempty"`
	Call    Nanos
	Return  Nanos
	Outcome string `json:",omitempty"`
	Err     string `json:",omitempty"`
}

// Write is a transaction of one of the SQL writers.
type Write struct {
	Writer  string
	Call    Nanos
	Return  Nanos
	Xid     uint64 // 0 where it was not learnt
	Outcome string
	Code    string   // SQLSTATE of what failed
	Err     string   `json:",omitempty"`
	Sync    bool     // the commit waited for the disk
	Kept    int      // statements that were not rolled back
	Gone    []string // stamps that were written and rolled back
}

// Final is a node's end.
type Final struct {
	T         Nanos
	Took      time.Duration // from the end of all faults until it was live and a barrier had passed
	State     string
	Err       string
	Problems  []string
	Resyncs   uint64
	Reloads   uint64
	Replays   uint64
	Sessions  uint64
	Loads     []string // reasons
	Misjudged uint64
	Leaks     string
	Rows      []RowState
}

// Fault is something that was done to the run.
type Fault struct {
	Name     string
	From, To Nanos
	Err      string `json:",omitempty"` // the test could not do it
}

// record is one line of a history; one field is set.
type record struct {
	Cut   *Cut   `json:",omitempty"`
	Txn   *Txn   `json:",omitempty"`
	Claim *Claim `json:",omitempty"`
	Read  *Read  `json:",omitempty"`
	Get   *Get   `json:",omitempty"`
	Op    *Op    `json:",omitempty"`
	Write *Write `json:",omitempty"`
	Final *Final `json:",omitempty"`
	Fault *Fault `json:",omitempty"`
}

// recorder writes a history, a line for each record. It may be shared.
type recorder struct {
	mu  sync.Mutex
	f   *os.File
	w   *bufio.Writer
	err error
}

func newRecorder(path string) (*recorder, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &recorder{f: f, w: bufio.NewWriterSize(f, 1<<16)}, nil
}

// add writes a record. Its error comes with close.
func (r *recorder) add(rec record) {
	line, err := json.Marshal(rec)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	if err == nil {
		_, err = r.w.Write(append(line, '\n'))
	}
	r.err = err
}

// flush brings to the file what was added: a process that is killed loses what is not there.
func (r *recorder) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = r.w.Flush()
	}
}

func (r *recorder) close() error {
	r.flush()
	return errors.Join(r.err, r.f.Close())
}

// readRecords calls fn with each record of a file. The last line of a process that was
// killed may be cut short.
func readRecords(path string, fn func(record)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was read only
	in := bufio.NewReaderSize(f, 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return fmt.Errorf("%s line %d: %w", path, n, err)
		}
		fn(rec)
	}
}
