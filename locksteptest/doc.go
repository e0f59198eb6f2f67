// Package locksteptest runs a node without Postgres, for the unit tests of
// programs that embed one.
//
// The node is a real one: the engine, the cache, views, indexes, subscriptions,
// tokens and states are those of production. Only what it reads from is in
// memory. A test commits transactions by hand with [DB.Commit], cuts the node off and
// lets it come back ([DB.Disconnect], [DB.Reconnect]), trims the log or begins
// another history; Put, Update and Delete of the node's own tables are applied
// in memory, while connected.
//
// What is not there is SQL: no constraints, defaults, generated columns or
// triggers, and Node.Tx is refused. Rows are handed over as Go values and are
// not copied: what is in them must not be changed afterwards, which the node
// of [New] detects.
//
// It works in a bubble of testing/synctest, where time costs nothing.
package locksteptest
