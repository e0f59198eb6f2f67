//go:build unix

package robust

import "github.com/pglockstep/lockstep/outbox"

// mutantStates break what is published (G1, G3, G4).
func mutantStates() map[string]Mutant {
	return map[string]Mutant{
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
	}
}
