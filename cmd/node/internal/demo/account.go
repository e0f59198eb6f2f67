package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
)

// account compares every node with Postgres, row by row, at one cut, and prints the table.
func (c *cluster) account(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c.say(plain, "the writers rest; every node is compared with Postgres, row by row")
	token, want, err := c.truth(ctx)
	if err != nil {
		return err
	}
	table := new(strings.Builder)
	w := tabwriter.NewWriter(table, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "node\tevents applied\treplays\tevents replayed\tfull reloads\tvisible p50\tp99\trows\tdiffering\t")
	wrong := c.wrong
	timed := 0
	var all []*account
	for _, n := range c.nodes {
		m, err := n.ask(ctx, request{Do: "rows", Token: token})
		if err != nil {
			return err
		}
		differing := difference(want, m.Rows)
		took := c.book.latencies(n.name)
		timed += len(took)
		s := m.Status
		all = append(all, s)
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\t%d\t\n", n.name, thousands(s.Events), s.Replays, thousands(s.EventsReplayed),
			s.Reloads, quantile(took, 0.5), quantile(took, 0.99), thousands(uint64(len(m.Rows))), len(differing))
		for _, d := range differing[:min(3, len(differing))] {
			wrong = append(wrong, n.name+": "+d)
		}
		if s.Reloads > 0 {
			wrong = append(wrong, fmt.Sprintf("%s loaded its tables again, where it should have replayed", n.name))
		}
		if s.Aborted > 0 {
			wrong = append(wrong, fmt.Sprintf("%s showed %d rows of transactions that were rolled back", n.name, s.Aborted))
		}
	}
	_ = w.Flush() // into memory
	c.line(plain, "\n%s", table)
	c.line(dim, "visible: from a commit's return in the writer until the node shows the row, by this machine's one clock;")
	c.line(dim, "%s waits were timed, those that an outage drew out are left out", thousands(uint64(timed)))
	if c.fanout != nil {
		c.sources(all)
	}
	c.line(plain, "written: %s", c.traffic.summary())
	return c.verdict(wrong)
}

func (c *cluster) verdict(wrong []string) error {
	for _, w := range wrong {
		c.line(bad, "wrong: %s", w)
	}
	if len(wrong) > 0 {
		return Err
	}
	c.line(good, "every node holds exactly what Postgres holds, saw nothing that was rolled back, and never loaded its tables again")
	return nil
}

// truth is what Postgres holds, and the token of the transaction that read it.
// The writers rest: whatever they wrote was committed before that transaction
// drew its id, so whoever has it in a snapshot has all of it. (No other
// transaction's id says so, be it the highest: a lower one may have ended after it.)
func (c *cluster) truth(ctx context.Context) (token lockstep.Token, rows []string, err error) {
	tx, err := c.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return token, nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // or it is committed
	var xid int64
	var history string
	err = tx.QueryRow(ctx, "select pg_current_xact_id()::text::bigint, history::text from "+pgx.Identifier{c.schema, "meta"}.Sanitize()).Scan(&xid, &history)
	if err != nil {
		return token, nil, err
	}
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
	return token, rows, tx.Commit(ctx)
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
