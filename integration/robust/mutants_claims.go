//go:build unix

package robust

// mutantClaims break what a node says, what writers meet, and the end (G7 to G10), and the witness.
func mutantClaims() map[string]Mutant {
	return map[string]Mutant{
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
			return final(h, func(f *Final) { f.Resyncs++ })
		}},
		"live is said while cut off": {"G8", func(h *History) bool {
			return first(h, func(n *NodeHistory) []*Claim { return n.Claims },
				func(c *Claim) bool { return c.State == "stale" && behind(h, c) }, func(c *Claim) { c.State = "live" })
		}},
		"a write fails because of a trigger": {"G9", func(h *History) bool {
			h.Writes[len(h.Writes)/2].Outcome, h.Writes[len(h.Writes)/2].Code = Failed, "42703"
			return true
		}},
		"a node does not come back": {"G10", func(h *History) bool {
			return final(h, func(f *Final) { f.State = "stale" })
		}},
		"a node ends with another row": {"G10", func(h *History) bool {
			return final(h, func(f *Final) { f.Rows = f.Rows[1:] })
		}},
		"a goroutine leaks": {"G10", func(h *History) bool {
			return final(h, func(f *Final) { f.Leaks = "one" })
		}},
		"a session is left on the server": {"G10", func(h *History) bool {
			h.Left = append(h.Left, "session lockstep bell")
			return true
		}},
		"the witness misses a change": {"witness", func(h *History) bool {
			h.Witness = h.Witness[:len(h.Witness)-1]
			return true
		}}}
}
