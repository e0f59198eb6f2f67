//go:build unix

package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/integration/robust"
	"github.com/pglockstep/lockstep/triggers"
)

// A process that is told to be a node is nothing else.
func init() {
	if status, is := robust.IsNode(); is {
		os.Exit(status)
	}
}

// Nodes, writers and readers under random traffic and faults; what they recorded is held against every
// promise afterwards. In its short form every fault but a clock that jumps is made once, by fixed seeds, and a fresh seed makes a
// few at random; `-long 30m` makes random runs of five minutes for as long, and `-seed N` repeats one.
func TestRobustness(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: it takes two minutes, and -short was given")
	}
	var total robust.Counts
	made := map[string]int{}
	run := func(t *testing.T, cfg robust.Config) {
		t.Helper()
		cfg.Logf = t.Logf
		r, err := robust.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		total.Add(r.Counts)
		for name, n := range r.Faults {
			made[name] += n
		}
		t.Log(r)
		for _, v := range r.Violations {
			t.Error(v)
		}
		if r.Bell == triggers.BellWAL && r.Counts.Logged == 0 {
			t.Error("no node ever read the server's log")
		}
		if r.Streamed > 0 && r.Counts.Streamed == 0 {
			t.Error("no node was ever live over the stream")
		}
		if r.Dir != "" {
			t.Errorf("histories are kept in %s; -seed %d repeats the run", r.Dir, r.Seed)
		}
	}
	if *longFlag > 0 {
		seed, program := *seedFlag, shiftableNode(t)
		for end := time.Now().Add(*longFlag); time.Now().Before(end) && !t.Failed(); seed = 0 {
			if seed == 0 {
				seed = rand.Uint64N(1 << 40)
			}
			t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
				run(t, robust.Config{Seed: seed, For: min(5*time.Minute, *longFlag), BulkRows: 1_000_000, Idle: 2 * time.Minute, Program: program})
			})
		}
	} else {
		short(t, run)
	}
	t.Logf("all together: %v", total)
	t.Logf("faults: %v", made)
}

// byTheLog are the faults that nodes which read the server's log have of their own, and those that meet them in another way.
var byTheLog = []string{
	"listening backends are terminated", "a writer idles in its transaction", "a node is killed and started again",
	"another bell is installed", "no slot is free", "one node's packets are dropped", "the server is killed",
	"timeouts are set for everybody", "the server is shut down", "one transaction of many rows",
}

// short makes every fault once.
func short(t *testing.T, run func(*testing.T, robust.Config)) {
	t.Helper()
	if *seedFlag != 0 {
		run(t, robust.Config{Seed: *seedFlag, For: 25 * time.Second})
		return
	}
	names := slices.DeleteFunc(robust.Faults(), func(f string) bool {
		return f == robust.ClockJumps || f == "no slot is free" // TestANodeWhoseClockJumpsGoesOnAsIfItDidNot makes the one, the WAL bell's run the other
	})
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	seed := uint64(0)
	for part := range slices.Chunk(names, (len(names)+2)/3) {
		seed++
		profile := robust.Profiles[seed%uint64(len(robust.Profiles))]
		bell := triggers.BellNotify
		if profile == robust.TwoPhase {
			bell = triggers.BellOff
		}
		streamed := -1
		if seed == 2 {
			streamed, part = 2, mixed(part, robust.StreamFaults())
		}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			run(t, robust.Config{Seed: seed, Profile: profile, Bell: bell, Streamed: streamed, Faults: part, Idle: 5 * time.Second})
		})
	}
	t.Run("the WAL bell", func(t *testing.T) {
		run(t, robust.Config{Seed: 1, Profile: robust.TwoPhase, Bell: triggers.BellWAL, Streamed: -1, Faults: byTheLog, Idle: 5 * time.Second})
	})
	fresh := rand.Uint64N(1 << 40)
	t.Run(fmt.Sprintf("fresh seed %d", fresh), func(t *testing.T) {
		run(t, robust.Config{Seed: fresh, For: 10 * time.Second, Idle: 5 * time.Second})
	})
}

// mixed are both, one of each in turn.
func mixed(a, b []string) (all []string) {
	for i := range max(len(a), len(b)) {
		all = append(all, a[min(i, len(a)):min(i+1, len(a))]...)
		all = append(all, b[min(i, len(b)):min(i+1, len(b))]...)
	}
	return all
}

// A judge that finds nothing is only worth something if it finds what is there: in a recorded history
// one thing is changed, and the promise that it breaks must be named.
func TestEveryMutantOfAHistoryIsCaughtByName(t *testing.T) {
	r, err := robust.Run(t.Context(), robust.Config{Seed: 7, Profile: robust.Mixed, Streamed: 1, Logf: t.Logf, Faults: []string{
		"one node's packets are dropped", "listening backends are terminated", "one node's network is slow",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	for _, v := range r.Violations {
		t.Errorf("before anything was changed: %v", v)
	}
	mutants := robust.Mutants()
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		t.Run(name, func(t *testing.T) {
			m := mutants[name]
			h := r.History.Clone()
			if !m.Change(h) {
				t.Fatal("the history has nothing to change")
			}
			found, _ := robust.Judge(h)
			var said []string
			for _, v := range found {
				said = append(said, v.Promise)
			}
			if !slices.Contains(said, m.Breaks) {
				t.Errorf("%s was not named: %v", m.Breaks, strings.Join(said, " "))
			}
		})
	}
}

// A version is visible before its record is written, so that a node that is killed has shown what no history has.
// Of one that lives on the same is a read of something that never was.
func TestAReadOfAVersionThatDiedUnrecordedIsHeldAgainstNobody(t *testing.T) {
	row := func(v string) []robust.RowState { return []robust.RowState{{Table: "item", ID: 1, Row: v}} }
	for _, killed := range []bool{true, false} {
		n := &robust.NodeHistory{
			Name: "node1.1", Killed: killed,
			Cuts: []*robust.Cut{{Rev: 1, Diff: row("old")}},
			Reads: []*robust.Read{
				{Rev: 1, Rows: row("old")}, {Rev: 2, Rows: row("new")},
			},
			Gets: []*robust.Get{{From: 1, To: 1, Row: row("old")[0]}, {From: 1, To: 2, Row: row("new")[0]}},
		}
		found, counts := robust.Judge(&robust.History{Nodes: []*robust.NodeHistory{n}})
		said := map[string]int{}
		for _, v := range found {
			if strings.Contains(v.Text, `item 1 as "new"`) {
				said[v.Promise]++
			}
		}
		want, unrecorded := map[string]int{"G3": 1, "G6": 1}, 0
		if killed {
			want, unrecorded = map[string]int{}, 2
		}
		if !maps.Equal(said, want) || counts.Unrecorded != unrecorded {
			t.Errorf("killed %v: %v, %d unrecorded: %v", killed, said, counts.Unrecorded, found)
		}
	}
}
