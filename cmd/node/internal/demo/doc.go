// Package demo is a cluster in one command: a Postgres, three node processes,
// a company's traffic, an outage, and the account of it all. With fan-out there are a
// NATS server and a relay as well, and an outage of theirs.
package demo
