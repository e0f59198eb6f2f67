package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-analyze/charts"
)

// drawPlots draws each plot of which there are points into dir/benchmarks, and
// returns the plots' places relative to dir.
func drawPlots(dir string, all []figure) (map[string]string, error) {
	drawn := map[string]string{}
	points := map[string][]figure{}
	var names []string
	for _, f := range all {
		if f.Point == nil {
			continue
		}
		if points[f.Point.Plot] == nil {
			names = append(names, f.Point.Plot)
		}
		points[f.Point.Plot] = append(points[f.Point.Plot], f)
	}
	if len(names) == 0 {
		return drawn, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, "benchmarks"), 0o755); err != nil {
		return nil, err
	}
	for _, name := range names {
		svg, err := draw(name, points[name])
		if err != nil {
			return nil, fmt.Errorf("plot %q: %w", name, err)
		}
		drawn[name] = "benchmarks/" + slug(name) + ".svg"
		if err := os.WriteFile(filepath.Join(dir, drawn[name]), svg, 0o644); err != nil {
			return nil, err
		}
	}
	return drawn, nil
}

// slug is a plot's name as a file's.
func slug(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}), "-")
}

// draw puts the lines of a plot over its values of x, one beside the other
// however far apart they are; y is logarithmic, since what is plotted ranges widely.
func draw(name string, points []figure) ([]byte, error) {
	var xs []float64
	var lines []string
	for _, f := range points {
		if !slices.Contains(xs, f.Point.X) {
			xs = append(xs, f.Point.X)
		}
		if !slices.Contains(lines, f.Point.Line) {
			lines = append(lines, f.Point.Line)
		}
	}
	slices.Sort(xs)
	low, high := math.Inf(1), math.Inf(-1)
	data := make([][]float64, len(lines))
	for i, l := range lines {
		data[i] = make([]float64, len(xs))
		for j, x := range xs {
			data[i][j] = charts.GetNullValue()
			for _, f := range points {
				if v := f.median(); f.Point.Line == l && f.Point.X == x && v > 0 {
					data[i][j] = math.Log10(v)
					low, high = min(low, math.Floor(data[i][j])), max(high, math.Ceil(data[i][j]))
				}
			}
		}
	}
	if math.IsInf(low, 0) {
		low, high = 0, 1
	}
	high = max(high, low+1)
	opt := charts.NewLineChartOptionWithData(data)
	opt.Title.Text, opt.Padding = name+units(points), charts.NewBox(16, 16, 24, 16)
	opt.Title.FontStyle = charts.FontStyle{FontSize: 14}
	opt.Legend.SeriesNames, opt.Legend.Offset = lines, charts.OffsetStr{Left: "left", Top: "28"}
	opt.LineStrokeWidth, opt.Symbol = 2, charts.Symbol{Shape: charts.SymbolDot, Size: 3}
	opt.XAxis.Labels = make([]string, len(xs))
	for i, x := range xs {
		opt.XAxis.Labels[i] = number(x)
	}
	y := &opt.YAxis[0]
	y.Min, y.Max, y.LabelCount = &low, &high, int(high-low)+1
	y.ValueFormatter = func(v float64) string { return number(math.Pow(10, v)) }
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: 760, Height: 380})
	if err := p.LineChart(opt); err != nil {
		return nil, err
	}
	return p.Bytes()
}

// units says in what the lines of a plot are, where they have one unit.
func units(points []figure) string {
	for _, f := range points {
		if f.Unit != points[0].Unit {
			return ""
		}
	}
	if points[0].Unit == "" {
		return ""
	}
	return ", " + points[0].Unit
}
