package stream

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/outbox"
)

// batch is what a relay has read between two snapshots of its connection, and
// the header of the later one.
type batch struct {
	number   uint64 // in the run; it stands in the messages' heads
	identity string
	history  uuid.UUID
	from, to outbox.Position // raw snapshots, which are totally ordered within a run
	lastSeq  int64
	horizon  uint64
	drawn    uint64
	minNode  uint64 // the oldest version of a node that can read it
	// When the relay's own clock said uptime, since the run began, and before the snapshot was
	// taken, the server's clock said clock at the least and clock+took at the most.
	clock  time.Time
	took   time.Duration // until the relay had the answer
	uptime time.Duration
	prints map[uint32]string // fingerprints of all captured tables, by oid; nil: not looked at
	events []outbox.Event
}

// appendHead writes everything but the events, which follow until the end.
func (b *batch) appendHead(to []byte) []byte {
	to = appendText(to, b.identity)
	to = append(to, b.history[:]...)
	to = appendText(to, b.from.String())
	to = appendText(to, b.to.String())
	to = binary.AppendVarint(to, b.lastSeq)
	to = binary.AppendUvarint(to, b.horizon)
	to = binary.AppendUvarint(to, b.drawn)
	to = binary.AppendUvarint(to, b.minNode)
	to = binary.AppendVarint(to, b.clock.UnixMicro())
	to = binary.AppendVarint(to, int64(b.took))
	to = binary.AppendVarint(to, int64(b.uptime))
	if b.prints == nil {
		return append(to, 0)
	}
	to = append(to, 1)
	to = binary.AppendUvarint(to, uint64(len(b.prints)))
	for oid, text := range b.prints {
		to = binary.AppendUvarint(to, uint64(oid))
		to = appendText(to, text)
	}
	return to
}

func appendText[T string | []byte](to []byte, s T) []byte {
	to = binary.AppendUvarint(to, uint64(len(s)))
	return append(to, s...)
}

// The flags of an event.
const (
	flagLead = 1 << iota
	flagRow
)

// eventWriter writes events one after the other, each table's name once.
type eventWriter struct {
	buf   []byte
	names map[string]uint64
}

func (w *eventWriter) add(ev *outbox.Event) {
	w.buf = binary.AppendVarint(w.buf, ev.Seq)
	w.buf = binary.AppendUvarint(w.buf, ev.Xid)
	n, known := w.names[ev.Table]
	if !known {
		if w.names == nil {
			w.names = make(map[string]uint64)
		}
		n = uint64(len(w.names))
		w.names[ev.Table] = n
	}
	w.buf = binary.AppendUvarint(w.buf, n)
	if !known {
		w.buf = appendText(w.buf, ev.Table)
	}
	var flags byte
	if ev.Lead {
		flags |= flagLead
	}
	if ev.Row != nil {
		flags |= flagRow
	}
	w.buf = append(w.buf, byte(ev.Op), flags)
	w.buf = binary.AppendVarint(w.buf, ev.At.UnixMicro())
	if ev.Row != nil {
		w.buf = appendText(w.buf, ev.Row)
	}
}

// reader reads what was written; after the first mistake it reads zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	return number(r, v, n)
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	return number(r, v, n)
}

func number[T uint64 | int64](r *reader, v T, n int) T {
	if n <= 0 || r.bad {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) text() []byte { return r.bytes(r.uint()) }

func (r *reader) position() outbox.Position {
	p, err := outbox.ParsePosition(string(r.text()))
	r.bad = r.bad || err != nil || p.IsZero()
	return p
}

// parseBatch reads a batch. Its rows are parts of data.
func parseBatch(data []byte) (*batch, error) {
	r := &reader{b: data}
	b := &batch{identity: string(r.text())}
	copy(b.history[:], r.bytes(16))
	b.from, b.to = r.position(), r.position()
	b.lastSeq, b.horizon, b.drawn, b.minNode = r.int(), r.uint(), r.uint(), r.uint()
	b.clock, b.took, b.uptime = time.UnixMicro(r.int()), time.Duration(r.int()), time.Duration(r.int())
	if r.byte() == 1 {
		n := r.uint()
		b.prints = make(map[uint32]string, min(n, 1024))
		for ; n > 0 && !r.bad; n-- {
			oid := uint32(r.uint())
			b.prints[oid] = string(r.text())
		}
	}
	var names []string
	for len(r.b) > 0 && !r.bad {
		names = r.event(b, names)
	}
	if r.bad {
		return nil, errShape
	}
	return b, nil
}

func (r *reader) event(b *batch, names []string) []string {
	ev := outbox.Event{Seq: r.int(), Xid: r.uint()}
	n := r.uint()
	if n == uint64(len(names)) {
		names = append(names, string(r.text()))
	}
	if n >= uint64(len(names)) {
		r.bad = true
		return names
	}
	ev.Table = names[n]
	op, flags := r.byte(), r.byte()
	ev.Op, ev.Lead = outbox.Op(op), flags&flagLead != 0
	ev.At = time.UnixMicro(r.int())
	if flags&flagRow != 0 {
		ev.Row = r.text()
		r.bad = r.bad || ev.Row == nil
	}
	b.events = append(b.events, ev)
	return names
}
