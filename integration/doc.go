// Package integration has the tests that need a real Postgres and a whole
// node, and the benchmarks.
package integration
