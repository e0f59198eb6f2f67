package outbox

import (
	"fmt"
	"iter"
	"time"

	"github.com/pglockstep/lockstep/outbox/rowjson"
)

// Op is what an event did to its table.
type Op byte

// The operations, as the outbox's column op holds them.
const (
	Insert   Op = 'I' // Row is the new row
	Update   Op = 'U' // Row is the row as it stands after the change; a row that was not there is inserted
	Delete   Op = 'D' // Row is the old row, at least its key
	Truncate Op = 'T' // the table was emptied; no Row
	Reload   Op = 'R' // the change could not be carried: read the row whose key is in Row again, or the whole table where there is no Row
)

// String names the operation; an unknown one is printed as its byte.
func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	case Reload:
		return "reload"
	}
	return fmt.Sprintf("op %q", byte(o))
}

// Event is one change of one row, or of a whole table, by a transaction that
// has committed.
type Event struct {
	// Seq is the sequence number that the event drew. Numbers order the events
	// of a cut; they say nothing about the order in which transactions became
	// visible.
	Seq int64
	// Part is the event's place among those that one row of the outbox holds, and that have one
	// number: a statement that changes many rows of a table packs them. It is 0 where there is only one.
	Part int
	// Xid is the writer's top-level transaction id.
	Xid uint64
	// Table is the table's registered name, quoted as SQL needs it:
	// public.employees, "Odd Name"."T".
	Table string
	Op    Op
	// Lead marks the event that rang the bell for its transaction.
	Lead bool
	// Row is the JSON document of row_to_json under the pinned settings, or nil. Of a table
	// that the session does not know it is what the outbox's row holds, which may be a list of documents (Changes).
	// It is only good until the next event is read from the same cut.
	Row []byte
	// At is the database's clock when the event was captured.
	At time.Time
}

// Changes gives the changes that the event's row of the outbox holds: the event itself, or one for each document of a
// list, with its Part. It ends with an error where the list is none.
func (e *Event) Changes() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if !packed(e.Row) {
			yield(*e, nil)
			return
		}
		one := *e
		for list := rowjson.ListOf(e.Row); ; one.Part++ {
			more, err := list.More()
			if err == nil && !more {
				return
			}
			if err == nil {
				one.Row, err = list.Skip()
			}
			if !yield(one, err) || err != nil {
				return
			}
		}
	}
}

// packed reports whether a row of the outbox holds a list of documents.
func packed(row []byte) bool { return len(row) > 0 && row[0] == '[' }

// Anchor is one applied transaction as the outbox showed it: the last event
// that it wrote. A node holds a few of them to find out, on a new connection,
// whether the server still has the history that the node followed.
type Anchor struct {
	Xid uint64
	Seq int64
	At  time.Time
}
