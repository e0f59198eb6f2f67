package replay

import "slices"

// GapStats tells what became of the sequence numbers that were handed out and
// were not in the log when the engine first knew of them. Its unit is numbers.
type GapStats struct {
	Open     int64  // not accounted for yet
	Late     uint64 // their event came with a later cut
	Void     uint64 // shown to have no event: rolled back, or lost by a crash
	Replayed uint64 // their event came with the catch-up after a reconnect
	Reloaded uint64 // open when a resync began, which accounts for them unseen
	// Misjudged counts events that came after their number had been called
	// void. Nothing is lost by it; the evidence would be wrong.
	Misjudged uint64
}

// span is a run of numbers without an event.
type span struct {
	lo, hi int64  // both inclusive
	drawn  uint64 // a transaction id drawn after the span was seen; 0: none yet
}

func (s span) len() int64 { return s.hi - s.lo + 1 }

// gaps is the account of the sequence numbers. Positions decide what is
// applied; this account only tells when to look again and what to report.
//
// Invariant 5. A number is accounted for by its event, or by evidence that it
// has none: a snapshot whose xmin is above a transaction id that was drawn
// after the number had been seen missing. Whoever drew the number held a lower
// id, is over, and its events would have been in that snapshot. Time proves
// nothing: a transaction may be idle for an hour.
type gaps struct {
	known int64  // the highest number known to have been handed out
	open  []span // ascending, disjoint, not adjacent unless drawn differs

	// After a load the numbers up to unsure belong to rows that were loaded, to
	// transactions still in flight, or to nobody; which, is not known. The same
	// evidence closes the question.
	unsure      int64
	unsureDrawn uint64

	GapStats
	max int
}

// restart accounts for a load: what it contains was never seen as events.
func (g *gaps) restart(lastSeq int64) {
	g.Reloaded += uint64(g.Open)
	g.open, g.Open = nil, 0
	g.known, g.unsure, g.unsureDrawn = lastSeq, lastSeq, 0
}

// settled reports whether every number handed out is accounted for.
func (g *gaps) settled() bool { return len(g.open) == 0 && g.unsure == 0 }

// wantsDraw reports whether a transaction id drawn now could become evidence.
func (g *gaps) wantsDraw() bool {
	if g.unsure > 0 && g.unsureDrawn == 0 {
		return true
	}
	return slices.ContainsFunc(g.open, func(s span) bool { return s.drawn == 0 })
}

// gapCut works out the account after one cut while its events pass by, in
// order of their numbers. It touches nothing until it is settled, and holds
// the gaps that remain, not the events.
type gapCut struct {
	old   *gaps
	rest  []span // what of old.open is not yet passed
	open  []span // the account after the cut, up to the last event
	next  int64  // the lowest number above old.known that has not been passed
	found uint64 // events that closed a gap
	wrong uint64
}

func (g *gaps) begin() gapCut {
	return gapCut{old: g, rest: slices.Clone(g.open), next: g.known + 1}
}

// event accounts for one number. They come in ascending order.
func (c *gapCut) event(seq int64) {
	for len(c.rest) > 0 && c.rest[0].hi < seq {
		c.open = append(c.open, c.rest[0])
		c.rest = c.rest[1:]
	}
	switch {
	case len(c.rest) > 0 && c.rest[0].lo <= seq:
		s := &c.rest[0]
		if s.lo < seq {
			c.open = append(c.open, span{s.lo, seq - 1, s.drawn})
		}
		s.lo = seq + 1
		if s.lo > s.hi {
			c.rest = c.rest[1:]
		}
		c.found++
	case seq >= c.next:
		if c.next < seq {
			c.open = append(c.open, span{lo: c.next, hi: seq - 1})
		}
		c.next = seq + 1
	case seq > c.old.unsure:
		c.wrong++
	}
}

// settle makes the account after the cut the account. lastSeq, xmin and drawn
// come from the cut's header; replay says that the cut caught up after a
// reconnect. It reports whether numbers were handed out that were not known.
func (c *gapCut) settle(lastSeq int64, xmin, drawn uint64, replay bool) (news bool) {
	g, before := c.old, c.old.known
	open := append(c.open, c.rest...)
	switch {
	case lastSeq >= c.next:
		open = append(open, span{lo: c.next, hi: lastSeq})
		g.known = lastSeq
	case c.next-1 > before:
		g.known = c.next - 1
	default:
		// Lower than before: a server that lost the end of its log will hand
		// these numbers out again.
		g.known = lastSeq
	}
	g.open = g.closeVoid(open, xmin)
	if drawn != 0 {
		g.mark(drawn, before)
	}
	if replay {
		g.Replayed += c.found
	} else {
		g.Late += c.found
	}
	g.Misjudged += c.wrong
	g.limit()
	return g.known > before
}

// closeVoid leaves out what is proved to have no event.
func (g *gaps) closeVoid(open []span, xmin uint64) []span {
	passed := func(drawn uint64) bool { return drawn != 0 && drawn < xmin }
	g.unsure = min(g.unsure, g.known)
	if passed(g.unsureDrawn) {
		g.unsure, g.unsureDrawn = 0, 0
	}
	kept := open[:0]
	for _, s := range open {
		if passed(s.drawn) || s.lo > g.known {
			g.Void += uint64(s.len())
			continue
		}
		if s.hi > g.known {
			g.Void += uint64(s.hi - g.known)
			s.hi = g.known
		}
		kept = append(kept, s)
	}
	return kept
}

// mark notes the evidence to come for what had been seen before the fetch that
// drew the id. A gap that this fetch was the first to see waits for the next
// one: which of the two the server did first, draw the id or read the number,
// is not known here.
func (g *gaps) mark(drawn uint64, before int64) {
	for i := range g.open {
		if s := &g.open[i]; s.drawn == 0 && s.hi <= before {
			s.drawn = drawn
		}
	}
	if g.unsure > 0 && g.unsureDrawn == 0 {
		g.unsureDrawn = drawn
	}
}

// limit joins neighbours where there are too many spans. A joined span counts
// the numbers between them as open although their events have come; it is
// closed by the evidence for the later half.
func (g *gaps) limit() {
	for len(g.open) > g.max && len(g.open) > 1 {
		joined := g.open[:0]
		for i := 0; i < len(g.open); i += 2 {
			s := g.open[i]
			if i+1 < len(g.open) {
				t := g.open[i+1]
				s.hi = t.hi
				if s.drawn == 0 || t.drawn == 0 {
					s.drawn = 0
				} else {
					s.drawn = max(s.drawn, t.drawn)
				}
			}
			joined = append(joined, s)
		}
		g.open = joined
	}
	g.Open = 0
	for _, s := range g.open {
		g.Open += s.len()
	}
}
