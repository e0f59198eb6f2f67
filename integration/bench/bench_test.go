package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// tiny runs everything once.
var tiny = scale{
	rounds: 1, span: 100 * time.Millisecond, writers: []int{1, 16}, rows: 5000, looks: 1000, look: time.Millisecond, commits: 10, outbox: 5000,
	missed: 5000, nodes: 2, idle: 4, quiet: 500 * time.Millisecond, fleet: 4, watched: 200 * time.Millisecond,
}

func TestMain(m *testing.M) {
	if !help() {
		os.Exit(m.Run())
	}
}

var some = flag.String("parts", names(), "the parts to run")

// Each part runs, and what they write can be read: by programs and by people.
func TestPartsRunAndArePublished(t *testing.T) {
	dir := t.TempDir()
	*retentionFor, *retentionKeep, *retentionEvery = 3*time.Second, time.Second, 200*time.Millisecond
	b := &bench{print: t.Output(), scale: tiny}
	if err := b.all(t.Context(), strings.Split(*some, ","), dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "benchmarks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var raw []map[string]any
	var all []figure
	if err := errors.Join(json.Unmarshal(data, &raw), json.Unmarshal(data, &all)); err != nil {
		t.Fatal(err)
	}
	for _, f := range raw {
		for _, key := range []string{"name", "ratio", "target", "reached", "spread", "settings"} {
			if _, there := f[key]; !there {
				t.Errorf("%v has no %s", f["name"], key)
			}
		}
	}
	wantWhole(t, all)
	md, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	wantPage(t, dir, string(md), all)
}

// wantWhole: figures have names of their own, one number, and a sentence or a place in a plot.
func wantWhole(t *testing.T, all []figure) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range all {
		if seen[f.Name] {
			t.Errorf("two figures are called %q", f.Name)
		}
		seen[f.Name] = true
		if (f.Ratio == nil) == (f.Value == nil) || (f.Value == nil) != (f.Unit == "") {
			t.Errorf("%q is not either a ratio or a value in a unit", f.Name)
		}
		if (f.Target == nil) != (f.Reached == nil) {
			t.Errorf("%q has a target or is judged, and not both", f.Name)
		}
		if f.Compared == "" && f.Point == nil {
			t.Errorf("%q does not say what is compared", f.Name)
		}
		if m := f.median(); m < f.Spread[0] || m > f.Spread[1] {
			t.Errorf("%q: the median %v is not within %v", f.Name, m, f.Spread)
		}
		for _, s := range []string{"cores", "CPU", "PostgreSQL", "fsync", "synchronous_commit", "go"} {
			if f.Settings[s] == "" {
				t.Errorf("%q does not say %s", f.Name, s)
			}
		}
	}
	for _, p := range parts {
		if strings.Contains(*some, p.name) && !slices.ContainsFunc(all, func(f figure) bool { return f.Part == p.name }) {
			t.Errorf("part %s has measured nothing", p.name)
		}
	}
}

// wantPage: every figure stands on the page, tables have as many cells as columns, and plots are there.
func wantPage(t *testing.T, dir, md string, all []figure) {
	t.Helper()
	for _, f := range all {
		if f.Point == nil && f.Cell == nil && !strings.Contains(md, "| "+f.Name+" |") {
			t.Errorf("%q does not stand on the page", f.Name)
		}
	}
	columns := 0
	for line := range strings.Lines(md) {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		n := strings.Count(line, "|")
		if columns == 0 {
			columns = n
		}
		if n != columns {
			t.Errorf("a row has %d bars instead of %d: %s", n, columns, line)
		}
	}
	plots := regexp.MustCompile(`!\[[^\]]+\]\(([^)]+)\)`).FindAllStringSubmatch(md, -1)
	if len(plots) == 0 {
		t.Error("there is no plot")
	}
	for _, m := range plots {
		svg, err := os.Open(filepath.Join(dir, m[1]))
		if err != nil {
			t.Error(err)
			continue
		}
		d := xml.NewDecoder(svg)
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s is not XML: %v", m[1], err)
		}
		_ = svg.Close()
	}
}

// A part that is measured again takes the place of what it had measured, and leaves the rest.
func TestFiguresAreMergedByName(t *testing.T) {
	dir := t.TempDir()
	b := &bench{print: t.Output(), settings: map[string]string{"cores": "2"}}
	measure := func(part string, v float64) {
		b.part, b.figures = part, nil
		b.ratio("the ratio of "+part, "one and the other.", series{v}, atMost(1))
		if err := publish(dir, b.figures); err != nil {
			t.Fatal(err)
		}
	}
	measure("load", 2)
	measure("writes", 3)
	measure("load", 0.5)
	all, err := merge(filepath.Join(dir, "benchmarks.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Part != "writes" || *all[0].Ratio != 3 || *all[0].Reached || *all[1].Ratio != 0.5 || !*all[1].Reached {
		t.Errorf("the figures are %+v", all)
	}
	md, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(md), "| the ratio of load | 0.500 |"); n != 2 { // among what is to be reached, and in its part
		t.Errorf("the page has the new figure %d times:\n%s", n, md)
	}
}

func TestANumberHasThreeDigitsThatCount(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 1.2345: "1.23", 12.345: "12.3", 123.45: "123", 1234.5: "1,235", 1e6: "1,000,000",
		0.5: "0.500", 0.04: "0.0400", 0.00123: "0.00123", -1234: "-1,234", -0.5: "-0.500",
	} {
		if got := number(v); got != want {
			t.Errorf("%v is printed as %s, want %s", v, got, want)
		}
	}
}

func TestAPartThatIsNotThereIsNamed(t *testing.T) {
	b := &bench{print: io.Discard, scale: tiny}
	if err := b.all(t.Context(), []string{"nonsense"}, ""); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Errorf("the error is %v", err)
	}
}
