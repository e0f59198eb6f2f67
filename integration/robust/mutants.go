//go:build unix

package robust

import (
	"encoding/json"
	"maps"
	"slices"
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

// transfer is a transaction that begins with money going from one table to the other: its events say what the
// rows became, and no two of them are alike.
func transfer(n *NodeHistory, i int) bool {
	c := n.Txns[i].Changes
	bank := func(d RowState) bool { return (d.Table == "account" || d.Table == "saving") && d.Row != "" }
	return len(c) > 1 && bank(c[0]) && bank(c[1]) && c[0].Table != c[1].Table
}

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

// first changes the first of its kind, in any node's history, that fits.
func first[T any](h *History, of func(*NodeHistory) []T, fits func(T) bool, change func(T)) bool {
	for _, n := range h.Nodes {
		for _, r := range of(n) {
			if fits(r) {
				change(r)
				return true
			}
		}
	}
	return false
}

// final changes the end of a node that came to one.
func final(h *History, change func(*Final)) bool {
	return first(h, func(n *NodeHistory) []*Final { return []*Final{n.Final} }, func(f *Final) bool { return f != nil && len(f.Rows) > 0 }, change)
}

// operation changes an operation of a kind that succeeded.
func operation(h *History, kind string, change func(*Op)) bool {
	return first(h, func(n *NodeHistory) []*Op { return n.Ops }, func(op *Op) bool { return op.Kind == kind && op.Outcome == OK }, change)
}

// Mutants are all of them, by what they do.
func Mutants() map[string]Mutant {
	all := map[string]Mutant{}
	for _, some := range []map[string]Mutant{mutantEvents(), mutantStates(), mutantReads(), mutantClaims()} {
		maps.Copy(all, some)
	}
	return all
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
