package serve_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

func TestTheMetricsPageIsAsDocumented(t *testing.T) {
	s := served(t, serve.Options{Writes: true}, twoTables, "public.a", "public.b")
	s.get(rowPath("public.a", "1"))
	s.get(rowPath("public.a", "77"))
	s.send("BREW", rowPath("public.a", "1"), "")
	s.send(http.MethodPut, rowPath("public.a", "2"), "{}", asJSON)
	_, body, header := s.get("/metrics")
	if !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("%v", header)
	}
	for _, line := range []string{
		`lockstep_http_requests_total{code="200",method="get"} 1`, `lockstep_http_requests_total{code="404",method="get"} 1`,
		`lockstep_http_requests_total{code="405",method="other"} 1`, `lockstep_http_requests_total{code="201",method="put"} 1`,
		`lockstep_table_rows{table="public.a"} 2`, `lockstep_node_state{state="live"} 1`, `go_goroutines `, `process_start_time_seconds `,
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("the page lacks %s", line)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "lockstep_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if err != nil {
		t.Error(err)
	}
	page, err := os.ReadFile("../../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, found []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(lockstep_[a-z_]+)` \\| (\\w+) ").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, fmt.Sprint(m[1], " ", m[2]))
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (lockstep_[a-z_]+) (\w+)`).FindAllStringSubmatch(body, -1) {
		found = append(found, fmt.Sprint(m[1], " ", m[2]))
	}
	slices.Sort(documented)
	slices.Sort(found)
	if !slices.Equal(documented, found) {
		t.Errorf("found\n%s\ndocumented\n%s", strings.Join(found, "\n"), strings.Join(documented, "\n"))
	}
}

func TestTheProcessShowsMetricsBeforeItsTablesAreLoaded(t *testing.T) {
	a := asked(serve.Options{}, http.MethodGet, "http://localhost/metrics")
	if a.status != 200 || !strings.Contains(a.body, "\nlockstep_http_streams 0\n") || strings.Contains(a.body, "lockstep_table_rows") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
