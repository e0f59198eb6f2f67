// Package demo is a cluster in one command: a Postgres, three node processes,
// a company's traffic, an outage, and the account of it all.
package demo
