// Package wal is the doorbell that reads the log of Postgres. A node that has
// it (lockstep.Config.WAL) reads, where the database was installed with
// bell wal, through a temporary logical slot what is published of the outbox, and
// fetches when a transaction that wrote there is committed. Nothing is added to
// the commit: no trigger, no NOTIFY.
//
// It needs wal_level = logical, a free slot (max_replication_slots) and
// walsender (max_wal_senders) for each node, a role with REPLICATION, and a way to
// the server on which replication connections pass.
//
// It is refused where synchronous_standby_names would take it for a standby.
//
// What it costs: the server decodes its whole log once for each node, and puts
// large transactions, whatever they wrote, on its disk while it does. A slot
// cannot be had until every transaction has ended that was writing when it was asked for,
// in any database of the cluster, and it keeps the log from the beginning of the oldest
// one that is running. With synchronous_commit = off a commit is visible before
// it stands in the log: the ring comes with the flush, wal_writer_delay later.
// Version 14 sends every event of a transaction, later ones one number of each.
//
// A ring may be late, by a beat at the most: each time the server logs who is
// running (every 15 s, and at checkpoints) decoding writes a snapshot of its own
// and waits for the disk, and nothing is sent meanwhile.
//
// A database cannot be dropped, not even WITH (FORCE), while such a node follows it.
//
// It rests while transactions come in crowds: whoever drives the session fetches all the time then (outbox.Session.Rest).
//
// Nothing of it outlives the node: the slot ends with its connection. One whose
// peer has vanished without a word ends after wal_sender_timeout.
package wal
