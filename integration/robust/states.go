//go:build unix

package robust

import (
	"fmt"
	"slices"
)

// states is G3 and G4: every published state is one that the database was in, and nothing that
// was rolled back or forged is ever visible.
func (j *judge) states(n *NodeHistory) {
	gone := map[string]bool{"forged": true}
	for _, w := range j.h.Writes {
		for _, s := range w.Gone {
			gone[s] = true
		}
	}
	have, o := map[rowKey]string{}, newOracle(j.h)
	for i, c := range n.Cuts {
		whole := i == 0 || c.Reason != "" || j.h.next(c.Began) != o.limit || j.tail.took(n.Cuts[i-1])
		for _, d := range c.Diff {
			apply(have, d)
			if stamp := stampOf(d.Row); gone[stamp] {
				j.say("G4", n.Name, "version %d shows %s %d with %s, which was never committed", c.Rev, d.Table, d.ID, stamp)
			}
		}
		if j.tail.took(c) {
			j.counts.Tail++
			continue
		}
		j.counts.Cuts++
		if c.Replay {
			j.counts.Replays++
		}
		if len(c.Loaded) > 0 {
			j.counts.Loads++
		}
		j.counts.Broken += len(c.Broken)
		if whole || i == len(n.Cuts)-1 || i > 0 && len(n.Cuts[i-1].Broken) > 0 {
			o.restart(j.h.next(c.Began))
			o.to(c.Snapshot)
			if d := differ(kept(have, c.Broken), kept(o.rows(), c.Broken)); d != "" {
				j.say("G3", n.Name, "version %d at %v: %s", c.Rev, c.Snapshot, d)
			}
			continue
		}
		touched := o.to(c.Snapshot)
		for _, d := range c.Diff {
			touched[rowKey{d.Table, d.ID}] = true
		}
		for k := range touched {
			if want := o.row(k); have[k] != want && c.Broken[k.table] == "" {
				j.say("G3", n.Name, "version %d at %v: %s %d is %q and should be %q", c.Rev, c.Snapshot, k.table, k.id, have[k], want)
			}
		}
	}
}

// kept is a state without the tables that the node says it cannot keep.
func kept(state map[rowKey]string, broken map[string]string) map[rowKey]string {
	if len(broken) == 0 {
		return state
	}
	m := map[rowKey]string{}
	for k, row := range state {
		if broken[k.table] == "" {
			m[k] = row
		}
	}
	return m
}

// events is G2: every committed event is applied once, none lost, none doubled, and a
// subscriber is told of each.
func (j *judge) events(n *NodeHistory) {
	l := newLog(j.h, func(e *Event) bool { return slices.Contains(tables, short(e.Table)) })
	told, last := map[uint64][]*Txn{}, uint64(0)
	for _, t := range n.Txns {
		told[t.Rev] = append(told[t.Rev], t)
		last = t.Rev
	}
	have, fresh := map[rowKey]string{}, true
	for i, c := range n.Cuts {
		switch {
		case i == 0 || j.tail.took(c) || j.tail.took(n.Cuts[i-1]):
			fresh = true
		case len(c.Loaded) > 0:
			j.counts.Reloaded++
			fresh = true
		default:
			list := slices.DeleteFunc(l.between(j.h, n.Cuts[i-1], c, fresh), func(e *Event) bool { return c.Broken[short(e.Table)] != "" })
			fresh = false
			if len(list) != c.Events {
				j.say("G2", n.Name, "version %d (%v to %v) was made of %d events, the log has %d", c.Rev, n.Cuts[i-1].Position, c.Snapshot, c.Events, len(list))
				break
			}
			if n.Killed && c.Rev >= last {
				break // before its subscriber could record it
			}
			j.compare(n, c, list, have, told[c.Rev])
		}
		for _, d := range c.Diff {
			apply(have, d)
		}
	}
}

// compare holds what a subscriber was told of one cut against its events.
func (j *judge) compare(n *NodeHistory, c *Cut, list []*Event, state map[rowKey]string, told []*Txn) {
	want, wild := replayed(list, state)
	seq := int64(0)
	for _, t := range told {
		if t.Lost || t.Resync {
			j.counts.Uncounted++
			return
		}
		if t.Seq <= seq {
			j.say("G2", n.Name, "version %d: transaction %d with last event %d was told after event %d", c.Rev, t.Xid, t.Seq, seq)
		}
		seq = t.Seq
		changes := slices.DeleteFunc(slices.Clone(t.Changes), func(d RowState) bool { return wild[rowKey{d.Table, d.ID}] || wild[rowKey{d.Table, 0}] })
		w, ok := want[t.Xid]
		delete(want, t.Xid)
		if !ok && len(changes) > 0 {
			j.say("G2", n.Name, "version %d: a subscriber was told of transaction %d, which is not in the cut or was told before", c.Rev, t.Xid)
			continue
		}
		if !slices.Equal(changes, w) {
			j.say("G2", n.Name, "version %d: of transaction %d a subscriber was told %v, the log says %v", c.Rev, t.Xid, some(changes), some(w))
		}
	}
	for xid, w := range want {
		if len(w) > 0 {
			j.say("G2", n.Name, "version %d: a subscriber was not told of transaction %d, which changed %v", c.Rev, xid, some(w))
		}
	}
	j.counts.Events += len(list)
}

// some is the beginning of a list.
func some(list []RowState) string {
	if len(list) > 4 {
		return fmt.Sprintf("%v and %d more", list[:4], len(list)-4)
	}
	return fmt.Sprint(list)
}

// replayed applies events to a state by hand, and leaves the state as it is. It returns the changes by transaction, as a subscriber is told (an update that changed nothing is one), and the rows
// (ID 0: all of the table) of which an event does not say what they became.
func replayed(list []*Event, state map[rowKey]string) (changes map[uint64][]RowState, wild map[rowKey]bool) {
	changes, wild = map[uint64][]RowState{}, map[rowKey]bool{}
	for _, e := range list {
		table := short(e.Table)
		if table == bulkTable || e.Op == "T" || e.Op == "R" && !e.Keyed {
			wild[rowKey{table, 0}] = true
		} else if e.Op == "R" {
			wild[rowKey{table, e.ID}] = true
		}
	}
	over := map[rowKey]string{} // what the state became
	for _, e := range list {
		k := rowKey{short(e.Table), e.ID}
		was, ok := over[k]
		if !ok {
			was = state[k]
		}
		if wild[k] || wild[rowKey{k.table, 0}] || was == "" && e.State == "" {
			continue
		}
		d := RowState{k.table, k.id, e.State}
		over[k] = e.State
		changes[e.Xid] = append(changes[e.Xid], d)
	}
	return changes, wild
}
