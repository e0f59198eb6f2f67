package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox/wal"
	"github.com/pglockstep/lockstep/triggers"
)

// ways are what a commit may have to pay: nothing, the outbox insert, the
// insert while a node reads the log, the insert and a notification.
var ways = []struct {
	name, table string
	bell        triggers.Bell
	node        bool
}{
	{"no trigger", "plain", triggers.BellOff, false},
	{"outbox insert alone", "ours", triggers.BellOff, false},
	{"WAL bell", "ours", triggers.BellWAL, true},
	{"NOTIFY bell", "ours", triggers.BellNotify, true},
}

// bells: what each bell costs the writers, the server and the reader, on a
// server of its own whose log can be decoded.
func bells(ctx context.Context, on *bench) (err error) {
	b := *on
	stop, err := b.serve(ctx, "logical")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := b.writerTables(ctx); err != nil {
		return err
	}
	const writers = 16
	rate := map[string]series{}
	var walsender series
	for round := range b.rounds {
		for i := range ways {
			way := ways[(i+round)%len(ways)]
			err := b.underBell(ctx, way.bell, way.node, func(*lockstep.Table[int, account]) error {
				before, began := b.walsenderCPU(ctx), time.Now()
				n, err := b.hammer(ctx, way.table, writers, "")
				rate[way.name] = append(rate[way.name], n)
				if way.bell == triggers.BellWAL {
					walsender = append(walsender, (b.walsenderCPU(ctx)-before).Seconds()/time.Since(began).Seconds())
				}
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	for _, way := range ways {
		line(fmt.Sprintf("%d writers, commits/s, %s", writers, way.name), rate[way.name])
	}
	for _, way := range ways[1:] {
		line(fmt.Sprintf("%d writers, %s / no trigger", writers, way.name), rate[way.name].over(rate["no trigger"]))
	}
	line(fmt.Sprintf("%d writers, WAL bell / outbox insert alone", writers), rate["WAL bell"].over(rate["outbox insert alone"]))
	line(fmt.Sprintf("%d writers, WAL bell / NOTIFY bell", writers), rate["WAL bell"].over(rate["NOTIFY bell"]))
	line("the walsender's share of a core meanwhile", walsender)
	return b.visibility(ctx)
}

// visibility: from the moment COMMIT is sent until the row can be read, at about 100 commits a second.
func (b *bench) visibility(ctx context.Context) error {
	took := map[triggers.Bell][]time.Duration{}
	last := int64(0)
	for range b.rounds {
		for _, bell := range []triggers.Bell{triggers.BellWAL, triggers.BellNotify} {
			err := b.underBell(ctx, bell, true, func(ours *lockstep.Table[int, account]) error {
				list, err := b.commitsSeen(ctx, ours, last)
				took[bell], last = append(took[bell], list...), last+int64(len(list))
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	for _, bell := range []triggers.Bell{triggers.BellWAL, triggers.BellNotify} {
		d := took[bell]
		slices.Sort(d)
		line("commit to visible, bell "+string(bell)+": p50, p99, highest", fmt.Sprintf("%v, %v, %v", quantile(d, 0.5), quantile(d, 0.99), d[len(d)-1]))
	}
	line("commit to visible at the median, WAL / NOTIFY", fmt.Sprintf("%.3g", float64(quantile(took[triggers.BellWAL], 0.5))/float64(quantile(took[triggers.BellNotify], 0.5))))
	return nil
}

// commitsSeen times 100 commits of values above the last one.
func (b *bench) commitsSeen(ctx context.Context, ours *lockstep.Table[int, account], last int64) (list []time.Duration, err error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	seen := balances(watching, ours)
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := range int64(100) {
		<-tick.C
		d, err := commitToKnown(ctx, conn.Conn(), "ours", "", last+n+1, seen)
		if err != nil {
			return list, err
		}
		list = append(list, d)
	}
	return list, nil
}

// underBell puts a bell in place and calls fn, if it is wanted with a node that uses it.
func (b *bench) underBell(ctx context.Context, bell triggers.Bell, withNode bool, fn func(ours *lockstep.Table[int, account]) error) error {
	if err := triggers.Install(ctx, b.pool, triggers.Options{Bell: bell}); err != nil {
		return err
	}
	ours := lockstep.NewTable("public.ours", func(a account) int { return a.ID })
	if !withNode {
		return fn(ours)
	}
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench", Bell: lockstep.Bell(bell), WAL: wal.Bell{}, Register: -1}, ours)
	if err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for node.Status().Bell != string(bell) && ctx.Err() == nil { // whose slot waits for autovacuum, say
		<-tick.C
	}
	return errors.Join(fn(ours), node.Barrier(ctx), node.Close(ctx))
}

// walsenderCPU is the processor time that the walsender has used, as Linux
// counts it: in hundredths of a second. Elsewhere 0.
func (b *bench) walsenderCPU(ctx context.Context) time.Duration {
	var pid int
	if err := b.pool.QueryRow(ctx, "select pid from pg_stat_replication limit 1").Scan(&pid); err != nil {
		return 0 // there is none
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	ticks := 0
	for _, f := range fields[11:13] { // in user mode, in the kernel
		n, _ := strconv.Atoi(f) // it is a number
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
