package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// merge puts figures over those of the same name in a file, which need not be there.
func merge(path string, figures []figure) ([]figure, error) {
	var all []figure
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(data, &all); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	at := map[string]int{}
	for i, f := range all {
		at[f.Name] = i
	}
	for _, f := range figures {
		if i, there := at[f.Name]; there {
			all[i] = f
			continue
		}
		at[f.Name] = len(all)
		all = append(all, f)
	}
	order := map[string]int{}
	for i, p := range parts {
		order[p.name] = i
	}
	slices.SortStableFunc(all, func(f, g figure) int { return order[f.Part] - order[g.Part] })
	return all, nil
}

// publish merges figures into dir/benchmarks.json, and writes dir/benchmarks.md and its plots anew.
func publish(dir string, figures []figure) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, "benchmarks.json")
	all, err := merge(path, figures)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return err
	}
	drawn, err := drawPlots(dir, all)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(page(all, drawn)), 0o644)
}

const head = `# Benchmarks

What lockstep costs, beside what one would use instead. This page is made by

    go run ./integration/bench

from what it measured; benchmarks.json has the same figures. What is compared ran in one process group with one
set of settings, in interleaved rounds; a figure is the median of the rounds, with the lowest and the highest. A ratio is
taken round by round. Ratios are the result; figures with a unit are context, and belong to the machine.
A letter names the settings, which stand [at the end](#settings).
`

// page is the whole of benchmarks.md.
func page(all []figure, drawn map[string]string) string {
	var w strings.Builder
	w.WriteString(head)
	letters := lettersOf(all)
	w.WriteString("\n## To reach\n\n| what | measured | target | | settings |\n|---|---|---|---|---|\n")
	for _, f := range all {
		if f.Target == nil {
			continue
		}
		mark := "reached"
		if !*f.Reached {
			mark = "**not reached**"
		}
		fmt.Fprintf(&w, "| %s | %s | %s | %s | %s |\n", f.Name, f.String(), f.Target, mark, letters[settingsLine(f.Settings)])
	}
	w.WriteString(unreached(all))
	for _, p := range parts {
		section(&w, p.name, p.title, all, drawn, letters)
	}
	w.WriteString("\n## Settings\n\n")
	lines := slices.SortedFunc(maps.Keys(letters), func(a, b string) int { return strings.Compare(letters[a], letters[b]) })
	for _, l := range lines {
		fmt.Fprintf(&w, "- **%s**: %s\n", letters[l], l)
	}
	return w.String()
}

// section is one part: its table, and its plots.
func section(w *strings.Builder, part, title string, all []figure, drawn map[string]string, letters map[string]string) {
	var rows, tables, plots []string
	for _, f := range all {
		if f.Part != part {
			continue
		}
		if f.Point != nil {
			if !slices.Contains(plots, f.Point.Plot) {
				plots = append(plots, f.Point.Plot)
			}
			continue
		}
		if f.Cell != nil {
			if !slices.Contains(tables, f.Cell.Table) {
				tables = append(tables, f.Cell.Table)
			}
			continue
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |", f.Name, f.String(), f.Compared, letters[settingsLine(f.Settings)]))
	}
	if len(rows)+len(tables)+len(plots) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## %s\n", title)
	if len(rows) > 0 {
		fmt.Fprintf(w, "\n| what | median (lowest to highest) | compared | settings |\n|---|---|---|---|\n%s\n", strings.Join(rows, "\n"))
	}
	for _, t := range tables {
		cells(w, t, all, letters)
	}
	for _, p := range plots {
		fmt.Fprintf(w, "\n![%s](%s)\n", p, drawn[p])
	}
	if part == "growth" {
		w.WriteString(enough(all))
	}
	if part == "fanout" {
		w.WriteString(manyNodes(all))
	}
}

// cells is a table of two dimensions, and a sentence for each of its rows.
func cells(w *strings.Builder, table string, all []figure, letters map[string]string) {
	var rows, columns []string
	at, about, settings := map[[2]string]string{}, map[string]string{}, ""
	for _, f := range all {
		if f.Cell == nil || f.Cell.Table != table {
			continue
		}
		c := *f.Cell
		if !slices.Contains(rows, c.Row) {
			rows = append(rows, c.Row)
		}
		if !slices.Contains(columns, c.Column) {
			columns = append(columns, c.Column)
		}
		text := number(f.median())
		if f.Spread[0] != f.Spread[1] {
			text += fmt.Sprintf(" (%s to %s)", number(f.Spread[0]), number(f.Spread[1]))
		}
		at[[2]string{c.Row, c.Column}], about[c.Row], settings = text, f.Compared, letters[settingsLine(f.Settings)]
	}
	fmt.Fprintf(w, "\n%s (settings %s)\n\n| | %s |\n|---%s|\n", table, settings, strings.Join(columns, " | "), strings.Repeat("|---", len(columns)))
	for _, r := range rows {
		fmt.Fprintf(w, "| %s |", r)
		for _, c := range columns {
			fmt.Fprintf(w, " %s |", at[[2]string{r, c}])
		}
		w.WriteString("\n")
	}
	w.WriteString("\n")
	for _, r := range rows {
		fmt.Fprintf(w, "- %s: %s.\n", r, about[r])
	}
}

// settingsLine is a figure's settings in one line.
func settingsLine(settings map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		list = append(list, name+" "+settings[name])
	}
	return strings.Join(list, ", ")
}

// lettersOf names each set of settings: A to Z, then A1.
func lettersOf(all []figure) map[string]string {
	letters := map[string]string{}
	for _, f := range all {
		line := settingsLine(f.Settings)
		if letters[line] != "" {
			continue
		}
		n := len(letters)
		letter := string(rune('A' + n%26))
		if n >= 26 {
			letter += fmt.Sprint(n / 26)
		}
		letters[line] = letter
	}
	return letters
}
