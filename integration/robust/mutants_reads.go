//go:build unix

package robust

import "strings"

// mutantReads break what readers and clients see (G5, G6).
func mutantReads() map[string]Mutant {
	return map[string]Mutant{
		"a barrier shows an older value": {"G5", func(h *History) bool { return stale(h, OpRead) }},
		"a writer does not see its own write": {"G5", func(h *History) bool {
			return operation(h, OpMine, func(op *Op) { op.Old = "begin" })
		}},
		"who waited for a token does not see the write": {"G5", func(h *History) bool {
			return operation(h, OpWaited, func(op *Op) { op.Old = "" })
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
			return first(h, func(n *NodeHistory) []*Get { return n.Gets },
				func(g *Get) bool { return g.Row.Row != "" }, func(g *Get) { g.Row.Row = strings.Replace(g.Row.Row, ",", ",9", 1) })
		}},
	}
}
