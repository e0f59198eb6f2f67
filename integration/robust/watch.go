//go:build unix

package robust

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pause"
)

// cut records a published state, by a walk over all rows. It runs on the node's own goroutine, so
// nothing is published meanwhile.
func (m *member) cut(c lockstep.Cut) {
	m.rev++
	out := &Cut{
		T: now(), Began: at(c.Began), Position: c.Position, Snapshot: c.Snapshot, History: c.History.String(),
		LastSeq: c.LastSeq, Events: c.Events, Loaded: c.Loaded, Reason: string(c.Reason), Replay: c.Replay,
	}
	if node := m.live.Load(); node != nil { // else Start has not returned yet, and the count must do
		node.View(func(v *lockstep.View) { m.rev = v.Revision() })
		out.Broken = broken(node)
	}
	out.Rev = m.rev
	is := m.state()
	for k, row := range is {
		if m.was[k] != row {
			out.Diff = append(out.Diff, RowState{k.table, k.id, row})
		}
	}
	for k := range m.was {
		if _, ok := is[k]; !ok {
			out.Diff = append(out.Diff, RowState{k.table, k.id, ""})
		}
	}
	m.was = is
	m.rec.add(record{Cut: out})
}

// broken are the tables that the node says it cannot keep, by the names that histories have.
func broken(node *lockstep.Node) map[string]string {
	said := map[string]string{}
	for _, t := range node.Status().Status.Tables {
		if t.Problem != nil {
			said[short(t.Name)] = t.Problem.Error()
		}
	}
	return said
}

// state is what all tables hold now, of the bulk table the number of rows.
func (m *member) state() map[rowKey]string {
	is := make(map[rowKey]string, len(m.was))
	for name, t := range m.tables {
		if name == bulkTable {
			if n := t.Len(); n > 0 {
				is[rowKey{bulkTable, 0}] = bulkState(n)
			}
			continue
		}
		for id, row := range t.All() {
			is[rowKey{name, id}] = row.text()
		}
	}
	return is
}

// bulkState is the bulk table's one row in histories.
func bulkState(n int) string { return fmt.Sprintf("0,%d,bulk,0:", n) }

// subscribe records what a subscriber across tables is told.
func (m *member) subscribe(ctx context.Context) {
	for tx, err := range m.node.Changes(ctx) {
		if err != nil {
			return // the end of ctx
		}
		out := &Txn{Rev: tx.Revision, Xid: tx.Xid, Seq: tx.Seq, Resync: tx.Resync, Lost: tx.Reset || tx.Coalesced}
		for _, c := range tx.Changes {
			name := short(c.Table)
			id, _ := c.Key.(int)
			d := RowState{Table: name, ID: id}
			if row, ok := c.New.(Row); ok {
				d.Row = row.text()
			}
			if name != bulkTable {
				out.Changes = append(out.Changes, d)
			}
		}
		m.rec.add(record{Txn: out})
	}
}

// claim records what the node says of itself, 50 times a second, and brings the records to the file.
func (m *member) claim(ctx context.Context) {
	for n := 0; pause.For(ctx, 20*time.Millisecond); n++ {
		c := &Claim{T: now()}
		s := m.node.Status()
		c.State, c.Bell = s.State.String(), s.Bell
		m.node.View(func(v *lockstep.View) { c.Snapshot = lockstep.CutOf(v).Snapshot })
		m.rec.add(record{Claim: c})
		if n%5 == 0 {
			m.rec.flush()
		}
	}
}

// read looks through views and past them.
func (m *member) read(ctx context.Context, rng *rand.Rand) {
	names := []string{"account", "saving", "item", "echo", "tail", "wide", "part", "register"}
	for pause.For(ctx, time.Duration(3+rng.IntN(8))*time.Millisecond) {
		r := &Read{Call: now()}
		m.node.View(func(v *lockstep.View) {
			r.Rev = v.Revision()
			for _, a := range m.tables["account"].At(v).All() {
				r.Total += a.V
			}
			for range 4 {
				name := names[rng.IntN(len(names))]
				id := rng.IntN(40)
				row, ok := m.tables[name].At(v).Get(id)
				r.Rows = append(r.Rows, rowState(name, id, row, ok))
			}
			for _, a := range m.tables["saving"].At(v).All() { // last: it must still be of the same instant
				r.Total += a.V
			}
		})
		r.Return = now()
		m.rec.add(record{Read: r})
		g := &Get{}
		name, id := names[rng.IntN(len(names))], rng.IntN(40)
		m.node.View(func(v *lockstep.View) { g.From = v.Revision() })
		row, ok := m.tables[name].Get(id)
		m.node.View(func(v *lockstep.View) { g.To = v.Revision() })
		g.Row = rowState(name, id, row, ok)
		m.rec.add(record{Get: g})
	}
}

func rowState(table string, id int, row Row, ok bool) RowState {
	d := RowState{Table: table, ID: id}
	if ok {
		d.Row = row.text()
	}
	return d
}
