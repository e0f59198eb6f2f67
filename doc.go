// Package lockstep keeps Postgres tables in a program's memory, in lockstep
// with the database.
//
// Declare tables with [NewTable] and indexes with [NewIndex], give the tables to
// [Start], and read them from anywhere: reads take no context, return no error
// and use no network. The database is prepared once by `lockstep install`, which puts
// triggers on the tables.
//
// # What a reader sees
//
// Every state that a node shows is one that the database was in, across all
// tables: a transaction appears whole or not at all, nothing rolled back
// ever appears, and within one node nobody goes back in time. Each single read sees
// the newest state; [Node.View] holds one state still for reads that belong together.
//
// A node follows within milliseconds. While Postgres cannot be reached it goes on
// answering from memory and says since when ([Node.Status]); it comes back by
// replaying what it missed. Live means that the last completed fetch, or beat that found
// nothing to fetch, began no longer ago than Config.MaxStale.
//
// [Node.Barrier] makes what was committed before it visible. [Table.Put],
// [Table.Update], [Table.Delete] and [Node.Tx] write to Postgres and return once this
// node shows the write, with a [Token] that any other node can wait for
// ([Node.WaitFor]).
//
// # What is shared
//
// Rows are copies, but what their slices, maps and pointers lead to is shared
// by all readers and must not be changed: [Config].DetectMutation finds who
// does. Row, key and index functions run on the node's own goroutine, on readers'
// and the audit's, and on several at once while a node starts from a checkpoint;
// they must depend on their argument only.
//
// Package locksteptest runs a node without Postgres for unit tests.
package lockstep
