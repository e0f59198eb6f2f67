package main

import (
	"context"
	"fmt"
	"time"
)

// statements: one statement of 1, 100 and 100,000 rows.
func statements(ctx context.Context, b *bench) error {
	most := min(100_000, b.rows)
	tables := []string{"bulk_plain", "bulk_ours", "bulk_silent", "bulk_tutorial", "bulk_least"}
	if err := b.accountTables(ctx, most, "fillfactor = 100", tables...); err != nil {
		return err
	}
	if err := b.captureAccounts(ctx, tables[1], tables[2], tables[3], tables[4]); err != nil {
		return err
	}
	sizes := map[int]int{1: 200, 100: 50, most: 1} // statements in a round
	if b.quick {
		tables, sizes = tables[:2], map[int]int{most: 1}
	}
	for _, rows := range []int{1, 100, most} {
		if sizes[rows] == 0 {
			continue
		}
		took := map[string]series{}
		for table := range inTurns(b.rounds, tables) {
			d, err := b.bulk(ctx, table, rows, sizes[rows])
			if err != nil {
				return err
			}
			took[table] = append(took[table], ms(d))
		}
		b.sayStatements(rows, took, rows == most)
	}
	looped, loops := []string{"bulk_plain", "bulk_ours", "bulk_silent", "bulk_least"}, []loop{inserting, updating}
	rows := most / 5
	if b.quick {
		looped, loops, rows = looped[:2], loops[:1], rows/10
	}
	for _, l := range loops {
		if err := b.loops(ctx, l, rows, looped); err != nil {
			return err
		}
	}
	return nil
}

// loop is one statement of the client's that writes a table row by row.
type loop struct {
	what, sql string   // %s is the table
	after     []string // that the next one may do the same
	target    *target
}

var (
	// Where no other row is.
	inserting = loop{
		"inserts", "insert into %s values (1000000000 + i, i / 10, 0, 'note of ' || i)",
		[]string{"delete from %s where id > 1000000000", "vacuum %s"}, atMost(2.5),
	}
	// Of which each may be an older one than another of the same row, so that what is there is read.
	updating = loop{"updates", "update %s set balance = balance + 1 where id = i", []string{"vacuum %s"}, nil}
)

func (b *bench) loops(ctx context.Context, l loop, rows int, tables []string) error {
	took := map[string]series{}
	for table := range inTurns(b.rounds, tables) {
		began := time.Now()
		if err := b.exec(ctx, fmt.Sprintf("do $$ begin for i in 1..%d loop %s; end loop; end $$", rows, fmt.Sprintf(l.sql, table))); err != nil {
			return err
		}
		took[table] = append(took[table], ms(time.Since(began)))
		for _, sql := range l.after {
			if err := b.exec(ctx, fmt.Sprintf(sql, table)); err != nil {
				return err
			}
		}
	}
	name := grouped(int64(rows)) + " " + l.what + " by one plpgsql loop"
	b.ratio(name+": triggers / no trigger", "the time of a DO block that writes row by row: our triggers, and none", took["bulk_ours"].over(took["bulk_plain"]), l.target)
	b.ratio(name+": "+leastTrigger, "the same: "+leastAlone+", and none", took["bulk_least"].over(took["bulk_plain"]), nil)
	b.sayEach(name, "the time of the block, with its commit", took)
	return nil
}

func (b *bench) sayStatements(rows int, took map[string]series, last bool) {
	var t *target
	if last {
		t = atMost(1.8)
	}
	name := grouped(int64(rows)) + "-row UPDATE in one statement"
	b.ratio(name+": triggers / no trigger", "the time of a statement that commits by itself: our triggers, and none", took["bulk_ours"].over(took["bulk_plain"]), t)
	b.ratio(name+": triggers / outbox insert alone", "the same: our triggers, and capture that rings nothing", took["bulk_ours"].over(took["bulk_silent"]), nil)
	b.ratio(name+": triggers / plain NOTIFY trigger", "the same: our triggers, and one that notifies for each row", took["bulk_ours"].over(took["bulk_tutorial"]), nil)
	b.ratio(name+": "+leastTrigger, "the same: a trigger that does nothing but insert row_to_json of the rows into a log that nobody reads, and none", took["bulk_least"].over(took["bulk_plain"]), nil)
	b.sayEach(name, "the time of one statement, with its commit", took)
}

// sayEach reports the times of those tables that were measured.
func (b *bench) sayEach(name, compared string, took map[string]series) {
	for _, t := range []struct{ table, name string }{{"bulk_plain", "no trigger"}, {"bulk_ours", "triggers"}, {"bulk_silent", "outbox insert alone"}, {"bulk_tutorial", "plain NOTIFY trigger"}, {"bulk_least", "the least trigger that writes a log"}} {
		b.value(name+": "+t.name, "ms", compared, took[t.table], nil)
	}
}

// bulk is what one of n updates of so many rows takes.
func (b *bench) bulk(ctx context.Context, table string, rows, n int) (time.Duration, error) {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	began := time.Now()
	for i := range n {
		if _, err := conn.Exec(ctx, "update "+table+" set balance = balance + 1 where id between $1 and $2", i*rows+1, (i+1)*rows); err != nil {
			return 0, err
		}
	}
	took := time.Since(began) / time.Duration(n)
	return took, b.exec(ctx, "vacuum "+table)
}
