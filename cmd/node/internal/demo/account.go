package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
)

// observations are what the nodes have told.
type observations struct {
	mu   sync.Mutex
	seen map[string]map[int64]time.Time // by node and stamp
	away map[string]bool                // cut off, or not live again yet
}

func (o *observations) init() {
	o.seen, o.away = map[string]map[int64]time.Time{}, map[string]bool{}
}

func (o *observations) cut(node string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away[node] = true
}

func (o *observations) state(node, state string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if state == "live" {
		o.away[node] = false
	}
}

// visible notes a write that became visible. What a node replays after an
// outage is late because of the outage and says nothing about latency.
func (o *observations) visible(node string, stamp int64, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away[node] {
		return
	}
	if o.seen[node] == nil {
		o.seen[node] = map[int64]time.Time{}
	}
	if _, twice := o.seen[node][stamp]; !twice {
		o.seen[node][stamp] = at
	}
}

// latencies are from a commit's return in the writer to the row's being
// visible in the node, both by this machine's clock, in ascending order. A row
// that was visible before the writer heard of its own commit counts as 0.
func (c *cluster) latencies(node string) []time.Duration {
	c.heard.mu.Lock()
	defer c.heard.mu.Unlock()
	c.traffic.mu.Lock()
	defer c.traffic.mu.Unlock()
	var out []time.Duration
	for stamp, at := range c.heard.seen[node] {
		if committed, ok := c.traffic.commits[stamp]; ok {
			out = append(out, max(0, at.Sub(committed)))
		}
	}
	slices.Sort(out)
	return out
}

func quantile(sorted []time.Duration, q float64) string {
	if len(sorted) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Microseconds())/1000)
}

// account compares every node with Postgres, row by row, at one cut, and prints the table.
func (c *cluster) account(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c.say("the writers rest; every node is compared with Postgres, row by row")
	token, want, err := c.truth(ctx)
	if err != nil {
		return err
	}
	table := new(strings.Builder)
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "node\tevents applied\treplays\tevents replayed\treloads\tvisible p50\tp99\trows\tdiffering\t")
	wrong := false
	var examples []string
	for _, n := range c.nodes {
		m, err := n.ask(ctx, request{Do: "rows", Token: token})
		if err != nil {
			return err
		}
		if m.Rows == nil {
			return fmt.Errorf("%s: %s", n.name, m.Text)
		}
		differing := difference(want, m.Rows)
		took := c.latencies(n.name)
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%d\t%d\t\n", n.name, m.Status.Events, m.Status.Replays, m.Status.EventsReplayed,
			m.Status.Reloads, quantile(took, 0.5), quantile(took, 0.99), len(m.Rows), len(differing))
		if len(differing) > 0 || m.Status.Reloads > 0 {
			wrong = true
			examples = append(examples, differing[:min(3, len(differing))]...)
		}
	}
	_ = w.Flush() // into memory
	fmt.Fprintf(c.Out, "\n%s\n", table)
	fmt.Fprintf(c.Out, "visible: from a commit's return in the writer to the row in the node, while connected\n%s\n", c.traffic.summary())
	for _, e := range examples {
		fmt.Fprintln(c.Out, "differs:", e)
	}
	if wrong {
		return Err
	}
	fmt.Fprintln(c.Out, "every node holds exactly what Postgres holds, and none had to load its tables again")
	return nil
}

// truth is what Postgres holds, and a token of a transaction after which
// nothing was written.
func (c *cluster) truth(ctx context.Context) (token lockstep.Token, rows []string, err error) {
	tx, err := c.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return token, nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // it only reads
	var xid int64
	var history string
	err = tx.QueryRow(ctx, "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1, history::text from "+pgx.Identifier{c.schema, "meta"}.Sanitize()).Scan(&xid, &history)
	if err != nil {
		return token, nil, err
	}
	// The last completed transaction: whoever has it in a snapshot has all before it, since nobody writes.
	if token, err = lockstep.ParseToken(fmt.Sprintf("%s:%d", history, xid)); err != nil {
		return token, nil, err
	}
	departments, _ := tx.Query(ctx, "select id, name, manager from "+c.traffic.table("departments")) // the error comes with the rows
	ds, err := pgx.CollectRows(departments, pgx.RowToStructByName[Department])
	if err != nil {
		return token, nil, err
	}
	employees, _ := tx.Query(ctx, "select id, name, department, salary, stamp from "+c.traffic.table("employees"))
	es, err := pgx.CollectRows(employees, pgx.RowToStructByName[Employee])
	if err != nil {
		return token, nil, err
	}
	for _, d := range ds {
		rows = append(rows, departmentLine(d))
	}
	for _, e := range es {
		rows = append(rows, employeeLine(e))
	}
	slices.Sort(rows)
	return token, rows, nil
}

// difference are the lines that only one of two sorted lists has.
func difference(want, have []string) (out []string) {
	i, j := 0, 0
	for i < len(want) || j < len(have) {
		switch {
		case j == len(have) || i < len(want) && want[i] < have[j]:
			out = append(out, "only in Postgres: "+want[i])
			i++
		case i == len(want) || have[j] < want[i]:
			out = append(out, "only in the node: "+have[j])
			j++
		default:
			i, j = i+1, j+1
		}
	}
	return out
}

func (t *traffic) summary() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, what := range []string{"hires", "transfers", "dismissals", "new managers", "raises of a department", "rolled back raises"} {
		parts = append(parts, fmt.Sprintf("%d %s", t.count[what], what))
	}
	return "written: " + strings.Join(parts, ", ")
}
