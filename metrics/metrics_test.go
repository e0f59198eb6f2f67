package metrics_test

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/metrics"
	"github.com/pglockstep/lockstep/triggers"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type row struct{ ID int }

// node is one on a table of 3 rows of a real database.
func node(t *testing.T) (*lockstep.Node, *lockstep.Table[int, row], *pgtest.DB) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key); insert into a select generate_series(1, 3)")
	quiet := slog.New(slog.DiscardHandler)
	if err := triggers.Install(t.Context(), db.Conn(t), triggers.Options{Logger: quiet}, "public.a"); err != nil {
		t.Fatal(err)
	}
	tab := lockstep.NewTable("public.a", func(r row) int { return r.ID })
	n, err := lockstep.Start(t.Context(), db.Pool(t), lockstep.Config{Register: -1, MaxStale: time.Minute, Logger: quiet}, tab)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n, tab, db
}

// gathered is what a registry that checks everything gathers, by name.
func gathered(t *testing.T, n *lockstep.Node) map[string]*dto.MetricFamily {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.New(n))
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]*dto.MetricFamily)
	for _, f := range all {
		found[f.GetName()] = f
	}
	return found
}

// value is the value of a metric's series that has this label's value.
func value(t *testing.T, all map[string]*dto.MetricFamily, name, label string) float64 {
	t.Helper()
	for _, m := range all[name].GetMetric() {
		if len(m.GetLabel()) == 0 && label == "" || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Fatalf("there is no %s{%s}", name, label)
	return 0
}

func TestThePageListsEveryMetricWithItsTypeAndLabels(t *testing.T) {
	n, _, _ := node(t)
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(lockstep_[a-z_]+)` \\| (\\w+) \\|([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		if !strings.HasPrefix(m[1], "lockstep_http_") { // those are the command's
			documented[m[1]] = strings.TrimSpace(m[2] + " " + strings.TrimSpace(strings.ReplaceAll(m[3], "`", "")))
		}
	}
	got := map[string]string{}
	for name, f := range gathered(t, n) {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		got[name] = strings.TrimSpace(strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if documented[name] != got[name] {
			t.Errorf("%s is a %s, and documented as %q", name, got[name], documented[name])
		}
		for _, m := range gathered(t, n)[name].GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() != "table" && !strings.Contains(string(page), "`"+l.GetValue()+"`") {
					t.Errorf("%s has a %s=%q that is not documented", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
	if len(got) != len(documented) {
		t.Errorf("%d metrics, %d documented", len(got), len(documented))
	}
}

func TestTheNamesFollowPrometheusConventions(t *testing.T) {
	n, _, _ := node(t)
	problems, err := testutil.CollectAndLint(metrics.New(n))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestTheValuesAreThoseOfTheStatus(t *testing.T) {
	n, tab, db := node(t)
	for i := range 5 {
		if _, err := tab.Put(t.Context(), row{10 + i}); err != nil {
			t.Fatal(err)
		}
	}
	db.Exec(t, "begin; insert into a values (20); insert into a values (21); commit; begin; insert into a values (22); rollback")
	if err := n.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, all := n.Status(), gathered(t, n)
	for _, c := range []struct {
		name, label string
		want        float64
	}{
		{"lockstep_node_state", "live", 1},
		{"lockstep_node_state", "stale", 0},
		{"lockstep_table_rows", "public.a", 10},
		{"lockstep_table_live", "public.a", 1},
		{"lockstep_bell", s.Bell, 1},
		{"lockstep_loads_total", "first_load", 1},
		{"lockstep_loads_total", "requested", 1},
		{"lockstep_loads_total", "trimmed", 0},
		{"lockstep_events_total", "applied", 7},
		{"lockstep_transaction_visible_seconds", "", 6}, // transactions, not events
		{"lockstep_cuts_total", "", float64(s.Cuts)},
		{"lockstep_sessions_total", "", 1},
		{"lockstep_failures_total", "", 0},
	} {
		if got := value(t, all, c.name, c.label); got != c.want {
			t.Errorf("%s{%s} is %v, want %v", c.name, c.label, got, c.want)
		}
	}
	if bytes := value(t, all, "lockstep_table_bytes", "public.a"); bytes != float64(tab.Bytes()) || bytes == 0 {
		t.Errorf("%v bytes, the table has %d", bytes, tab.Bytes())
	}
	if fetches := value(t, all, "lockstep_fetch_duration_seconds", ""); fetches < float64(s.Fetches) {
		t.Errorf("%v fetches are timed, of %d", fetches, s.Fetches)
	}
	for _, name := range []string{"lockstep_transaction_visible_seconds", "lockstep_fetch_duration_seconds"} {
		h := all[name].GetMetric()[0].GetHistogram()
		if sum := h.GetSampleSum(); sum <= 0 || sum > time.Minute.Seconds()*float64(h.GetSampleCount()) {
			t.Errorf("%s: %v seconds in %d", name, sum, h.GetSampleCount())
		}
		last := uint64(0)
		for _, b := range h.GetBucket() {
			if b.GetCumulativeCount() < last || b.GetCumulativeCount() > h.GetSampleCount() {
				t.Errorf("%s: %v", name, h)
			}
			last = b.GetCumulativeCount()
		}
	}
}

func TestTwoNodesShareARegistryAndAClosedOneIsStillTold(t *testing.T) {
	a, _, _ := node(t)
	b, _, _ := node(t)
	reg := prometheus.NewPedanticRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"node": "a"}, reg).MustRegister(metrics.New(a))
	prometheus.WrapRegistererWith(prometheus.Labels{"node": "b"}, reg).MustRegister(metrics.New(b))
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := `
		# HELP lockstep_node_state 1 for the state that the node is in, 0 for the others.
		# TYPE lockstep_node_state gauge
		lockstep_node_state{node="a",state="catching_up"} 0
		lockstep_node_state{node="a",state="closed"} 1
		lockstep_node_state{node="a",state="live"} 0
		lockstep_node_state{node="a",state="loading"} 0
		lockstep_node_state{node="a",state="resyncing"} 0
		lockstep_node_state{node="a",state="stale"} 0
		lockstep_node_state{node="b",state="catching_up"} 0
		lockstep_node_state{node="b",state="closed"} 0
		lockstep_node_state{node="b",state="live"} 1
		lockstep_node_state{node="b",state="loading"} 0
		lockstep_node_state{node="b",state="resyncing"} 0
		lockstep_node_state{node="b",state="stale"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "lockstep_node_state"); err != nil {
		t.Error(err)
	}
}
