package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// condition is one under which reads are timed.
type condition struct {
	hot, all, busy bool
}

// String names it as a column does.
func (c condition) String() string {
	list := []string{"uniform", "1 core", "idle"}
	if c.hot {
		list[0] = "hot"
	}
	if c.all {
		list[1] = fmt.Sprintf("%d cores", runtime.GOMAXPROCS(0))
	}
	if c.busy {
		list[2] = "20,000 rows/s"
	}
	return strings.Join(list, ", ")
}

func conditions() (list []condition) {
	for i := range 8 {
		list = append(list, condition{i&4 != 0, i&2 != 0, i&1 != 0})
	}
	return list
}

// hotKeys are all that is read where keys are hot.
const hotKeys = 100

// reads: a look-up, and its value read, from memory and from elsewhere.
func reads(ctx context.Context, b *bench) (err error) {
	if err := b.views(); err != nil {
		return err
	}
	peers := inMemory
	remote, stop, err := b.remote(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	peers, sizes, list := append(peers[:len(peers):len(peers)], remote...), []int{1000, b.rows}, conditions()
	if b.quick {
		sizes, list = sizes[1:], []condition{{}, {busy: true}}
	}
	for _, rows := range sizes {
		took := map[string]map[condition]series{}
		accounts := testAccounts(rows)
		for p := range inTurns(b.rounds, peers) {
			if b.quick && !slices.Contains([]string{"Get", "xsync.Map", "go-memdb", "Redis"}, p.name) {
				continue
			}
			if took[p.name] == nil {
				took[p.name] = map[condition]series{}
			}
			if err := b.readPeer(ctx, p, accounts, list, took[p.name]); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		if rows == b.rows {
			b.sayReads(took)
		}
		b.tableReads(rows, peers, list, took)
	}
	return nil
}

// readPeer opens a peer, times it under each condition, and lets it go, so
// that none lives beside another's heap.
func (b *bench) readPeer(ctx context.Context, p peer, rows []account, list []condition, took map[condition]series) error {
	h, err := p.open(ctx, rows)
	if err != nil {
		return err
	}
	defer h.close()
	looks := b.looks
	if p.remote {
		looks = 100
	}
	for _, c := range list {
		runtime.GC()
		stop := func() error { return nil }
		if c.busy {
			stop = feed(ctx, len(rows), h.put)
		}
		ns, err := readAll(ctx, h, c, len(rows), looks, b.look)
		if err := errors.Join(err, stop()); err != nil {
			return err
		}
		took[c] = append(took[c], ns)
	}
	return nil
}

// readAll returns nanoseconds a read: of several cores, by all reads together.
func readAll(ctx context.Context, h held, c condition, rows, looks int, least time.Duration) (float64, error) {
	if c.hot {
		rows = min(rows, hotKeys)
	}
	cores := 1
	if c.all {
		cores = runtime.GOMAXPROCS(0)
	}
	ids := make([][]int, cores)
	for i := range ids {
		ids[i] = make([]int, looks)
		for j := range ids[i] {
			ids[i][j] = rand.IntN(rows)
		}
	}
	times, errs := make(series, cores), make([]error, cores)
	var wg sync.WaitGroup
	for i := range cores {
		wg.Go(func() { times[i], errs[i] = readFor(ctx, h, ids[i], least) })
	}
	wg.Wait()
	return times.median() / float64(cores), errors.Join(errs...)
}

// readFor reads all ids, again and again until it has read for that long, and
// returns nanoseconds a read.
func readFor(ctx context.Context, h held, ids []int, least time.Duration) (float64, error) {
	began, n := time.Now(), 0
	for {
		sum, missing, err := h.read(ctx, ids)
		if err != nil {
			return 0, err
		}
		if sum == 0 || missing > len(ids)/2 {
			return 0, fmt.Errorf("%d of %d rows were missing", missing, len(ids))
		}
		n += len(ids)
		if took := time.Since(began); took >= least {
			return float64(took.Nanoseconds()) / float64(n), nil
		}
	}
}

// sayReads says what is to be reached.
func (b *bench) sayReads(took map[string]map[condition]series) {
	idle, busy := condition{}, condition{busy: true}
	n, ours := grouped(int64(b.rows))+" rows, uniform keys, 1 core", took[get]
	b.ratio("reads, "+n+", idle: Get / xsync.Map", "the time of a read, with its value read", ours[idle].over(took["xsync.Map"][idle]), atMost(1.5))
	b.ratio("reads, "+n+", idle: go-memdb / Get", "the time of a read, with its value read", took["go-memdb"][idle].over(ours[idle]), atLeast(8))
	b.ratio("reads, "+n+", idle: go-memdb / xsync.Map", "the time of a read, with its value read; xsync.Map keeps one version", took["go-memdb"][idle].over(took["xsync.Map"][idle]), nil)
	b.ratio("reads, "+n+", idle: Redis over loopback / Get", "the time of a read, with its value read; Redis without client-side caching", took["Redis"][idle].over(ours[idle]), atLeast(100))
	b.ratio("reads, "+n+": Get while 20,000 rows/s are applied / idle", "the time of a read, with its value read", ours[busy].over(ours[idle]), atMost(1.3))
}

// tableReads puts every peer and condition into a table.
func (b *bench) tableReads(rows int, peers []peer, list []condition, took map[string]map[condition]series) {
	n := grouped(int64(rows)) + " rows"
	for _, p := range peers {
		for _, c := range list {
			if p.name == get {
				b.cell(n+": the time of a Get, and of others as a multiple of it", p.name+", ns", c.String(), "ns", p.about, took[get][c])
				continue
			}
			b.cell(n+": the time of a Get, and of others as a multiple of it", p.name+" / Get", c.String(), "", p.about, took[p.name][c].over(took[get][c]))
		}
	}
}
