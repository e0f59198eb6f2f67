package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/replay"
)

// New returns a collector of one node's metrics. Gathering takes the time of
// Node.Status; it blocks nobody, and goes on after the node was closed.
func New(node *lockstep.Node) prometheus.Collector { return collector{node} }

type collector struct{ node *lockstep.Node }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.node.Status()
	g := gather{out}
	g.state(&s)
	g.log(&s)
	g.gaps(&s)
	g.failures(&s)
	g.audit(&s)
	for _, t := range s.Tables {
		g.gauge(tableRows, float64(t.Rows), t.Name)
		g.gauge(tableBytes, float64(t.Bytes), t.Name)
		g.gauge(tableLive, one(t.Live), t.Name)
	}
}

// gather sends values.
type gather struct{ out chan<- prometheus.Metric }

func (g gather) gauge(d *prometheus.Desc, v float64, labels ...string) {
	g.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (g gather) counter(d *prometheus.Desc, v uint64, labels ...string) {
	g.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// times sends a histogram, whose classes count what lies below them as well.
func (g gather) times(d *prometheus.Desc, t *replay.Times) {
	buckets := make(map[float64]uint64, len(replay.TimeBounds))
	var n uint64
	for i, bound := range replay.TimeBounds {
		n += t.Counts[i]
		buckets[bound.Seconds()] = n
	}
	g.out <- prometheus.MustNewConstHistogram(d, n+t.Counts[len(replay.TimeBounds)], t.Sum.Seconds(), buckets)
}

func (g gather) state(s *lockstep.Status) {
	for _, state := range states {
		g.gauge(nodeState, one(s.State == state), word(state.String()))
	}
	for _, bell := range bells {
		g.gauge(nodeBell, one(s.Bell == bell), bell)
	}
	g.gauge(staleness, s.Staleness.Seconds())
	age := time.Duration(0)
	if !s.LastCut.IsZero() {
		age = max(0, time.Since(s.LastCut))
	}
	g.gauge(positionAge, age.Seconds())
}

func (g gather) log(s *lockstep.Status) {
	g.times(fetchTimes, &s.FetchTimes)
	g.times(visibleTimes, &s.VisibleTimes)
	g.counter(cuts, s.Cuts)
	g.counter(events, s.Events, "applied")
	g.counter(events, s.Passed, "passed")
	g.counter(events, s.Skipped, "skipped")
	g.counter(outOfOrder, s.OutOfOrder)
	g.counter(replays, s.Replays)
	g.counter(replayed, s.EventsReplayed)
	for _, reason := range replay.Reasons {
		g.counter(loads, s.LoadsFor[reason], word(string(reason)))
	}
	g.counter(rereads, s.Rereads)
	g.counter(stills, s.Stills)
	g.counter(unrung, s.Unrung)
}

func (g gather) gaps(s *lockstep.Status) {
	g.gauge(gapsOpen, float64(s.Gaps.Open))
	g.counter(gapsClosed, s.Gaps.Late, "late")
	g.counter(gapsClosed, s.Gaps.Void, "void")
	g.counter(gapsClosed, s.Gaps.Replayed, "replayed")
	g.counter(gapsClosed, s.Gaps.Reloaded, "reloaded")
	g.counter(gapsMisjudged, s.Gaps.Misjudged)
}

func (g gather) failures(s *lockstep.Status) {
	g.counter(sessions, s.Sessions)
	g.counter(failures, s.Failures)
}

func (g gather) audit(s *lockstep.Status) {
	g.counter(auditRows, s.Audit.Rows, "database")
	g.counter(auditRows, s.Audit.Keys, "node")
	g.counter(auditSweeps, s.Audit.Sweeps)
	for _, t := range s.Tables {
		g.counter(auditWrong, s.Audit.Wrong[t.Name], t.Name)
	}
	g.counter(auditFailures, s.Audit.Failures)
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// word is a state or a reason as a label's value.
func word(s string) string { return strings.ReplaceAll(s, " ", "_") }

// The values of labels, all of which are always there: a rate needs the zero.
var (
	states = []lockstep.State{lockstep.Loading, lockstep.Live, lockstep.Stale, lockstep.CatchingUp, lockstep.Resyncing, lockstep.Closed}
	bells  = []string{"wal", "notify", "poll", "stream"}
)
