//go:build unix

package robust

import (
	"fmt"
	"slices"
	"strings"
)

// Violation is a promise that a history breaks.
type Violation struct {
	Promise string // G1 to G10
	Node    string
	Text    string
}

func (v Violation) String() string { return fmt.Sprintf("%s %s: %s", v.Promise, v.Node, v.Text) }

// Counts says how much was judged, so that a verdict of nothing can be told from one of a lot.
type Counts struct {
	Cuts       int // compared with the tables
	Tail       int // cuts of a future that a crash took back: not compared
	Replays    int // cuts that caught up after a reconnect
	Loads      int // cuts that loaded something
	Broken     int // tables in cuts of which the node said that it could not keep them: not compared
	Events     int // applied events compared one by one
	Reloaded   int // cuts whose events were not compared, since a table was loaded in them
	Uncounted  int // cuts of which a subscriber was not told each change
	Claims     int // of being live
	Logged     int // of those, by nodes that read the server's log
	Streamed   int // of those, by nodes that follow a stream
	Reads      int // of views and rows
	Unrecorded int // of those, of a version that was published right before its node was killed: what it was is not recorded
	Registers  int // register histories that were found linearizable
	Operations int // on registers
	Unknown    int // of those, with an unknown outcome
	Commits    int // of SQL writers
	Refused    int // of their transactions
	Finals     int // nodes compared in the end
}

// Add sums up.
func (c *Counts) Add(d Counts) {
	for _, p := range []struct{ to, from *int }{
		{&c.Cuts, &d.Cuts}, {&c.Tail, &d.Tail}, {&c.Replays, &d.Replays}, {&c.Loads, &d.Loads}, {&c.Broken, &d.Broken},
		{&c.Events, &d.Events}, {&c.Reloaded, &d.Reloaded}, {&c.Uncounted, &d.Uncounted}, {&c.Claims, &d.Claims}, {&c.Logged, &d.Logged}, {&c.Streamed, &d.Streamed}, {&c.Reads, &d.Reads}, {&c.Unrecorded, &d.Unrecorded},
		{&c.Registers, &d.Registers}, {&c.Operations, &d.Operations}, {&c.Unknown, &d.Unknown},
		{&c.Commits, &d.Commits}, {&c.Refused, &d.Refused}, {&c.Finals, &d.Finals},
	} {
		*p.to += *p.from
	}
}

func (c Counts) String() string {
	return fmt.Sprintf("%d cuts compared with the tables (%d loads, %d replays; %d cuts of a lost tail passed over, and %d times a table that the node called not kept), %d events compared one by one (%d cuts with loads and %d coalesced passed over), "+
		"%d claims of being live (%d by the WAL bell, %d over a stream), %d reads (%d of versions that died unrecorded), %d operations on %d registers (%d of unknown outcome), %d commits and %d refused transactions of writers, %d nodes compared in the end",
		c.Cuts, c.Loads, c.Replays, c.Tail, c.Broken, c.Events, c.Reloaded, c.Uncounted, c.Claims, c.Logged, c.Streamed, c.Reads, c.Unrecorded, c.Operations, c.Registers, c.Unknown, c.Commits, c.Refused, c.Finals)
}

// judge collects what the validators find.
type judge struct {
	h      *History
	tail   *tail
	stamps map[string]int64 // when the witness saw a register get it
	found  []Violation
	counts Counts
}

// most bounds what is told of one promise and node: one fault has many consequences.
const most = 5

func (j *judge) say(promise, node, format string, args ...any) {
	n := 0
	for _, v := range j.found {
		if v.Promise == promise && v.Node == node {
			n++
		}
	}
	if n < most {
		j.found = append(j.found, Violation{promise, node, fmt.Sprintf(format, args...)})
	}
}

// Judge holds a history against every promise.
func Judge(h *History) ([]Violation, Counts) {
	j := &judge{h: h, tail: h.tail(), stamps: map[string]int64{}}
	for _, c := range h.Witness {
		if c.Table == "register" {
			j.stamps[stampOf(c.State)] = c.N
		}
	}
	for _, n := range h.Nodes {
		j.forward(n)
		j.events(n)
		j.states(n)
		j.reads(n)
		j.loads(n)
		j.claims(n)
		j.end(n)
	}
	j.registers()
	j.writes()
	j.server()
	return j.found, j.counts
}

// forward is G1: a position only moves forward within one history. A load that says why begins another.
func (j *judge) forward(n *NodeHistory) {
	for i := 1; i < len(n.Cuts); i++ {
		was, is := n.Cuts[i-1], n.Cuts[i]
		switch {
		case is.Rev <= was.Rev:
			j.say("G1", n.Name, "version %d was published after %d", is.Rev, was.Rev)
		case is.Reason != "":
		case is.History != was.History:
			j.say("G1", n.Name, "history %s went on as %s without a load", was.History, is.History)
		case !is.Position.Includes(was.Position):
			j.say("G1", n.Name, "position %v was followed by %v", was.Position, is.Position)
		}
	}
}

// loads is G7: what was trimmed or belongs to another history leads to a load that says so.
func (j *judge) loads(n *NodeHistory) {
	l := newLog(j.h, func(e *Event) bool { return e.Gone != 0 })
	resyncs, fresh := 0, true
	for i, c := range n.Cuts {
		if c.Reason != "" && c.Reason != "requested" && i > 0 {
			resyncs++
		}
		if i == 0 || c.Reason != "" || j.tail.took(c) || j.tail.took(n.Cuts[i-1]) {
			fresh = true
			continue
		}
		for _, e := range l.between(j.h, n.Cuts[i-1], c, fresh) {
			if e.Gone < l.limit && c.Snapshot.Covers(e.Gone) {
				j.say("G7", n.Name, "version %d went from %v to %v without a load, past event %d of transaction %d, which was trimmed before", c.Rev, n.Cuts[i-1].Position, c.Snapshot, e.Seq, e.Xid)
			}
		}
		fresh = false
	}
	if f := n.Final; f != nil && len(n.Cuts) > 0 && f.Resyncs != uint64(resyncs) {
		j.say("G7", n.Name, "%d loads of everything were published with their reason, the status counts %d", resyncs, f.Resyncs)
	}
}

// claims is G8: live is said only where the state holds whatever was committed a second before.
func (j *judge) claims(n *NodeHistory) {
	var done []*Write
	followed := map[uint64]bool{}
	for i := range j.h.Events {
		followed[j.h.Events[i].Xid] = true
	}
	for _, w := range j.h.Writes {
		if w.Outcome == OK && w.Sync && w.Xid != 0 && followed[w.Xid] {
			done = append(done, w)
		}
	}
	slices.SortFunc(done, func(a, b *Write) int { return int(a.Return - b.Return) })
	first := 0 // those before it are covered by every later state
	for _, c := range n.Claims {
		if c.State != "live" {
			continue
		}
		j.counts.Claims++
		switch c.Bell {
		case "wal":
			j.counts.Logged++
		case "stream":
			j.counts.Streamed++
		}
		for first < len(done) && done[first].Return < c.T-maxStale && c.Snapshot.Covers(done[first].Xid) {
			first++
		}
		for _, w := range done[first:] {
			if w.Return >= c.T-maxStale {
				break
			}
			if !c.Snapshot.Covers(w.Xid) {
				j.say("G8", n.Name, "called itself live at %d, without transaction %d, committed %d ms before", c.T, w.Xid, (c.T-w.Return)/1e6)
			}
		}
	}
}

// maxStale is the nodes' Config.MaxStale.
const maxStale = Nanos(1e9)

// writes is G9: the application's own writes fail only for the application's own reasons.
func (j *judge) writes() {
	for _, w := range j.h.Writes {
		switch {
		case w.Outcome == OK:
			j.counts.Commits++
		case w.Outcome == Failed && !ownFault(w.Code):
			j.say("G9", w.Writer, "a write failed with %s: %s", w.Code, w.Err)
		default:
			j.counts.Refused++
		}
	}
}

// ownFault: constraints, serialization failures and deadlocks, locks not to be had in time, what
// the faults do to sessions and connections, a full disk, and what writers ask for.
func ownFault(code string) bool {
	switch code {
	case "", "55P03", "55006", "57014", "25P03", "25P04", "53300", "53100", "P0001", "27000":
		return true
	}
	return strings.HasPrefix(code, "23") || strings.HasPrefix(code, "40") || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "08")
}

// end is G10 and the last word of G2: when all faults are over every node is live, holds
// what the tables hold, and leaves nothing behind.
func (j *judge) end(n *NodeHistory) {
	f := n.Final
	if f == nil {
		if !n.Killed {
			j.say("G10", n.Name, "it did not come to its end")
		}
		return
	}
	j.counts.Finals++
	if f.Err != "" || f.State != "live" || len(f.Problems) > 0 {
		j.say("G10", n.Name, "in the end it is %s, %v: %s", f.State, f.Problems, f.Err)
	}
	if f.Leaks != "" {
		j.say("G10", n.Name, "it left behind: %s", f.Leaks)
	}
	if f.Misjudged > 0 {
		j.say("G2", n.Name, "%d numbers were called void before their event came", f.Misjudged)
	}
	have, want := map[rowKey]string{}, map[rowKey]string{}
	for _, r := range f.Rows {
		apply(have, r)
	}
	for _, r := range j.h.Tables {
		apply(want, r)
	}
	if d := differ(have, want); d != "" {
		j.say("G10", n.Name, "in the end it differs from the tables: %s", d)
	}
}

// server is G10 as the server sees it, and that the witness itself can be believed.
func (j *judge) server() {
	for _, l := range j.h.Left {
		j.say("G10", "server", "left behind: %s", l)
	}
	o := newOracle(j.h)
	for i := range j.h.Witness {
		o.take(&j.h.Witness[i], map[rowKey]bool{})
	}
	want := map[rowKey]string{}
	for _, r := range j.h.Tables {
		apply(want, r)
	}
	if d := differ(o.rows(), want); d != "" {
		j.say("witness", "server", "the witness and the tables differ: %s", d)
	}
}
