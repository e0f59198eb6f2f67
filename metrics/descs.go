package metrics

import "github.com/prometheus/client_golang/prometheus"

var descs []*prometheus.Desc

// desc declares a metric.
func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("lockstep_"+name, help, labels, nil)
	descs = append(descs, d)
	return d
}

// The metrics, in the order of docs/metrics.md.
var (
	nodeState   = desc("node_state", "1 for the state that the node is in, 0 for the others.", "state")
	staleness   = desc("staleness_seconds", "Time since the last completed fetch, or beat that found nothing to fetch, began: the node holds whatever had been committed by then.")
	positionAge = desc("position_age_seconds", "Time since a cut was last published. It grows while nobody writes.")
	nodeBell    = desc("bell", "1 for the doorbell in use, 0 for the others.", "bell")

	visibleTimes = desc("transaction_visible_seconds", "From a transaction's last captured event until it was visible in this node, free of the difference between the two clocks.")
	fetchTimes   = desc("fetch_duration_seconds", "Duration of the completed fetches.")
	cuts         = desc("cuts_total", "Published cuts, loads included.")
	events       = desc("events_total", "Events of the log: applied, passed because their table is not followed or was loaded in the same cut, or skipped because the position covered them.", "result")
	outOfOrder   = desc("events_out_of_order_total", "Events that came with a number below one that had been applied in an earlier cut.")
	gapsOpen     = desc("gaps_open", "Sequence numbers handed out that are not accounted for yet.")
	gapsClosed   = desc("gaps_closed_total", "Sequence numbers that were missing at first, by what became of them.", "how")
	// Anything but 0 is a defect of this library.
	gapsMisjudged = desc("gaps_misjudged_total", "Events that came after their number had been called void.")

	replays  = desc("replays_total", "Reconnects that caught up from the log without a load.")
	replayed = desc("events_replayed_total", "Events applied by them.")
	loads    = desc("loads_total", "Loads of tables from the database, by reason.", "reason")
	rereads  = desc("rereads_total", "Fetches that were done again to read rows, or tables, that events could not carry.")
	stills   = desc("still_beats_total", "Beats that found that nothing had been captured since the last fetch, and fetched nothing.")
	unrung   = desc("unrung_beats_total", "Beats that found events for which nobody had rung.")
	sessions = desc("sessions_total", "Sessions opened with the server.")
	failures = desc("failures_total", "Calls of the server that failed, lost bells included.")

	auditRows     = desc("audit_rows_total", "Rows of the database that were held against the node, and keys of the node that were looked for in the database.", "way")
	auditSweeps   = desc("audit_sweeps_total", "Complete sweeps of the audit over all tables.")
	auditWrong    = desc("audit_wrong_rows_total", "Rows of this node that were not what the database had at the same instant. One that stays wrong is counted in each sweep.", "table")
	auditFailures = desc("audit_failures_total", "Tables that the audit could not compare to the end in a sweep.")

	tableRows  = desc("table_rows", "Rows in memory.", "table")
	tableBytes = desc("table_bytes", "Memory of the rows, as estimated from their types.", "table")
	tableLive  = desc("table_live", "1 while the table may be relied upon: the node is live and keeps it up to date.", "table")
)
