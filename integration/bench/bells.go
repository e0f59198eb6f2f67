package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox/wal"
	"github.com/pglockstep/lockstep/triggers"
)

// ways are what a commit may have to pay: nothing, the outbox insert, the
// insert while a node fetches at every beat, while one reads the server's log, and the insert and a notification. The
// third tells what a node costs that follows at all, on the same processors, from what its bell costs.
var ways = []struct {
	name, table string
	bell        triggers.Bell
	node        bool
}{
	{"no trigger", "plain", triggers.BellOff, false},
	{"outbox insert alone", "ours", triggers.BellOff, false},
	{"outbox insert, a node polls", "ours", triggers.BellOff, true},
	{"WAL bell", "ours", triggers.BellWAL, true},
	{"NOTIFY bell", "ours", triggers.BellNotify, true},
}

// bells: what each bell costs the writers, the server and the reader, on a
// server of its own whose log can be decoded.
func bells(ctx context.Context, b *bench) error {
	return b.logical(ctx, func(b *bench) error {
		if err := b.writerTables(ctx); err != nil {
			return err
		}
		if err := b.bellRates(ctx); err != nil {
			return err
		}
		return b.bellTimes(ctx)
	})
}

func (b *bench) bellRates(ctx context.Context) error {
	const writers = 16
	rate := map[string]series{}
	for way := range inTurns(b.rounds, ways) {
		err := b.underBell(ctx, way.bell, way.node, func(*lockstep.Table[int, account]) error {
			n, err := b.hammer(ctx, way.table, writers, false)
			rate[way.name] = append(rate[way.name], n)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, way := range ways {
		b.value(fmt.Sprintf("bells, %d writers: %s", writers, way.name), "commits/s", "updates of one random row each; a node follows where there is a bell", rate[way.name], nil)
	}
	for _, way := range ways[1:] {
		b.ratio(fmt.Sprintf("bells, %d writers: %s / no trigger", writers, way.name), "commits/s with capture under this bell and without capture", rate[way.name].over(rate["no trigger"]), nil)
	}
	b.ratio(fmt.Sprintf("bells, %d writers: WAL bell / outbox insert alone", writers), "commits/s under the WAL bell, with a node, and with capture that rings nothing, without one", rate["WAL bell"].over(rate["outbox insert alone"]), atLeast(0.97))
	b.ratio(fmt.Sprintf("bells, %d writers: WAL bell / outbox insert, a node polls", writers), "the same, with a node in either case", rate["WAL bell"].over(rate["outbox insert, a node polls"]), nil)
	b.ratio(fmt.Sprintf("bells, %d writers: WAL bell / NOTIFY bell", writers), "commits/s under either bell", rate["WAL bell"].over(rate["NOTIFY bell"]), nil)
	return nil
}

// bellTimes: from the moment COMMIT is sent until the row can be read.
func (b *bench) bellTimes(ctx context.Context) error {
	took := map[triggers.Bell]series{}
	var walsender series
	list := []triggers.Bell{triggers.BellWAL, triggers.BellNotify}
	for range b.rounds {
		for _, bell := range list {
			err := b.underBell(ctx, bell, true, func(ours *lockstep.Table[int, account]) error {
				c := newClock(b.commits)
				watching, stop := context.WithCancel(ctx)
				defer stop()
				c.follow(watching, ours)
				before, began := b.walsenderCPU(ctx), time.Now()
				if err := b.timed(ctx, c, "ours", ""); err != nil {
					return err
				}
				if bell == triggers.BellWAL {
					walsender = append(walsender, (b.walsenderCPU(ctx)-before).Seconds()/time.Since(began).Seconds())
				}
				d := c.times()
				took[bell] = append(took[bell], ms(quantile(d, 0.5)))
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	for _, bell := range list {
		b.value("commit to visible, bell "+string(bell)+", median", "ms", "100 commits a second, from COMMIT sent to the row in memory", took[bell], nil)
	}
	b.value("bells: the walsender meanwhile", "cores", "processor time of the process that decodes the log for one node, at 100 commits a second; in a crowd it rests", walsender, nil)
	b.ratio("commit to visible at the median, WAL bell / NOTIFY bell", "the two before", took[triggers.BellWAL].over(took[triggers.BellNotify]), nil)
	return nil
}

// underBell puts a bell in place and calls fn, if it is wanted with a node that uses it.
func (b *bench) underBell(ctx context.Context, bell triggers.Bell, withNode bool, fn func(ours *lockstep.Table[int, account]) error) error {
	if err := triggers.Install(ctx, b.pool, triggers.Options{Bell: bell}); err != nil {
		return err
	}
	ours := accountsTable("public.ours")
	if !withNode {
		return fn(ours)
	}
	use := lockstep.Bell(bell)
	if bell == triggers.BellOff {
		use = lockstep.BellPoll
	}
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench", Bell: use, WAL: wal.Bell{}, Register: -1}, ours)
	if err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for node.Status().Bell != string(use) && ctx.Err() == nil { // whose slot waits for autovacuum, say
		<-tick.C
	}
	return errors.Join(fn(ours), node.Barrier(ctx), node.Close(ctx))
}

// walsenderCPU is the processor time that the walsender has used; see processCPU.
func (b *bench) walsenderCPU(ctx context.Context) time.Duration {
	var pid int
	if err := b.pool.QueryRow(ctx, "select pid from pg_stat_replication limit 1").Scan(&pid); err != nil {
		return 0 // there is none
	}
	_, own, _ := processCPU(pid)
	return own
}
