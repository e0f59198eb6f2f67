package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/pglockstep/lockstep/internal/natsserver"
	"github.com/pglockstep/lockstep/triggers"
)

// The two ways to follow that are compared, and the rates.
const (
	direct, streamed = "direct", "stream"
	slowRate         = 100
	fastRate         = 1000
	modelNodes       = 10_000
)

// at is one thing that is measured.
type at struct {
	way   string
	nodes int // 0: the writers alone
	rate  int
}

func (a at) String() string { return fmt.Sprintf("%s, %s commits/s", a.way, number(float64(a.rate))) }

// fanned is what the rounds have brought.
type fanned map[at][]burden

func (f fanned) series(a at, of func(*burden) float64) (s series) {
	for i := range f[a] {
		s = append(s, of(&f[a][i]))
	}
	return s
}

// What is taken of a burden.
func askRate(s *burden) float64   { return s.asks / s.took.Seconds() }
func ownRate(s *burden) float64   { return s.own / s.took.Seconds() }
func byteRate(s *burden) float64  { return s.bytes / s.took.Seconds() }
func cores(s *burden) float64     { return s.cpu.Seconds() / s.took.Seconds() }
func nodeCores(s *burden) float64 { return s.nodesCPU.Seconds() / s.took.Seconds() }
func natsCores(s *burden) float64 { return s.natsCPU.Seconds() / s.took.Seconds() }
func p50(s *burden) float64       { return ms(quantile(s.visible, 0.5)) }
func p99(s *burden) float64       { return ms(quantile(s.visible, 0.99)) }

// fanout: nodes that follow a stream of NATS JetStream beside nodes that each ask Postgres.
func fanout(ctx context.Context, b *bench) (err error) {
	dir, err := os.MkdirTemp("", "lockstep-bench-nats-")
	if err != nil {
		return err
	}
	nats, err := startHelper(ctx, "nats", dir, "")
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, nats.stop(), os.RemoveAll(dir)) }()
	if err := b.accountTables(ctx, fannedRows, "fillfactor = 50", fannedTable); err != nil {
		return err
	}
	if err := triggers.Install(ctx, b.pool, triggers.Options{}, "public."+fannedTable); err != nil {
		return err
	}
	return b.with("NATS", natsserver.Version+" with file storage, synced every 2 min", func() error {
		found := fanned{}
		for way := range inTurns(b.rounds, []string{direct, streamed}) {
			if err := b.fanOnce(ctx, way, nats, found); err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
		}
		b.sayFanned(found)
		if b.quick {
			return nil
		}
		return b.fleetModel(ctx, nats, found)
	})
}

// counts are how many nodes are measured at, the last is the most.
func (b *bench) counts() []int {
	if b.quick {
		return []int{1, b.fleet}
	}
	return slices.Compact([]int{1, max(1, b.fleet/8), max(1, b.fleet/4), max(1, b.fleet/2), b.fleet})
}

// few is how many nodes are measured at the higher rate beside the most: so few that the machine is not used up.
func (b *bench) few() int { return max(1, b.fleet/8) }

// fanOnce measures one way at all numbers of nodes.
func (b *bench) fanOnce(ctx context.Context, way string, nats *helper, found fanned) (err error) {
	if way == direct {
		nats = nil
	}
	f, err := b.newFleet(ctx, nats, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close(ctx)) }()
	measure := func(f *fleet, a at) error {
		s, err := b.bear(ctx, f, a.rate)
		found[a] = append(found[a], s)
		return err
	}
	rates := []int{slowRate, fastRate}
	if b.quick {
		rates = rates[:1]
	}
	if way == direct {
		for _, rate := range rates {
			if err := measure(nil, at{direct, 0, rate}); err != nil {
				return err
			}
		}
	}
	for _, n := range b.counts() {
		if err := f.grow(ctx, b, n); err != nil {
			return err
		}
		for _, rate := range rates {
			if rate == fastRate && n != b.fleet && n != b.few() {
				continue
			}
			if err := measure(f, at{way, n, rate}); err != nil {
				return fmt.Errorf("%d nodes, %d commits/s: %w", n, rate, err)
			}
		}
	}
	return nil
}

// sayFanned reports what is to be reached, how it grows, and all of it at the most nodes.
func (b *bench) sayFanned(found fanned) {
	most := number(float64(b.fleet)) + " nodes"
	grown := func(what, compared string, of func(*burden) float64, limit float64) {
		each := func(s *burden) float64 { return of(s) / s.rate() } // where the machine is used up there are fewer commits
		least := found.series(at{streamed, 1, slowRate}, each)
		if slices.Min(least) > 0 {
			b.ratio(fmt.Sprintf("on the stream at 100 commits/s, %s for a commit: %s / 1 node", what, most), compared, found.series(at{streamed, b.fleet, slowRate}, each).over(least), atMost(limit))
		}
	}
	grown("queries at Postgres", "round trips of the relay and of all nodes, each with a table of "+grouped(fannedRows)+" rows", askRate, 1.1)
	grown("bytes from Postgres", "received by the relay and by all nodes", byteRate, 1.1)
	grown("processor time of Postgres", "of the server and all its processes, with the writer's", cores, 1.25)
	for _, n := range slices.Compact([]int{1, b.fleet}) {
		nodes := "1 node"
		if n > 1 {
			nodes = most
		}
		var more series
		over := found.series(at{direct, n, slowRate}, p50)
		for i, v := range found.series(at{streamed, n, slowRate}, p50) {
			more = append(more, v-over[i])
		}
		b.value(fmt.Sprintf("100 commits/s, commit to visible: median, stream less direct, %s", nodes), "ms",
			fmt.Sprintf("from COMMIT sent to the row in a node's memory; of many nodes %d are timed", timedNodes), more, atMost(2))
	}
	for _, a := range []at{{direct, b.fleet, slowRate}, {streamed, b.fleet, slowRate}, {direct, b.fleet, fastRate}, {streamed, b.fleet, fastRate}} {
		b.sayBurden(a, most, found)
	}
	for _, n := range b.counts() {
		for _, way := range []string{direct, streamed} {
			a, x := at{way, n, slowRate}, float64(n)
			b.place("fan-out at 100 commits/s: queries at Postgres against nodes", way, x, "queries/s", found.series(a, askRate))
			b.place("fan-out at 100 commits/s: sent by Postgres against nodes", way, x, "bytes/s", found.series(a, byteRate))
			b.place("fan-out at 100 commits/s: processor time of Postgres against nodes", way+", with the writer", x, "cores", found.series(a, cores))
			b.place("fan-out at 100 commits/s: commit to visible against nodes", way+", median", x, "ms", found.series(a, p50))
			b.place("fan-out at 100 commits/s: commit to visible against nodes", way+", p99", x, "ms", found.series(a, p99))
		}
	}
}

// sayBurden is a row of the table, and a line.
func (b *bench) sayBurden(a at, most string, found fanned) {
	if b.quick {
		return
	}
	rate := number(float64(a.rate)) + " commits/s meant"
	compared := map[string]string{
		direct:   "each node asks Postgres; " + rate,
		streamed: "a relay asks Postgres, the nodes follow NATS JetStream; " + rate,
	}[a.way]
	line := ""
	for _, c := range []struct {
		name string
		of   func(*burden) float64
	}{
		{"commits/s", (*burden).rate},
		{"queries/s at Postgres", askRate},
		{"of these the nodes'", ownRate},
		{"bytes/s from Postgres", byteRate},
		{"cores of Postgres", cores},
		{"cores of nodes and writers", nodeCores},
		{"cores of NATS", natsCores},
		{"visible after, p50, ms", p50},
		{"p99, ms", p99},
	} {
		s := found.series(a, c.of)
		b.cell(most, a.String(), c.name, c.name, compared, s)
		line += fmt.Sprintf(", %s %s", c.name, number(s.median()))
	}
	fmt.Fprintf(b.print, "  %s, %s%s\n", most, a.String(), line)
}

// price is what one of something costs Postgres.
type price struct{ cpu, asks, bytes float64 }

// registerEvery is the seconds between two rows of a node on the stream; see lockstep.Config.Register.
const registerEvery = 600.0

// registerCost is that of a node's row, which the relay writes, of nodes that have it written far more often than they do.
// What the relay asks for besides is in it.
func (b *bench) registerCost(ctx context.Context, nats *helper) (p price, err error) {
	f, err := b.newFleet(ctx, nats, 200*time.Millisecond)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, f.close(ctx)) }()
	if err := f.grow(ctx, b, b.few()); err != nil {
		return p, err
	}
	before, _, err := f.asked()
	if err != nil {
		return p, err
	}
	cpu := b.serverCPU()
	if err := wait(ctx, b.quiet/2); err != nil {
		return p, err
	}
	after, _, err := f.asked()
	each := float64(max(1, after.Rows-before.Rows))
	return price{(b.serverCPU() - cpu).Seconds() / each, float64(after.Asks-before.Asks) / each, float64(after.Bytes-before.Bytes) / each}, err
}

// fleetModel reckons what far more nodes cost Postgres than the machine can run.
func (b *bench) fleetModel(ctx context.Context, nats *helper, found fanned) error {
	row, err := b.registerCost(ctx, nats)
	if err != nil {
		return err
	}
	few := b.few()
	var middle burden // of the rounds, the one that the processor time says
	list := slices.Clone(found[at{direct, few, slowRate}])
	slices.SortFunc(list, func(s, t burden) int { return int(s.cpu - t.cpu) })
	middle = list[len(list)/2]
	alone := found.series(at{direct, 0, slowRate}, func(s *burden) float64 { return s.cpu.Seconds() / float64(s.n) }).median()
	c, err := b.costsOf(ctx, few, middle.n, middle.spent, time.Duration(alone*float64(time.Second)))
	if err != nil {
		return err
	}
	of := fmt.Sprintf("with %d nodes at 100 commits/s", few)
	b.value("fan-out model: a direct node's fetch", "µs of Postgres", "processor time "+of+", less the writer's and the events', by the fetches", series{c.fetchCPU * 1e6}, nil)
	b.value("fan-out model: a direct node's fetches for a commit", "fetches", of+"; bounded at 250 a second", series{c.perCommit}, nil)
	b.value("fan-out model: an event sent to a direct node", "µs of Postgres", "processor time of fetches of 10,000 events, by the events", series{c.eventCPU * 1e6}, nil)
	b.value("fan-out model: a row in the register", "µs of Postgres", "every ten minutes of a node on the stream; the relay writes it, with those of others", series{row.cpu * 1e6}, nil)
	for _, rate := range []int{slowRate, fastRate} {
		b.sayFleetModel(c, row, rate, found)
	}
	return nil
}

// sayFleetModel says what nodes cost at a rate, either way. The writers are left out.
func (b *bench) sayFleetModel(c costs, row price, rate int, found fanned) {
	r := float64(rate)
	relay := at{streamed, b.few(), rate}
	writers := found.series(at{direct, 0, rate}, cores).median()
	relayed := price{max(0, found.series(relay, cores).median()-writers), found.series(relay, askRate).median(), found.series(relay, byteRate).median()}
	of := map[string]func(n float64) price{
		direct: func(n float64) price {
			return price{c.cores(n, r), n * c.fetches(r), c.bytes(n, r)}
		},
		streamed: func(n float64) price {
			rows := n / registerEvery
			return price{relayed.cpu + rows*row.cpu, relayed.asks + rows*row.asks, relayed.bytes + rows*row.bytes}
		},
	}
	for _, way := range []string{direct, streamed} {
		a := at{way, modelNodes, rate}
		for n := 1.0; n <= modelNodes; n *= 10 {
			p := of[way](n)
			b.place("fan-out model: processor time of Postgres against nodes", a.String(), n, "cores", series{p.cpu})
			b.place("fan-out model: queries at Postgres against nodes", a.String(), n, "queries/s", series{p.asks})
		}
		p := of[way](modelNodes)
		name := "fan-out model, 10,000 nodes, " + a.String() + ": "
		compared := map[string]string{direct: "nodes times (fetches and events), by the constants above", streamed: fmt.Sprintf("what the relay costs (measured with %d nodes), and a row in the register of each node", b.few())}[way]
		b.value(name+"queries at Postgres", "queries/s", compared, series{p.asks}, nil)
		b.value(name+"sent by Postgres", "bytes/s", compared, series{p.bytes}, nil)
		b.value(name+"processor time of Postgres", "cores", compared, series{p.cpu}, nil)
		if way == streamed {
			b.value(name+"of that the relay", "cores", "with however many nodes", series{relayed.cpu}, nil)
		}
	}
}

// manyNodes is what the figures of the part mean, once there are some.
func manyNodes(all []figure) string {
	i := slices.IndexFunc(all, func(f figure) bool { return f.Part == "fanout" && f.Cell != nil })
	if i < 0 {
		return ""
	}
	return `
A query is a round trip: of a fetch there is one. Everything ran on one machine: where the cores of Postgres, the nodes and NATS add up to
those that there are, the machine is used up, commits come later than they were meant to, and times say what it does then. The figures at one node, and at few, do not.

The model leaves out the writers, and the nodes' starts, which load the tables from Postgres either way. A direct node holds two connections, one
on the stream none that lasts (its pool is told to keep none, as deploy.md says), and the relay two. What grows with a fleet on the stream are
the rows in the register, one in ten minutes and node (lockstep.Config.Register), which the relay writes; what the server's clock says a node asks the relay. What a fleet asks Postgres for at moments of its own
(Barrier, WaitFor, a write of a node's) comes on top, of either.
`
}
