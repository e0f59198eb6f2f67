//go:build !race

package cache

// invariants turns on the checks of verify.go; under the race detector they are on.
const invariants = false
