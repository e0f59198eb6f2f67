//go:build race

package rowmap

// raceEnabled: under the race detector a sync.Pool drops things at random.
const raceEnabled = true
