//go:build unix

// Package robust drives nodes, writers and readers with seeded random traffic and faults,
// records what each of them saw, and checks the recorded history against what the project
// promises (docs/guarantees.md, G1 to G10).
//
// A run ([Run]) is a seed, a traffic profile, a schedule of faults and a PostgreSQL version.
// Nodes are processes of their own behind proxies of their own, so that one can be
// stopped, killed or cut off without the others. What the tables were at any instant is
// told by a witness that knows nothing of capture: row triggers of the test's own, which
// write every change with its transaction id into a table that nothing follows (but for the table of many rows). What capture
// wrote is kept as well, by a trigger that copies whatever trimming deletes.
//
// The model is etcd's robustness test suite: record first, judge afterwards, and test
// the judges with histories in which one thing is wrong.
package robust
