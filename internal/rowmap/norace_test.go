//go:build !race

package rowmap

const raceEnabled = false
