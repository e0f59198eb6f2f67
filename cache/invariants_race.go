//go:build race

package cache

// invariants turns on the checks of verify.go.
const invariants = true
