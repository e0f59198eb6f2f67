package lockstep

import (
	"github.com/pglockstep/lockstep/replay"
)

// TableStatus is what a node says about one table.
type TableStatus struct {
	replay.TableStatus
	Rows  int
	Bytes int64 // of memory, as estimated from the types
}

// Status is a node's own account at the moment of the call.
type Status struct {
	replay.Status
	// Name is Config.Name.
	Name string
	// Tables are in the order in which Start was given them.
	Tables []TableStatus
}

// Status returns the node's own account. It does not block.
func (n *Node) Status() Status {
	s := Status{Status: n.engine.Status(), Name: n.cfg.Name}
	for i, t := range s.Status.Tables {
		s.Tables = append(s.Tables, TableStatus{TableStatus: t, Rows: n.tables[i].Len(), Bytes: n.tables[i].Bytes()})
	}
	return s
}
