package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// growth: how cost grows with nodes, rows, the width of a row, and tables.
// Missed events stand under catching up, the size of the outbox under fetches.
func growth(ctx context.Context, b *bench) error {
	for _, run := range []func(context.Context) error{b.growNodes, b.growRows, b.growWidth, b.growTables} {
		if err := run(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) growNodes(ctx context.Context) (err error) {
	if err := b.writerTables(ctx); err != nil {
		return err
	}
	c, err := b.newCrowd(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close(ctx)) }()
	n := b.commits * 2
	alone, err := c.spend(ctx, b, func() error { // the writer's own cost
		for range n {
			if err := b.exec(ctx, "begin; update ours set balance = balance where id = 1; commit"); err != nil {
				return err
			}
			if err := wait(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var last spent
	for nodes := 1; nodes <= b.nodes; nodes *= 2 {
		if err := c.grow(ctx, nodes, "public.ours"); err != nil {
			return err
		}
		clock := newClock(n)
		watching, stop := context.WithCancel(ctx)
		clock.follow(watching, c.tables[0])
		last, err = c.spend(ctx, b, func() error { return b.timed(ctx, clock, "ours", "") })
		stop()
		if err != nil {
			return err
		}
		sec, x, took := last.took.Seconds(), float64(nodes), clock.times()
		const at = "nodes at 100 commits/s: "
		b.place(at+"commit to visible in the first", "median", x, "ms", series{ms(quantile(took, 0.5))})
		b.place(at+"commit to visible in the first", "p99", x, "ms", series{ms(quantile(took, 0.99))})
		b.place(at+"fetches", "all nodes", x, "fetches/s", series{last.looks / sec})
		b.place(at+"received from Postgres", "all nodes", x, "bytes/s", series{last.bytes / sec})
		if last.cpu > 0 {
			b.place(at+"processor time of Postgres", "measured, with the writer", x, "cores", series{last.cpu.Seconds() / sec})
		}
	}
	costs, err := b.costsOf(ctx, len(c.nodes), n, last, alone.cpu/time.Duration(n))
	if err != nil {
		return err
	}
	b.model(len(c.nodes), costs)
	return nil
}

// costs are what a node costs Postgres, by which the model reckons.
type costs struct {
	fetchCPU, eventCPU     float64 // seconds
	fetchBytes, eventBytes float64
	perCommit              float64 // fetches for a commit, where commits are far apart
}

// The beats of a node to which something happens, and the highest rate of fetches; see package replay. A third of that rate
// is enough where transactions crowd, and an idle node beats less often: the model leaves both out, and overstates fetches by it.
const beats, mostFetches = 4.0, 250.0

func (c costs) fetches(r float64) float64 { return min(mostFetches, beats+c.perCommit*r) }

func (c costs) cores(nodes, r float64) float64 {
	return nodes * (c.fetches(r)*c.fetchCPU + r*c.eventCPU)
}

func (c costs) bytes(nodes, r float64) float64 {
	return nodes * (c.fetches(r)*c.fetchBytes + r*c.eventBytes)
}

// costsOf takes the costs out of what nodes spent while there were so many commits of
// which each took the writer commitCPU, and measures those of an event.
func (b *bench) costsOf(ctx context.Context, nodes, n int, s spent, commitCPU time.Duration) (c costs, err error) {
	if c.eventCPU, c.eventBytes, err = b.eventCosts(ctx); err != nil {
		return c, err
	}
	sec := s.took.Seconds()
	commits := float64(n)
	events := commits * float64(nodes)
	c.perCommit = max(0.1, (s.looks/float64(nodes)-beats*sec)/commits)
	c.fetchCPU = max(1e-6, (s.cpu.Seconds()-commitCPU.Seconds()*commits-events*c.eventCPU)/s.looks)
	c.fetchBytes = max(1, (s.bytes-events*c.eventBytes)/s.looks)
	return c, nil
}

// model says where one Postgres ends.
func (b *bench) model(nodes int, c costs) {
	b.value("model: a fetch", "µs of Postgres", fmt.Sprintf("processor time with %d nodes at 100 commits/s, less the writer's and the events', by the fetches", nodes), series{c.fetchCPU * 1e6}, nil)
	b.value("model: an event sent to a node", "µs of Postgres", "processor time of fetches of 10,000 events, by the events", series{c.eventCPU * 1e6}, nil)
	b.value("model: bytes of a fetch", "bytes", "received, less the events'", series{c.fetchBytes}, nil)
	b.value("model: bytes of an event", "bytes", "received in fetches of 10,000 events, by the events", series{c.eventBytes}, nil)
	b.value("model: fetches for a commit", "fetches", "of one node, where commits come 10 ms apart; it is bounded at 250 a second", series{c.perCommit}, nil)
	for _, r := range []float64{10, 100, 1000} {
		line := number(r) + " commits/s"
		for n := 1.0; n <= 10_000; n *= 10 {
			b.place("model: processor time of Postgres against nodes", line, n, "cores", series{c.cores(n, r)})
			b.place("model: sent by Postgres against nodes", line, n, "bytes/s", series{c.bytes(n, r)})
		}
		one := c.cores(1, r)
		b.value(enoughName(r, "nodes"), "nodes", "from the constants above: nodes whose fetches and events cost one core of Postgres, each commit of one row", series{1 / one}, nil)
		b.value(enoughName(r, "fetches' share"), "%", "how much of that core goes into fetches, whatever they bring", series{100 * c.fetches(r) * c.fetchCPU / one}, nil)
		b.value(enoughName(r, "sent"), "bytes/s", "what Postgres sends to them", series{c.bytes(1/one, r)}, nil)
	}
}

func enoughName(rate float64, what string) string {
	return "model, one core used up at " + number(rate) + " commits/s: " + what
}

// enough says where one Postgres stops being enough, and why.
func enough(all []figure) string {
	at := map[string]float64{}
	for _, f := range all {
		at[f.Name] = f.median()
	}
	if at[enoughName(100, "nodes")] == 0 {
		return ""
	}
	text := "\n### Where one Postgres stops being enough\n\nBy the model, one core of Postgres is used up by\n\n"
	for _, r := range []float64{10, 100, 1000} {
		n := at[enoughName(r, "nodes")]
		text += fmt.Sprintf("- %s nodes at %s commits/s: %s%% of it for fetches as such, the rest for events; %s MB/s are sent, over %s connections\n",
			number(n), number(r), number(at[enoughName(r, "fetches' share")]), number(at[enoughName(r, "sent")]/1e6), number(2*n))
	}
	return text + `
Each node asks for itself: the cost is nodes times (fetches + events); the shares above say which of the two prevails at a
rate. A node makes one or two fetches for a commit, and at most 250 a second, so that at high rates events are
what still grows. Connections end sooner where max_connections is low: a node has two, and one of its pool's at times. Nothing else grows with
nodes: writers do not wait for them, and the outbox is written once. A fleet beyond this follows a relay (lockstep relay), which is
one node to Postgres.
`
}

// eventCosts are the server's seconds and the bytes for an event, in fetches of 10,000.
func (b *bench) eventCosts(ctx context.Context) (cpu, bytes float64, err error) {
	c, err := b.newCrowd(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer c.pool.Close()
	s, pos, err := b.filledOutbox(ctx, c.pool, 999)
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	const events, times = 10_000, 30
	for range events / 100 {
		if err := b.exec(ctx, "update fetched_999 set balance = balance + 1"); err != nil {
			return 0, 0, err
		}
	}
	spent, err := c.spend(ctx, b, func() error {
		for range times {
			if err := s.Fetch(ctx, outbox.Request{From: pos}, &ignored{}); err != nil {
				return err
			}
		}
		return nil
	})
	return max(1e-8, spent.cpu.Seconds()/events/times), spent.bytes / events / times, err
}

func (b *bench) growRows(ctx context.Context) error {
	for n := 1000; n <= b.rows; n *= 10 {
		if err := b.largeTable(ctx, n); err != nil {
			return err
		}
		took, err := b.loadOnce(ctx, accountsTable("public.large"))
		if err != nil {
			return err
		}
		h, err := openOurs(ctx, testAccounts(n))
		if err != nil {
			return err
		}
		ns, err := readAll(ctx, h, condition{}, n, b.looks, b.look)
		h.close()
		if err != nil {
			return err
		}
		b.place("a load against rows", "db tags", float64(n), "ms", series{ms(took)})
		b.place("a Get against rows", "uniform keys, 1 core", float64(n), "ns", series{ns})
	}
	return nil
}

func (b *bench) growWidth(ctx context.Context) error {
	for _, width := range []int{50, 500, 5000, 50_000} {
		if err := b.accountTables(ctx, 1000, "fillfactor = 50", "wide_plain", "wide"); err != nil {
			return err
		}
		for _, t := range []string{"wide_plain", "wide"} { // what hashes say cannot be compressed to nothing
			err := b.exec(ctx, fmt.Sprintf("update %s set note = substr(h.all, id, %d) from (select string_agg(md5(i::text), '') as all from generate_series(1, %d) i) h", t, width, (width+1000)/32+1), "vacuum analyze "+t)
			if err != nil {
				return err
			}
		}
		if err := triggers.Install(ctx, b.pool, triggers.Options{}, "public.wide"); err != nil {
			return err
		}
		if err := b.growWidthOnce(ctx, float64(width)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) growWidthOnce(ctx context.Context, width float64) (err error) {
	table := accountsTable("public.wide")
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench-wide", Register: -1}, table)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close(ctx)) }()
	took := map[string]series{}
	for range b.rounds {
		for _, t := range []string{"wide_plain", "wide"} {
			d, err := b.bulk(ctx, t, 1, b.commits)
			if err != nil {
				return err
			}
			took[t] = append(took[t], ms(d))
		}
	}
	c := newClock(min(b.commits, 1000))
	watching, stop := context.WithCancel(ctx)
	defer stop()
	c.follow(watching, table)
	if err := b.timed(ctx, c, "wide", ""); err != nil {
		return err
	}
	var bytes float64
	if err := b.pool.QueryRow(ctx, "select avg(pg_column_size(o.row)) from (select row from lockstep.outbox order by seq desc limit 10) o").Scan(&bytes); err != nil {
		return err
	}
	b.place("a one-row UPDATE against row width", "no trigger", width, "ms", took["wide_plain"])
	b.place("a one-row UPDATE against row width", "triggers and one live node", width, "ms", took["wide"])
	b.place("commit to visible against row width", "median", width, "ms", series{ms(quantile(c.times(), 0.5))})
	b.place("bytes of an event against row width", "its document, as stored", width, "bytes", series{bytes})
	return nil
}

func (b *bench) growTables(ctx context.Context) error {
	for n := 1; n <= 4*b.nodes; n *= 4 {
		var tables []lockstep.AnyTable
		var names []string
		first := accountsTable("public.tracked_0")
		for i := range n {
			name := fmt.Sprintf("tracked_%d", i)
			if err := b.accountTables(ctx, accounts/100, "fillfactor = 50", name); err != nil {
				return err
			}
			names = append(names, "public."+name)
			if i == 0 {
				tables = append(tables, first)
				continue
			}
			tables = append(tables, accountsTable("public."+name))
		}
		if err := triggers.Install(ctx, b.pool, triggers.Options{}, names...); err != nil {
			return err
		}
		if err := b.growTablesOnce(ctx, n, tables); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) growTablesOnce(ctx context.Context, n int, tables []lockstep.AnyTable) (err error) {
	began := time.Now()
	node, err := lockstep.Start(ctx, b.pool, lockstep.Config{Name: "bench-tables", Register: -1}, tables...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close(ctx)) }()
	started := time.Since(began)
	var list []time.Duration
	for range b.commits {
		began := time.Now()
		if err := node.Barrier(ctx); err != nil {
			return err
		}
		list = append(list, time.Since(began))
	}
	b.place("tracked tables of 100 rows", "a node's start", float64(n), "ms", series{ms(started)})
	b.place("tracked tables of 100 rows", "a fetch that brings nothing", float64(n), "ms", series{ms(medianOf(list))})
	return nil
}
