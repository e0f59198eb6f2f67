// Package stream carries the log over NATS JetStream, for fleets that should not
// each ask Postgres.
//
// A Relay follows the outbox and publishes what it reads, as batches: everything between two
// snapshots of its connection. A node with Source (lockstep.Config.Source) loads from
// Postgres, then takes batches, and asks Postgres only for what they cannot tell: what
// is missing between them, tables and rows to be read, and whatever somebody waits for
// (Barrier, WaitFor, a write of the node's own). What the server's clock says, and to write its row in the register, it
// asks the relay.
//
// What is lost, doubled, late or out of order on the way costs a fetch from Postgres at the
// most: a batch says where it begins and ends, and a node takes one only where it
// fits what the node has. Messages carry a MAC, whose key the relay leaves in Postgres for those who may
// follow. Who has it can make messages; who can only publish cannot.
package stream
