//go:build unix

package robust

import "slices"

// mutantEvents break what is applied and told (G2).
func mutantEvents() map[string]Mutant {
	return map[string]Mutant{
		"an event is dropped": {"G2", func(h *History) bool {
			n, i := told(h, transfer)
			if n != nil {
				n.Txns[i].Changes = n.Txns[i].Changes[1:]
			}
			return n != nil
		}},
		"an event is doubled": {"G2", func(h *History) bool {
			n, i := told(h, transfer)
			if n != nil {
				n.Txns[i].Changes = append(n.Txns[i].Changes, n.Txns[i].Changes[0])
			}
			return n != nil
		}},
		"two events are swapped": {"G2", func(h *History) bool {
			n, i := told(h, transfer)
			if n != nil {
				c := n.Txns[i].Changes
				c[0], c[1] = c[1], c[0]
			}
			return n != nil
		}},
		"an event is altered": {"G2", func(h *History) bool {
			n, i := told(h, transfer)
			if n != nil {
				n.Txns[i].Changes[0].Row += "0"
			}
			return n != nil
		}},
		"a transaction is told twice": {"G2", func(h *History) bool {
			n, i := told(h, transfer)
			if n != nil {
				n.Txns = slices.Insert(n.Txns, i, n.Txns[i])
			}
			return n != nil
		}},
		"a transaction is not told": {"G2", func(h *History) bool {
			n, i := told(h, transfer)
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
	}
}
