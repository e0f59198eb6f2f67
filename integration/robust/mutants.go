//go:build unix

package robust

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/pglockstep/lockstep/outbox"
)

// Mutant is a change to a history that breaks one promise.
type Mutant struct {
	Breaks string
	// Change makes it, or reports that the history has nothing of the kind.
	Change func(*History) bool
}

// Clone is a copy that shares nothing.
func (h *History) Clone() *History {
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // it is made of plain values
	}
	c := &History{}
	if err := json.Unmarshal(text, c); err != nil {
		panic(err)
	}
	return c
}

// told is a transaction in the middle of a history of which a subscriber was told in full.
func told(h *History, fits func(*NodeHistory, int) bool) (*NodeHistory, int) {
	for _, n := range h.Nodes {
		loaded := map[uint64]bool{}
		for _, c := range n.Cuts {
			loaded[c.Rev] = len(c.Loaded) > 0
		}
		for i := len(n.Txns) / 2; i < len(n.Txns); i++ {
			t := n.Txns[i]
			if !t.Lost && !t.Resync && !loaded[t.Rev] && len(t.Changes) > 0 && fits(n, i) {
				return n, i
			}
		}
	}
	return nil, 0
}

func anyTxn(*NodeHistory, int) bool { return true }

// late is a cut in the middle of a node's history that changed rows and loaded nothing.
func late(h *History, fits func(*NodeHistory, int) bool) (*NodeHistory, int) {
	for _, n := range h.Nodes {
		for i := len(n.Cuts) / 2; i < len(n.Cuts)-1; i++ {
			if len(n.Cuts[i].Loaded) == 0 && len(n.Cuts[i].Diff) > 0 && fits(n, i) {
				return n, i
			}
		}
	}
	return nil, 0
}

// Mutants are all of them, by what they do.
func Mutants() map[string]Mutant {
	return map[string]Mutant{
		"an event is dropped": {"G2", func(h *History) bool {
			n, i := told(h, anyTxn)
			if n != nil {
				n.Txns[i].Changes = n.Txns[i].Changes[1:]
			}
			return n != nil
		}},
		"an event is doubled": {"G2", func(h *History) bool {
			n, i := told(h, anyTxn)
			if n != nil {
				n.Txns[i].Changes = append(n.Txns[i].Changes, n.Txns[i].Changes[0])
			}
			return n != nil
		}},
		"two events are swapped": {"G2", func(h *History) bool {
			n, i := told(h, func(n *NodeHistory, i int) bool { return len(n.Txns[i].Changes) > 1 })
			if n != nil {
				c := n.Txns[i].Changes
				c[0], c[1] = c[1], c[0]
			}
			return n != nil
		}},
		"an event is altered": {"G2", func(h *History) bool {
			n, i := told(h, func(n *NodeHistory, i int) bool { return n.Txns[i].Changes[0].Row != "" })
			if n != nil {
				n.Txns[i].Changes[0].Row += "0"
			}
			return n != nil
		}},
		"a transaction is told twice": {"G2", func(h *History) bool {
			n, i := told(h, anyTxn)
			if n != nil {
				n.Txns = slices.Insert(n.Txns, i, n.Txns[i])
			}
			return n != nil
		}},
		"a transaction is not told": {"G2", func(h *History) bool {
			n, i := told(h, anyTxn)
			if n != nil {
				n.Txns = slices.Delete(n.Txns, i, i+1)
			}
			return n != nil
		}},
		"two transactions are told in the wrong order": {"G2", func(h *History) bool {
			n, i := told(h, func(n *NodeHistory, i int) bool { return i > 0 && n.Txns[i-1].Rev == n.Txns[i].Rev })
			if n != nil {
				n.Txns[i-1], n.Txns[i] = n.Txns[i], n.Txns[i-1]
			}
			return n != nil
		}},
		"an event is missing in a cut": {"G2", func(h *History) bool {
			n, i := late(h, func(n *NodeHistory, i int) bool { return n.Cuts[i].Events > 0 })
			if n != nil {
				n.Cuts[i].Events--
			}
			return n != nil
		}},
		"half a cut is published": {"G3", func(h *History) bool {
			n, i := late(h, func(n *NodeHistory, i int) bool { return len(n.Cuts[i].Diff) > 1 })
			if n != nil {
				half := len(n.Cuts[i].Diff) / 2
				n.Cuts[i+1].Diff = append(n.Cuts[i].Diff[half:], n.Cuts[i+1].Diff...)
				n.Cuts[i].Diff = n.Cuts[i].Diff[:half]
			}
			return n != nil
		}},
		"a row keeps its old value": {"G3", func(h *History) bool {
			n, i := late(h, anyTxn)
			if n != nil {
				n.Cuts[i].Diff = n.Cuts[i].Diff[1:]
			}
			return n != nil
		}},
		"a view mixes two states": {"G3", func(h *History) bool {
			for _, n := range h.Nodes {
				if i := len(n.Reads) / 2; i < len(n.Reads) {
					n.Reads[i].Total += 7
					return true
				}
			}
			return false
		}},
		"a view shows another version's row": {"G3", func(h *History) bool {
			for _, n := range h.Nodes {
				for _, r := range n.Reads {
					if r.Rows[0].Row != "" {
						r.Rows[0].Row = ""
						return true
					}
				}
			}
			return false
		}},
		"a position goes back": {"G1", func(h *History) bool {
			n, i := late(h, func(n *NodeHistory, i int) bool { return !n.Cuts[i-1].Position.Includes(n.Cuts[i].Position) })
			if n != nil {
				n.Cuts[i+1].Position = outbox.NewPosition(n.Cuts[i-1].Position.Xmin(), nil)
			}
			return n != nil
		}},
		"a version is published twice": {"G1", func(h *History) bool {
			n, i := late(h, anyTxn)
			if n != nil {
				n.Cuts[i+1].Rev = n.Cuts[i].Rev
			}
			return n != nil
		}},
		"a row that was rolled back is visible": {"G4", func(h *History) bool {
			n, i := late(h, anyTxn)
			for _, w := range h.Writes {
				if n != nil && len(w.Gone) > 0 {
					n.Cuts[i].Diff = append(n.Cuts[i].Diff, RowState{"item", 7, "0,1," + w.Gone[0] + ",0:"})
					return true
				}
			}
			return false
		}},
		"a barrier shows an older value": {"G5", func(h *History) bool { return stale(h, OpRead) }},
		"a writer does not see its own write": {"G5", func(h *History) bool {
			for _, n := range h.Nodes {
				for _, op := range n.Ops {
					if op.Kind == OpMine && op.Outcome == OK {
						op.Old = "begin"
						return true
					}
				}
			}
			return false
		}},
		"who waited for a token does not see the write": {"G5", func(h *History) bool {
			for _, n := range h.Nodes {
				for _, op := range n.Ops {
					if op.Kind == OpWaited && op.Outcome == OK {
						op.Old = ""
						return true
					}
				}
			}
			return false
		}},
		"a write that was acknowledged is lost": {"G5", func(h *History) bool { return stale(h, OpUpdate) }},
		"a reader goes back": {"G6", func(h *History) bool {
			for _, n := range h.Nodes {
				for i := 1; i < len(n.Reads); i++ {
					if n.Reads[i].Rev > n.Reads[i-1].Rev {
						n.Reads[i-1], n.Reads[i] = n.Reads[i], n.Reads[i-1]
						return true
					}
				}
			}
			return false
		}},
		"a plain read shows what never was": {"G6", func(h *History) bool {
			for _, n := range h.Nodes {
				for _, g := range n.Gets {
					if g.Row.Row != "" {
						g.Row.Row = strings.Replace(g.Row.Row, ",", ",9", 1)
						return true
					}
				}
			}
			return false
		}},
		"a cut goes past what was trimmed": {"G7", func(h *History) bool {
			n, i := late(h, func(n *NodeHistory, i int) bool { return n.Cuts[i].Events > 0 })
			if n == nil {
				return false
			}
			for j := range h.Events {
				e := &h.Events[j]
				if n.Cuts[i].Snapshot.Covers(e.Xid) && !n.Cuts[i-1].Position.Covers(e.Xid) {
					e.Gone = n.Cuts[i-1].Position.Xmin() - 1
					return true
				}
			}
			return false
		}},
		"a load of everything is not said": {"G7", func(h *History) bool {
			for _, n := range h.Nodes {
				if n.Final != nil {
					n.Final.Resyncs++
					return true
				}
			}
			return false
		}},
		"live is said while cut off": {"G8", func(h *History) bool {
			for _, n := range h.Nodes {
				for _, c := range n.Claims {
					if c.State == "stale" && behind(h, c) {
						c.State = "live"
						return true
					}
				}
			}
			return false
		}},
		"a write fails because of a trigger": {"G9", func(h *History) bool {
			h.Writes[len(h.Writes)/2].Outcome, h.Writes[len(h.Writes)/2].Code = Failed, "42703"
			return true
		}},
		"a node does not come back": {"G10", func(h *History) bool {
			for _, n := range h.Nodes {
				if n.Final != nil {
					n.Final.State = "stale"
					return true
				}
			}
			return false
		}},
		"a node ends with another row": {"G10", func(h *History) bool {
			for _, n := range h.Nodes {
				if n.Final != nil && len(n.Final.Rows) > 0 {
					n.Final.Rows = n.Final.Rows[1:]
					return true
				}
			}
			return false
		}},
		"a goroutine leaks": {"G10", func(h *History) bool {
			for _, n := range h.Nodes {
				if n.Final != nil {
					n.Final.Leaks = "one"
					return true
				}
			}
			return false
		}},
		"a session is left on the server": {"G10", func(h *History) bool {
			h.Left = append(h.Left, "session lockstep bell")
			return true
		}},
		"the witness misses a change": {"witness", func(h *History) bool {
			h.Witness = h.Witness[:len(h.Witness)-1]
			return true
		}},
	}
}

// behind reports whether a state lacks what was committed a second before the claim.
func behind(h *History, c *Claim) bool {
	followed := map[uint64]bool{}
	for i := range h.Events {
		followed[h.Events[i].Xid] = true
	}
	return slices.ContainsFunc(h.Writes, func(w *Write) bool {
		return w.Outcome == OK && w.Sync && followed[w.Xid] && w.Return < c.T-maxStale && !c.Snapshot.Covers(w.Xid)
	})
}

// stale gives an operation the value before the last, as if a write had been lost on the way to it.
func stale(h *History, kind string) bool {
	var writes []*Op
	for _, n := range h.Nodes {
		for _, op := range n.Ops {
			if (op.Kind == OpPut || op.Kind == OpUpdate) && op.Outcome == OK && !deletable(op.Key) {
				writes = append(writes, op)
			}
		}
	}
	slices.SortFunc(writes, func(a, b *Op) int { return int(a.Call - b.Call) })
	for _, n := range h.Nodes {
		for _, op := range n.Ops {
			if op.Kind != kind || op.Outcome != OK || deletable(op.Key) {
				continue
			}
			for i, first := range writes {
				for _, second := range writes[i+1:] {
					if first.Key == op.Key && second.Key == op.Key && first.Return < second.Call && second.Return < op.Call {
						if kind == OpUpdate {
							op.Old = first.New
						} else {
							op.New = first.New
						}
						return true
					}
				}
			}
		}
	}
	return false
}
