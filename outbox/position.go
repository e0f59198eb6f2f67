package outbox

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Position is the exact set of transactions a node has applied: a pg_snapshot.
// A transaction id below Xmin is in the set, one at or above Xmax is not, and
// one in between is in the set unless Xip lists it.
//
// The zero Position covers nothing and means "nothing loaded yet". A Position
// is immutable: its methods neither change it nor hand out its insides, so it
// may be copied and shared freely.
//
// Source: PostgreSQL manual, "Transaction ID and Snapshot Information
// Functions" (pg_snapshot components). Ids are xid8: 64 bits, no wraparound.
type Position struct {
	xmin, xmax uint64
	xip        []uint64 // ascending, each in [xmin, xmax)
}

// NewPosition makes the Position whose transactions are those below xmax that
// xip does not list. Entries of xip at or above xmax are dropped, xip is
// copied, and xmin follows from it.
func NewPosition(xmax uint64, xip []uint64) Position {
	kept := make([]uint64, 0, len(xip))
	for _, x := range xip {
		if x < xmax {
			kept = append(kept, x)
		}
	}
	slices.Sort(kept)
	kept = slices.Compact(kept)
	p := Position{xmin: xmax, xmax: xmax}
	if len(kept) > 0 {
		p.xmin, p.xip = kept[0], kept
	}
	return p
}

// ParsePosition reads the text form of a pg_snapshot, "xmin:xmax:xip,...",
// as Position.String and Postgres print it. The empty string is the zero
// Position. Anything Postgres would refuse is an error that quotes the input.
func ParsePosition(s string) (Position, error) {
	if s == "" {
		return Position{}, nil
	}
	bad := func(why string) (Position, error) {
		return Position{}, fmt.Errorf("outbox: position %q: %s (want xmin:xmax:xip,xip,... as pg_current_snapshot() prints it)", s, why)
	}
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return bad("not three parts")
	}
	xmin, err := parseXid(parts[0])
	if err != nil {
		return bad("xmin " + err.Error())
	}
	xmax, err := parseXid(parts[1])
	if err != nil {
		return bad("xmax " + err.Error())
	}
	if xmin > xmax {
		return bad("xmin is above xmax")
	}
	p := Position{xmin: xmin, xmax: xmax}
	if parts[2] == "" {
		return p, nil
	}
	for f := range strings.SplitSeq(parts[2], ",") {
		x, err := parseXid(f)
		if err != nil {
			return bad("xip " + err.Error())
		}
		if x < xmin || x >= xmax {
			return bad("xip outside xmin and xmax")
		}
		if n := len(p.xip); n > 0 && x <= p.xip[n-1] {
			return bad("xip not ascending")
		}
		p.xip = append(p.xip, x)
	}
	return p, nil
}

func parseXid(s string) (uint64, error) {
	x, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errors.New("is not a transaction id")
	}
	if x == 0 {
		return 0, errors.New("is 0, which no transaction has")
	}
	return x, nil
}

// IsZero reports whether p is the zero Position, which covers nothing.
func (p Position) IsZero() bool { return p.xmax == 0 }

// Xmin is the lowest transaction id that p does not cover: every id below it is covered.
func (p Position) Xmin() uint64 { return p.xmin }

// Xmax is the floor: no transaction id at or above it is covered.
func (p Position) Xmax() uint64 { return p.xmax }

// Xip returns a copy of the ids below Xmax that p does not cover, ascending.
func (p Position) Xip() []uint64 { return slices.Clone(p.xip) }

// Covers reports whether the transaction is in the set. It costs a binary
// search in the transactions that were in flight.
func (p Position) Covers(xid uint64) bool {
	if xid < p.xmin {
		return true
	}
	if xid >= p.xmax {
		return false
	}
	_, inFlight := slices.BinarySearch(p.xip, xid)
	return !inFlight
}

// Includes reports whether p covers every transaction that q covers. Positions
// are partially ordered: for two of them it may hold both ways (they are
// equal), one way, or neither way.
func (p Position) Includes(q Position) bool {
	if q.xmax > p.xmax {
		// q covers the ids of [p.xmax, q.xmax) but for its own xip.
		n, _ := slices.BinarySearch(q.xip, p.xmax)
		if uint64(len(q.xip)-n) != q.xmax-p.xmax {
			return false
		}
	}
	for _, x := range p.xip {
		if q.Covers(x) {
			return false
		}
	}
	return true
}

// Equal reports whether p and q cover the same transactions.
func (p Position) Equal(q Position) bool { return p.Includes(q) && q.Includes(p) }

// Compare orders positions for sorting: by Xmax, then by what is in flight.
// For two positions of one node it agrees with Includes.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.xmax, q.xmax); c != 0 {
		return c
	}
	switch {
	case p.Equal(q):
		return 0
	case q.Includes(p):
		return -1
	case p.Includes(q):
		return 1
	}
	return slices.Compare(p.xip, q.xip)
}

// Tight is the position after a cut: p is the position before it, snap the
// snapshot that the cut was read in, and highest the highest transaction id of
// which the cut held an event (0 for none).
//
// It covers the same events as snap and no transaction id that Postgres could
// hand out again after a crash: its Xmax is one above the highest transaction
// of which an event was applied, so ids of transactions that wrote nothing, or
// whose loss nobody could notice, stay above it (docs/design.md, "Crash").
func (p Position) Tight(snap Position, highest uint64) Position {
	floor := max(p.xmax, highest+1)
	return NewPosition(floor, snap.xip)
}

// String prints p as Postgres prints a pg_snapshot; the zero Position is "".
func (p Position) String() string {
	if p.IsZero() {
		return ""
	}
	b := make([]byte, 0, 48)
	b = strconv.AppendUint(b, p.xmin, 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, p.xmax, 10)
	b = append(b, ':')
	for i, x := range p.xip {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, x, 10)
	}
	return string(b)
}

// MarshalText writes p as String does, so that JSON holds a string.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what ParsePosition reads.
func (p *Position) UnmarshalText(b []byte) error {
	q, err := ParsePosition(string(b))
	if err != nil {
		return err
	}
	*p = q
	return nil
}
