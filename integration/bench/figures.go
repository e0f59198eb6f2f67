package main

import (
	"fmt"
	"slices"
	"time"
)

// series are the measurements of one thing, one a round.
type series []float64

func (s series) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

func (s series) String() string {
	return fmt.Sprintf("%.4g (%.4g to %.4g)", s.median(), slices.Min(s), slices.Max(s))
}

// over is the ratio of two things, round by round.
func (s series) over(t series) series {
	out := make(series, len(s))
	for i := range s {
		out[i] = s[i] / t[i]
	}
	return out
}

// quantile of times in ascending order.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func line(name string, what any) { fmt.Printf("  %-58s %v\n", name, what) }
