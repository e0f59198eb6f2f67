package outbox

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Request says what one fetch brings. Everything in it is read in one
// snapshot, which is the position reached.
type Request struct {
	// From is the position of the asker: events of transactions that it covers
	// are left out. The zero Position asks for no events; the header then tells
	// what a load needs to know of the outbox.
	From Position
	// Reload lists tables, by their index, to be read whole. They are locked
	// (ACCESS SHARE) before the snapshot is taken: a TRUNCATE or a rewrite that
	// committed in between would otherwise read as an empty table.
	Reload []int
	// Reread lists tables, by their index, whose Reload events by key are to be
	// resolved by reading those rows; locked like Reload.
	Reread []int
	// DrawXid draws a transaction id after the snapshot was taken (Header.Drawn).
	DrawXid bool
	// WantXid says that a drawn id is wanted, also where this fetch draws none: who asks
	// for one does so from time to time, as long as it would prove something.
	WantXid bool
	// Catalogue asks for Header.Fingerprints, which a reload always brings.
	Catalogue bool
	// Relations, where set, are the relations, by oid, of which Header.Fingerprints
	// is to tell in the place of the followed tables.
	Relations []uint32
	// Now says that the snapshot must be taken after the call: somebody waits for what
	// is committed by now. A source that has only heard of earlier ones asks the server.
	Now bool
	// MaxLoads, where above 0, is how many fetches that ask for it may read tables
	// at a time, in the whole database; what comes on top is a *BusyError.
	MaxLoads int
	// Snapshot, where set, is the name of a snapshot that another transaction has
	// exported (pg_export_snapshot), to be fetched in instead of a new one: so that
	// what it brings can be held against what that transaction reads. Whoever
	// exports it must have locked the tables before.
	Snapshot string
}

// Header is what a fetch learns besides events, in the same snapshot.
type Header struct {
	// Began is this process's clock just before the request was sent: whatever
	// had been committed by then is in the snapshot.
	Began time.Time
	// Relayed says that the snapshot may have been taken before the fetch was asked
	// for: whoever waits for a fetch is not answered by this one.
	Relayed bool
	// Clock is the server's clock just after the snapshot was taken; Event.At is
	// another reading of it. Zero where a source has none.
	Clock time.Time
	// Snapshot is pg_current_snapshot() of the fetch.
	Snapshot Position
	// LastSeq is the highest sequence number handed out so far, read after the
	// snapshot was taken; 0 if none was.
	LastSeq int64
	// Horizon is the transaction id below which events may have been trimmed.
	Horizon uint64
	// History names the run of the outbox; another one means that positions and
	// tokens of before say nothing any more.
	History uuid.UUID
	// MinNode is the oldest version of a node that can read what is captured now. Fetch
	// refuses what is above NodeVersion (ErrSchema).
	MinNode int
	// Drawn is the transaction id that Request.DrawXid asked for, else 0. It is
	// drawn after LastSeq was read: whoever had drawn one of these numbers has a lower id.
	Drawn uint64
	// HighestXid and Newest are filled where Request.From is zero: the highest
	// transaction id visible in the outbox (0 if it is empty) and the transactions
	// of its newest 4,096 events, a thousand at the most.
	HighestXid uint64
	Newest     []Anchor
	// Older says that the outbox holds transactions besides those of Newest.
	// They have lower ids, and yet may be the last that were committed.
	Older bool
	// Fingerprints has one text for each table, or of Request.Relations: whatever in the catalogue bears
	// on its data or its capture. Filled where Request asks for it, else nil.
	Fingerprints []string
}

// Sink takes what a fetch brings, in this order: Begin, Problem, Event in order of
// Seq, Load, Reread. An error from any of them ends the fetch and is returned by it.
// The rows are good until the method returns.
type Sink interface {
	// Begin comes first and once.
	Begin(h *Header) error
	// Problem says why a table of Request.Reload or Reread cannot be kept right
	// (gone, not tracked, a column missing, no right to read, its lock not to
	// be had). Nothing is loaded or reread of it then. The fetch goes on.
	Problem(table int, err error) error
	// Event brings one event. table is -1 for a table that is not followed,
	// whose row is not decoded; row is nil where the event has no document.
	Event(table int, ev *Event, row pgx.CollectableRow) error
	// Load brings one row of a table of Request.Reload. A table that had no
	// Problem is complete when the fetch returns nil, also one without rows. Where
	// a row's Scan fails and Load returns nil no more rows of the table come.
	Load(table int, row pgx.CollectableRow) error
	// Reread brings, for a Reload event by key of a table of Request.Reread, the
	// row as it stands in the snapshot, or nil if it is not there. key holds
	// the key's columns only: scanning leaves other destinations untouched. A
	// key that cannot be read fails its scan, and row is nil then.
	Reread(table int, key, row pgx.CollectableRow) error
}

// Token names a transaction within a history: the proof of a write that any
// node can wait for.
type Token struct {
	History uuid.UUID
	Xid     uint64
}
