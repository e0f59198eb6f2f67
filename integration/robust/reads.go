//go:build unix

package robust

import (
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// versions tells what a row was at a version of a node.
type versions map[rowKey][]struct {
	rev uint64
	row string
}

func (n *NodeHistory) versions() versions {
	v := versions{}
	for _, c := range n.Cuts {
		for _, d := range c.Diff {
			k := rowKey{d.Table, d.ID}
			v[k] = append(v[k], struct {
				rev uint64
				row string
			}{c.Rev, d.Row})
		}
	}
	return v
}

// at is the row at a version.
func (v versions) at(k rowKey, rev uint64) (row string) {
	for _, e := range v[k] {
		if e.rev > rev {
			break
		}
		row = e.row
	}
	return row
}

// during reports whether the row was this at one of the versions from lo to hi.
func (v versions) during(k rowKey, row string, lo, hi uint64) bool {
	if v.at(k, lo) == row {
		return true
	}
	for _, e := range v[k] {
		if e.rev > lo && e.rev <= hi && e.row == row {
			return true
		}
	}
	return false
}

// reads is G6 and the readers' half of G3: no reader goes back, and what a view shows is one published state.
// A version is visible before its record is written: where a node was killed in between, readers have seen what
// the history does not know.
func (j *judge) reads(n *NodeHistory) {
	v := n.versions()
	unrecorded := func(rev uint64) bool { return n.Killed && (len(n.Cuts) == 0 || rev > n.Cuts[len(n.Cuts)-1].Rev) }
	last, broken := map[int]uint64{}, map[uint64]bool{} // versions without a whole bank
	for _, c := range n.Cuts {
		broken[c.Rev] = c.Broken["account"] != "" || c.Broken["saving"] != ""
	}
	for _, r := range n.Reads {
		if r.Rev < last[r.Reader] {
			j.say("G6", n.Name, "reader %d went from version %d back to %d", r.Reader, last[r.Reader], r.Rev)
		}
		last[r.Reader] = r.Rev
		j.counts.Reads++
		if r.Total != bankTotal && !broken[r.Rev] {
			j.say("G3", n.Name, "a view of version %d adds up to %d, not %d", r.Rev, r.Total, bankTotal)
		}
		if unrecorded(r.Rev) {
			j.counts.Unrecorded++
			continue
		}
		for _, row := range r.Rows {
			if want := v.at(rowKey{row.Table, row.ID}, r.Rev); row.Row != want {
				j.say("G3", n.Name, "a view of version %d shows %s %d as %q, the version has %q", r.Rev, row.Table, row.ID, row.Row, want)
			}
		}
	}
	for _, g := range n.Gets {
		j.counts.Reads++
		if g.To < g.From {
			j.say("G6", n.Name, "reader %d went from version %d back to %d", g.Reader, g.From, g.To)
		}
		if unrecorded(g.To) {
			j.counts.Unrecorded++
			continue
		}
		if !v.during(rowKey{g.Row.Table, g.Row.ID}, g.Row.Row, g.From, g.To) {
			j.say("G6", n.Name, "between versions %d and %d reader %d read %s %d as %q, which it was in none of them", g.From, g.To, g.Reader, g.Row.Table, g.Row.ID, g.Row.Row)
		}
	}
}

// registerModel is one register: the stamp of its row, "" where there is none.
var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		op, _ := input.(*Op)
		old, _ := state.(string)
		switch op.Kind {
		case OpPut:
			return true, op.New
		case OpUpdate:
			return op.Outcome == Unknown || old == op.Old, op.New
		case OpDelete:
			// One that found nothing says so in New.
			return op.Outcome == Unknown || (old == "") == (op.New == "nothing"), ""
		}
		return old == op.New, state
	},
	DescribeOperation: func(input, _ any) string {
		op, _ := input.(*Op)
		return fmt.Sprintf("client %d %s %d %q %q %s", op.Client, op.Kind, op.Key, op.Old, op.New, op.Outcome)
	},
}

// decideWithin bounds the search for a linearization of one register.
const decideWithin = time.Minute

// registers is G5: after Put, Update, Delete or WaitFor the write is visible, after Barrier all that
// was committed before it is.
func (j *judge) registers() {
	end := Nanos(1 << 62)
	byKey := map[int][]porcupine.Operation{}
	for i, n := range j.h.Nodes {
		for _, op := range n.Ops {
			j.counts.Operations++
			switch {
			case op.Kind == OpMine || op.Kind == OpWaited:
				j.follows(n, op)
				continue
			case op.Outcome == Failed, op.Kind == OpRead && op.Outcome != OK:
				continue
			}
			back := op.Return
			if op.Outcome == Unknown || back == 0 {
				j.counts.Unknown++
				op.Outcome, back = Unknown, end // it may take effect whenever it likes
			}
			byKey[op.Key] = append(byKey[op.Key], porcupine.Operation{
				ClientId: i*100 + op.Client, Input: op, Call: int64(op.Call), Output: nil, Return: int64(back),
			})
		}
	}
	for key, ops := range byKey {
		if j.linearizable(key, ops) {
			j.counts.Registers++
		}
	}
}

func (j *judge) linearizable(key int, ops []porcupine.Operation) bool {
	switch porcupine.CheckOperationsTimeout(registerModel, ops, decideWithin) {
	case porcupine.Ok:
		return true
	case porcupine.Unknown:
		j.say("G5", "registers", "register %d with %d operations could not be decided in %v", key, len(ops), decideWithin)
	case porcupine.Illegal:
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
		text := ""
		for _, o := range ops[:min(len(ops), 40)] {
			text += fmt.Sprintf("\n  %d to %d %s", o.Call, o.Return, registerModel.DescribeOperation(o.Input, nil))
		}
		j.say("G5", "registers", "register %d is not linearizable:%s", key, text)
	}
	return false
}

// follows checks what a client read (Old) after its own write (New), or after another's that it has waited
// for: that write, or one that came after it. Such registers are never deleted.
func (j *judge) follows(n *NodeHistory, op *Op) {
	if op.Outcome != OK {
		return
	}
	wrote, ok := j.stamps[op.New]
	if read := j.stamps[op.Old]; !ok || op.Old == "" || read < wrote {
		j.say("G5", n.Name, "client %d wrote or waited for %s of register %d and then read %q (%s)", op.Client, op.New, op.Key, op.Old, op.Kind)
	}
}
