package window

import (
	"fmt"
	"math"

	"github.com/go-analyze/charts"
)

// theme is how charts look: on paper, or at night.
type theme struct {
	line, quiet, good, bad charts.Color
	axes                   charts.ColorPalette
}

var themes = [2]theme{ // by whether it is dark
	newTheme("#2563a8", "#b7791f", "#15803d", "#c0362c", "#c9ced6", "#e6e9ee", "#5b6472"),
	newTheme("#7ab4f5", "#d9a441", "#4ade80", "#f58476", "#3a424e", "#272e38", "#98a2b3"),
}

func newTheme(line, quiet, good, bad, axis, split, text string) theme {
	colour := charts.ColorFromHex
	return theme{
		line: colour(line), quiet: colour(quiet), good: colour(good), bad: colour(bad),
		axes: charts.MakeTheme(charts.ThemeOption{
			AxisStrokeColor: colour(axis), AxisSplitLineColor: colour(split), BackgroundColor: charts.ColorTransparent,
			TextColor:    colour(text),
			SeriesColors: []charts.Color{colour(line), colour(quiet), colour(good), colour(bad)},
		}),
	}
}

// Charts are drawn at twice the size at which a page of any width shows them,
// since the library places points on whole pixels.
const chartWidth, staleHeight, rateHeight = 760, 210, 160

// staleChart draws staleness, with gaps, replays and loads as marks on it.
func staleChart(points []point, dark bool) (string, error) {
	series := make([][]float64, 4)
	highest := 1.0
	for i := range series {
		series[i] = make([]float64, len(points))
	}
	for i, p := range points {
		for j, there := range []bool{p.known, p.gaps, p.replayed, p.loaded} {
			if series[j][i] = charts.GetNullValue(); there {
				series[j][i] = p.stale
			}
		}
		highest = max(highest, p.stale)
	}
	return draw(series, staleHeight, highest, dark, func(v float64) string { return fmt.Sprintf("%.3g s", v) })
}

// rateChart draws events a second.
func rateChart(points []point, dark bool) (string, error) {
	series := [][]float64{make([]float64, len(points))}
	highest := 10.0
	for i, p := range points {
		if series[0][i] = charts.GetNullValue(); p.known {
			series[0][i] = p.rate
		}
		highest = max(highest, p.rate)
	}
	return draw(series, rateHeight, highest, dark, func(v float64) string { return charts.FormatValueHumanizeShort(v, 0, false) })
}

func draw(series [][]float64, height int, highest float64, dark bool, text func(float64) string) (string, error) {
	t := &themes[0]
	if dark {
		t = &themes[1]
	}
	opt := charts.NewLineChartOptionWithData(series)
	opt.Theme, opt.Padding = t.axes, charts.NewBox(4, 14, 10, 4)
	opt.Legend.Show, opt.Title.Show = charts.Ptr(false), charts.Ptr(false)
	opt.LineStrokeWidth, opt.Symbol.Shape, opt.ValueFormatter = 2.5, charts.SymbolNone, text
	for i, size := range []float64{2.5, 8, 8} {
		if i+1 < len(opt.SeriesList) {
			opt.SeriesList[i+1].Symbol = charts.Symbol{Shape: charts.SymbolDot, Size: size}
		}
	}
	n := len(series[0])
	labels := make([]string, n)
	labels[0], labels[n-1] = fmt.Sprintf("−%d min", n/60), "now"
	font := charts.FontStyle{FontSize: 15, FontColor: t.axes.GetXAxisTextColor()}
	opt.XAxis.Labels, opt.XAxis.LabelFontStyle, opt.XAxis.BoundaryGap = labels, font, charts.Ptr(false)
	y := &opt.YAxis[0]
	y.Min, y.Max, y.LabelCount, y.LabelFontStyle = charts.Ptr(0.0), charts.Ptr(ceiling(highest)), 3, font
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: chartWidth, Height: height})
	if err := p.LineChart(opt); err != nil {
		return "", fmt.Errorf("draw a chart: %w", err)
	}
	svg, err := p.Bytes()
	return string(svg), err //nolint:wrapcheck // the same call
}

// ceiling is the next of 1, 2, 4, 6, 10, 20 ... at or above v, so that half of it reads well.
func ceiling(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 4, 6, 10} {
		if v <= step*unit {
			return step * unit
		}
	}
	return 10 * unit
}
