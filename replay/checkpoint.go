package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/outbox"
)

// Checkpoints is the place of one engine's checkpoint: a head and rows that
// come back as they were written, or an error. It is used from one goroutine at a time, but for Remove.
type Checkpoints interface {
	// Open opens the checkpoint that was written last. Neither a reader nor an
	// error means that there is none.
	Open() (CheckpointReader, error)
	// Create begins a checkpoint that takes the place of the last one once it is complete.
	Create(head []byte) (CheckpointWriter, error)
	// Remove removes the checkpoint that was written last, if there is one.
	Remove() error
	// Close gives the place free.
	Close() error
}

// CheckpointReader reads one checkpoint.
type CheckpointReader interface {
	// Head is what Create was given.
	Head() []byte
	// Next returns some more rows of one table, as EncodedRows. They are not to be believed before check, which any goroutine may
	// call, has returned nil. io.EOF comes once, after everything, and says that nothing was missing if every check has returned nil.
	Next() (table int, rows []byte, check func() error, err error)
	// Size is the checkpoint's, in bytes.
	Size() int64
	// Rewind makes Next begin again.
	Rewind() error
	// Close ends it.
	Close() error
}

// CheckpointWriter writes one checkpoint. It ends with Commit or Abort.
type CheckpointWriter interface {
	// Row adds a row, whose bytes it copies. The rows of a table come together.
	Row(table int, row []byte) error
	// Commit completes the checkpoint, on disk, and returns its size in bytes.
	Commit() (size int64, err error)
	// Abort gives it up and leaves nothing behind. After Commit it does nothing.
	Abort()
}

// headVersion changes with the meaning of what a checkpoint holds.
const headVersion = 1

// head says what a checkpoint's rows are, and holds the accounts that go with
// their position (invariant 12).
type head struct {
	Version  int
	At       time.Time // when the fetch began that its rows are from
	Identity string    // Session.Identity of the server
	History  uuid.UUID
	Position outbox.Position
	Horizon  uint64
	LastSeq  int64
	Applied  int64
	Anchor   []headAnchor
	Tables   []headTable
	Without  map[string]string // tables that were kept and are not in it, and why
}

type headAnchor struct {
	LastSeq int64
	Txs     []outbox.Anchor
}

type headTable struct {
	Name        string
	Shape       string
	Fingerprint string // of the catalogue, at the table's last load
	Plan               // of its rows
}

// parseHead reads a head and refuses one from which nothing can begin.
func parseHead(b []byte) (*head, error) {
	h := new(head)
	if err := json.Unmarshal(b, h); err != nil {
		return nil, fmt.Errorf("its head cannot be read: %w", err)
	}
	switch {
	case h.Version != headVersion:
		return nil, fmt.Errorf("it is of version %d, this is version %d", h.Version, headVersion)
	case h.Position.IsZero():
		return nil, errors.New("it has no position")
	}
	return h, nil
}

// within says what cannot be true of a checkpoint of that size: a row takes a byte at least.
func (h *head) within(size int64) error {
	for _, t := range h.Tables {
		if t.Plan.Rows < 0 || int64(t.Plan.Rows) > size || t.Plan.Bytes < 0 {
			return fmt.Errorf("its head announces %d rows of table %s, of %d bytes", t.Plan.Rows, t.Name, t.Plan.Bytes)
		}
	}
	return nil
}

// CheckpointInfo is what a checkpoint's head says of it.
type CheckpointInfo struct {
	At       time.Time // when the fetch began that its rows are from
	Identity string    // Session.Identity of the server
	Position outbox.Position
	Tables   []CheckpointTable
	Without  map[string]string // tables that were kept and are not in it, and why
}

// CheckpointTable is a table in a checkpoint.
type CheckpointTable struct{ Name, Shape string }

// DescribeCheckpoint reads a head, as CheckpointReader has it.
func DescribeCheckpoint(b []byte) (CheckpointInfo, error) {
	h, err := parseHead(b)
	if err != nil {
		return CheckpointInfo{}, err
	}
	info := CheckpointInfo{At: h.At, Identity: h.Identity, Position: h.Position, Without: h.Without}
	for _, t := range h.Tables {
		info.Tables = append(info.Tables, CheckpointTable{t.Name, t.Shape})
	}
	return info, nil
}

// headOf describes the state that the loop has published last.
func (l *loop) headOf() *head {
	h := &head{
		Version: headVersion, At: l.began, Identity: l.identity, History: l.history, Position: l.pos,
		Horizon: l.horizon, LastSeq: l.gaps.known, Applied: l.applied, Without: map[string]string{},
	}
	for _, c := range l.anchor.cuts {
		h.Anchor = append(h.Anchor, headAnchor{c.lastSeq, c.txs})
	}
	return h
}

// adopt makes a head's accounts the loop's. Which of the numbers handed out
// until then have no event is asked again, as after a load.
func (l *loop) adopt(h *head) {
	l.pos, l.history, l.horizon, l.applied, l.identity = h.Position, h.History, h.Horizon, h.Applied, h.Identity
	l.gaps.restart(h.LastSeq)
	for _, a := range h.Anchor {
		l.anchor.cuts = append(l.anchor.cuts, anchorCut{lastSeq: a.LastSeq, txs: a.Txs})
		l.anchor.n += len(a.Txs)
	}
}
