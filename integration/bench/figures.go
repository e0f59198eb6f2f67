package main

import (
	"fmt"
	"iter"
	"maps"
	"math"
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

// over is the ratio of two things, round by round.
func (s series) over(t series) series {
	out := make(series, min(len(s), len(t)))
	for i := range out {
		out[i] = s[i] / t[i]
	}
	return out
}

// less is the difference of two things, round by round.
func (s series) less(t series) series {
	out := make(series, min(len(s), len(t)))
	for i := range out {
		out[i] = s[i] - t[i]
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

// ms are milliseconds.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// figure is one thing that was measured, as docs/benchmarks.json has it: a
// ratio, or a value with a unit that is context. A point is a place in a plot.
type figure struct {
	Name     string            `json:"name"`
	Ratio    *float64          `json:"ratio"` // the median; null where there is a value
	Target   *target           `json:"target"`
	Reached  *bool             `json:"reached"` // null without a target
	Spread   [2]float64        `json:"spread"`  // lowest and highest
	Settings map[string]string `json:"settings"`
	Part     string            `json:"part"`
	Compared string            `json:"compared,omitempty"` // a sentence
	Value    *float64          `json:"value,omitempty"`    // the median
	Unit     string            `json:"unit,omitempty"`
	Point    *point            `json:"point,omitempty"`
	Cell     *cell             `json:"cell,omitempty"`
}

// cell is a figure's place in a table of two dimensions.
type cell struct {
	Table  string `json:"table"`
	Row    string `json:"row"`
	Column string `json:"column"`
}

// target is what a figure is to reach.
type target struct {
	AtLeast *float64 `json:"at_least,omitempty"`
	AtMost  *float64 `json:"at_most,omitempty"`
}

// point is a figure's place in a plot: on which line, and where.
type point struct {
	Plot string  `json:"plot"`
	Line string  `json:"line"`
	X    float64 `json:"x"`
}

func atLeast(v float64) *target { return &target{AtLeast: &v} }

func atMost(v float64) *target { return &target{AtMost: &v} }

func (t *target) String() string {
	if t.AtLeast != nil {
		return "at least " + number(*t.AtLeast)
	}
	return "at most " + number(*t.AtMost)
}

func (t *target) reached(v float64) bool {
	if t.AtLeast != nil {
		return v >= *t.AtLeast
	}
	return v <= *t.AtMost
}

// median is the figure itself.
func (f *figure) median() float64 {
	if f.Ratio != nil {
		return *f.Ratio
	}
	return *f.Value
}

func (f *figure) String() string {
	s := number(f.median())
	if f.Unit != "" {
		s += " " + f.Unit
	}
	if f.Spread[0] != f.Spread[1] {
		s += fmt.Sprintf(" (%s to %s)", number(f.Spread[0]), number(f.Spread[1]))
	}
	return s
}

func (f *figure) verdict() string {
	if f.Target == nil {
		return ""
	}
	if *f.Reached {
		return f.Target.String() + ": reached"
	}
	return f.Target.String() + ": not reached"
}

// number prints three digits that count, and never an exponent.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return grouped(int64(math.Round(v)))
	case a >= 100 || a == math.Trunc(a):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.*f", min(9, 2-int(math.Floor(math.Log10(math.Abs(v))))), v)
}

// grouped is 1,234,567.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// inTurns yields each of some things in every round, which begins with another one each time.
func inTurns[T any](rounds int, things []T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for round := range rounds {
			for i := range things {
				if !yield(things[(i+round)%len(things)]) {
					return
				}
			}
		}
	}
}

// ratio reports what two things cost beside each other; compared is a sentence.
func (b *bench) ratio(name, compared string, s series, t *target) {
	b.report(figure{Name: name, Compared: compared, Target: t}, s)
}

// value reports something in a unit.
func (b *bench) value(name, unit, compared string, s series, t *target) {
	b.report(figure{Name: name, Unit: unit, Compared: compared, Target: t}, s)
}

// place reports a point of a plot; its name is made of the plot, the line and x.
func (b *bench) place(plot, line string, x float64, unit string, s series) {
	b.report(figure{Name: fmt.Sprintf("%s: %s at %s", plot, line, number(x)), Unit: unit, Point: &point{plot, line, x}}, s)
}

// cell reports a cell of a table; its name is made of the table, the row and the column.
func (b *bench) cell(table, row, column, unit, compared string, s series) {
	b.report(figure{Name: fmt.Sprintf("%s: %s, %s", table, row, column), Unit: unit, Compared: compared, Cell: &cell{table, row, column}}, s)
}

// report takes a figure in, and prints a line of it. A --quick run keeps to what has a target.
func (b *bench) report(f figure, s series) {
	if len(s) == 0 || b.quick && f.Target == nil {
		return
	}
	m := s.median()
	if f.Unit == "" {
		f.Ratio = &m
	} else {
		f.Value = &m
	}
	f.Part, f.Spread, f.Settings = b.part, [2]float64{slices.Min(s), slices.Max(s)}, maps.Clone(b.settings)
	if f.Target != nil {
		r := f.Target.reached(m)
		f.Reached = &r
	}
	b.figures = append(b.figures, f)
	if f.Point != nil || f.Cell != nil {
		return // there are many
	}
	fmt.Fprintf(b.print, "  %-62s %s", f.Name, f.String())
	if v := f.verdict(); v != "" {
		fmt.Fprintf(b.print, "  [%s]", v)
	}
	fmt.Fprintln(b.print)
}

// with sets a setting of the figures that fn reports.
func (b *bench) with(name, value string, fn func() error) error {
	before := b.settings
	b.settings = maps.Clone(before)
	b.settings[name] = value
	defer func() { b.settings = before }()
	return fn()
}

// medianOf times, which it sorts.
func medianOf(list []time.Duration) time.Duration {
	slices.Sort(list)
	return quantile(list, 0.5)
}
