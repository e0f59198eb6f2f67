//go:build unix

package robust

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox/wal"
)

// NodeEnv is the environment variable that makes a program a process of a run: its value is a role.
const NodeEnv = "LOCKSTEP_ROBUST_NODE"

// role is what a process is; one field is set.
type role struct {
	Node  *nodeConfig  `json:",omitempty"`
	Relay *relayConfig `json:",omitempty"`
	NATS  *natsConfig  `json:",omitempty"`
}

func (r role) run() error {
	switch {
	case r.Node != nil:
		return runNode(*r.Node)
	case r.Relay != nil:
		return runRelay(*r.Relay)
	case r.NATS != nil:
		return runNATS(*r.NATS)
	}
	return errors.New("no role is given")
}

// nodeConfig is what a node's process is told.
type nodeConfig struct {
	Name    string
	DSN     string
	History string // the file
	Seed    uint64
	Index   int
	NATS    string // its address; "": the node follows Postgres
	Stream  string // that it follows
}

// IsNode reports whether this process is to be a node, or another process of a run; if so, it has been one when
// IsNode returns, with the exit status.
func IsNode() (status int, is bool) {
	text := os.Getenv(NodeEnv)
	if text == "" {
		return 0, false
	}
	var r role
	err := json.Unmarshal([]byte(text), &r)
	if err == nil {
		err = r.run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", text, err)
		return 1, true
	}
	return 0, true
}

// member is a node with what it records.
type member struct {
	cfg    nodeConfig
	rec    *recorder
	pool   *pgxpool.Pool
	node   *lockstep.Node                // set when it has started
	live   atomic.Pointer[lockstep.Node] // the same, for OnCut
	rev    uint64                        // OnCut's own
	tables map[string]*lockstep.Table[int, Row]
	was    map[rowKey]string // the state of the last cut; OnCut's own
	gate   sync.RWMutex      // clients hold it while they work
}

// all are the tables as Start wants them.
func (m *member) all() (list []lockstep.AnyTable) {
	for _, name := range tables {
		list = append(list, m.tables[name])
	}
	return list
}

// runNode is a node's life: it starts, says "live", works until it reads "quiet", says "quiet", settles when it reads
// "settle", says "settled", and ends when its input does.
func runNode(cfg nodeConfig) error {
	rec, err := newRecorder(cfg.History)
	if err != nil {
		return err
	}
	m := &member{cfg: cfg, rec: rec, tables: map[string]*lockstep.Table[int, Row]{}, was: map[rowKey]string{}}
	for _, name := range tables {
		m.tables[name] = lockstep.NewTable("public."+name, func(r Row) int { return r.ID })
	}
	before := goleak.IgnoreCurrent()
	if err := m.open(); err != nil {
		return errors.Join(err, rec.close())
	}
	in := bufio.NewScanner(os.Stdin)
	ctx, cancel := context.WithCancel(context.Background())
	var background, work sync.WaitGroup
	background.Go(func() { m.subscribe(ctx) })
	background.Go(func() { m.claim(ctx) })
	working, stop := context.WithCancel(ctx)
	work.Go(func() { m.read(working, rand.New(rand.NewPCG(cfg.Seed, 1000+uint64(cfg.Index)))) })
	for i := range 2 {
		c := &client{member: m, id: i, rng: rand.New(rand.NewPCG(cfg.Seed, uint64(2000+10*cfg.Index+i)))}
		work.Go(func() { c.run(working) })
	}
	fmt.Println("live")
	m.hear(in, "quiet")
	stop()
	work.Wait()
	fmt.Println("quiet")
	m.hear(in, "settle")
	final := m.settle()
	fmt.Println("settled")
	m.hear(in, "")
	cancel()
	background.Wait()
	closing, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()
	if err := m.node.Close(closing); err != nil {
		final.Err += " close: " + err.Error()
	}
	m.pool.Close()
	final.Leaks = leaks(before)
	rec.add(record{Final: final})
	return rec.close()
}

// leaks tells what still runs. A connection whose query was given up is closed by pgx in the background, which
// takes 15 seconds at the most.
func leaks(before goleak.Option) string {
	for end := time.Now().Add(20 * time.Second); ; {
		err := goleak.Find(before)
		if err == nil {
			return ""
		}
		if time.Now().After(end) {
			return err.Error()
		}
	}
}

// hear waits for a line, or the end of the input, which stands for all lines. Until then clients
// are made to wait, and to go on, as often as it is told.
func (m *member) hear(in *bufio.Scanner, line string) {
	held := false
	defer func() {
		if held {
			m.gate.Unlock()
		}
	}()
	for in.Scan() {
		switch text := in.Text(); {
		case text == line:
			return
		case text == "hold" && !held:
			m.gate.Lock()
			held = true
			fmt.Println("held")
		case text == "go on" && held:
			m.gate.Unlock()
			held = false
		}
	}
}

// open starts the node, again and again where the server is away.
func (m *member) open() error {
	config, err := pgxpool.ParseConfig(m.cfg.DSN)
	if err != nil {
		return err
	}
	config.MaxConns = 6
	config.ConnConfig.ConnectTimeout = 3 * time.Second
	ctx := context.Background()
	if m.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	log := logger()
	var feed lockstep.Feed
	if m.cfg.NATS != "" {
		feed = source(m.cfg, log)
	}
	for {
		try, cancel := context.WithTimeout(ctx, 20*time.Second)
		m.node, err = lockstep.Start(try, m.pool, lockstep.Config{
			Name: m.cfg.Name, MaxStale: time.Duration(maxStale), MaxLag: 20_000_000, CoalesceAfter: 10_000_000,
			Register: 5 * time.Second, Retention: -1, Logger: log, OnCut: m.cut, WAL: wal.Bell{}, Source: feed,
		}, m.all()...)
		cancel()
		if err == nil {
			m.live.Store(m.node)
			return nil
		}
		if !pause.For(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// logger says what a process does, where that is asked for.
func logger() *slog.Logger {
	if os.Getenv(NodeEnv+"_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// settleWithin bounds how long a node may take to be well again after the last fault (G10). It is long: what a node has
// missed can be a transaction of a million rows, on a machine that does much else. How long it took is printed.
const settleWithin = 2 * time.Minute

// settle waits until the node is live and has everything, and says what it then is.
func (m *member) settle() *Final {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
	defer cancel()
	f := &Final{}
	err := m.node.Barrier(ctx)
	for m.node.Status().State != lockstep.Live && pause.For(ctx, 20*time.Millisecond) {
	}
	s := m.node.Status()
	f.T, f.Took, f.State = now(), time.Since(began), s.State.String()
	if err != nil {
		f.Err = fmt.Sprintf("%v; last error: %v; %s", err, s.LastError, s.Reason)
	}
	for _, t := range s.Status.Tables {
		if t.Problem != nil {
			f.Problems = append(f.Problems, t.Name+": "+t.Problem.Error())
		}
	}
	f.Resyncs, f.Reloads, f.Replays, f.Sessions, f.Misjudged = s.Resyncs, s.Reloads, s.Replays, s.Sessions, s.Gaps.Misjudged
	for _, l := range s.Loads {
		f.Loads = append(f.Loads, string(l.Reason))
	}
	final := m.state()
	for _, k := range sortedKeys(final) {
		f.Rows = append(f.Rows, RowState{k.table, k.id, final[k]})
	}
	return f
}

// said passes a node's lines on; the channel is closed when it has ended.
func said(r io.Reader) <-chan string {
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(r); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines
}

func sortedKeys(m map[rowKey]string) []rowKey {
	keys := make([]rowKey, 0, len(m))
	for k := range maps.Keys(m) {
		keys = append(keys, k)
	}
	sortKeys(keys)
	return keys
}
