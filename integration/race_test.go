//go:build race

package integration

// raceEnabled: everything takes several times as long, and as much memory.
const raceEnabled = true
