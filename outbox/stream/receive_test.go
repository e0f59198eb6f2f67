package stream

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/internal/logbuf"
	"github.com/pglockstep/lockstep/outbox"
)

func TestABatchIsTakenWhereItFitsAndNowhereElse(t *testing.T) {
	const covered = "10:20:10,12"
	for _, c := range []struct {
		name, from, to string
		xids           []uint64
		taken          []uint64
		gap            bool
	}{
		{name: "the next one", from: covered, to: "10:25:10", xids: []uint64{12, 20, 24}, taken: []uint64{12, 20, 24}},
		{name: "the same again", from: "10:15:10,12", to: covered, xids: []uint64{15}},
		{name: "a heartbeat", from: covered, to: covered},
		{name: "an older one", from: "10:12:10", to: "10:18:10,12", xids: []uint64{13}},
		{name: "one that begins before and ends after", from: "10:15:10,12", to: "25:25:", xids: []uint64{10, 16, 22}, taken: []uint64{10, 22}},
		{name: "one that begins after", from: "10:22:10,12", to: "10:25:10", xids: []uint64{12, 24}, gap: true},
		{name: "one that begins with more of the old", from: "10:20:10", to: "10:25:10", xids: []uint64{24}, gap: true},
		{name: "of another life: neither before nor after", from: "5:8:", to: "11:22:11,12,15", xids: []uint64{21}},
	} {
		s := &session{line: newLine(nil, outbox.Run{}), src: &source{Source: Source{}.withDefaults(nil)}, covered: position(t, covered), ahead: position(t, covered)}
		now := time.Now()
		s.clock.measured(now, now, now, 0)
		b := &batch{from: position(t, c.from), to: position(t, c.to), clock: now.Add(-time.Millisecond)}
		for i, xid := range c.xids {
			b.events = append(b.events, outbox.Event{Seq: int64(i), Xid: xid})
		}
		s.place(b, 1, now)
		var taken []uint64
		for _, ev := range s.pending {
			taken = append(taken, ev.Xid)
		}
		if fmt.Sprint(taken) != fmt.Sprint(c.taken) || s.gap != c.gap {
			t.Errorf("%s: took %v, gap %v; want %v, %v", c.name, taken, s.gap, c.taken, c.gap)
		}
		if !s.ahead.Includes(s.covered) || len(taken) > 0 && !s.ahead.Equal(b.to) {
			t.Errorf("%s: it leads to %v", c.name, s.ahead)
		}
	}
}

// NATS brings the last message of a stream again and again where nothing else comes. A relay that is gone is not
// heard by it, also when the clocks are due to be compared.
func TestABatchThatComesAgainIsNoSignOfARelay(t *testing.T) {
	now := time.Now()
	s := &session{line: newLine(nil, outbox.Run{}), src: &source{Source: Source{}.withDefaults(nil)}, covered: position(t, "10:20:"), ahead: position(t, "10:20:"), heard: now}
	s.clock.measured(now, now, now, 0)
	b := &batch{number: 7, from: position(t, "10:15:"), to: position(t, "10:18:"), clock: now.Add(-time.Millisecond)}
	first := now.Add(time.Second)
	s.place(b, 1, first)
	if !s.heard.Equal(first) {
		t.Error("a batch of a relay that is there was not heard")
	}
	for _, later := range []time.Duration{2 * time.Second, time.Minute, 2 * measureEvery} {
		if s.place(b, 1, now.Add(later)); !s.heard.Equal(first) {
			t.Errorf("after %v it was heard again", later)
		}
	}
	b.number++
	if s.place(b, 1, now.Add(2*measureEvery)); s.heard.Equal(first) {
		t.Error("the next one was not heard")
	}
}

// A set of transactions that grows is cut into batches, which come in any order, twice or not
// at all. What was taken until a snapshot must be all that was committed until then.
func TestWhateverTheOrderNothingIsLostOrDoubled(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		snaps, commits := history(t, rng)
		var batches []*batch
		now := time.Now()
		for n := 1; n < len(snaps); n++ {
			from := max(0, n-1-rng.IntN(3))
			b := &batch{from: snaps[from], to: snaps[n], clock: now.Add(-time.Millisecond)}
			for xid, at := range commits {
				if at > from && at <= n {
					b.events = append(b.events, outbox.Event{Seq: int64(xid), Xid: xid})
				}
			}
			for range 1 + rng.IntN(2) {
				at := min(len(batches), max(0, len(batches)-rng.IntN(4)))
				batches = append(batches[:at], append([]*batch{b}, batches[at:]...)...)
			}
		}
		s := &session{line: newLine(nil, outbox.Run{}), src: &source{Source: Source{}.withDefaults(nil)}, covered: snaps[0], ahead: snaps[0]}
		s.clock.measured(now, now, now, 0)
		has := map[uint64]int{}
		for _, b := range batches {
			if rng.IntN(5) == 0 {
				continue // dropped
			}
			s.place(b, 1, now)
			for _, ev := range s.pending {
				has[ev.Xid]++
			}
			s.pending = nil
			if s.gap { // Postgres brings what is missing up to some snapshot
				to := snaps[len(snaps)-1]
				for _, snap := range snaps {
					if snap.Includes(b.to) {
						to = snap
						break
					}
				}
				for xid := range commits {
					if to.Covers(xid) && !s.ahead.Covers(xid) {
						has[xid]++
					}
				}
				s.ahead, s.gap = to, false
			}
			for xid, at := range commits {
				if want := at > 0 && s.ahead.Covers(xid); (has[xid] == 1) != want || has[xid] > 1 {
					t.Fatalf("seed %d: at %v transaction %d was taken %d times", seed, s.ahead, xid, has[xid])
				}
			}
		}
	}
}

// history is a run of snapshots of one server's life, and for each transaction with
// which of them it first shows.
func history(t *testing.T, rng *rand.Rand) (snaps []outbox.Position, commits map[uint64]int) {
	t.Helper()
	commits = map[uint64]int{}
	next, flying := uint64(100), map[uint64]bool{}
	for n := range 20 {
		for range rng.IntN(6) {
			flying[next] = true
			next++
		}
		for xid := range flying {
			if rng.IntN(2) == 0 {
				delete(flying, xid)
				commits[xid] = n
			}
		}
		var xip []uint64
		for xid := range flying {
			xip = append(xip, xid)
		}
		snaps = append(snaps, outbox.NewPosition(next, xip))
	}
	return snaps, commits
}

// follower is a session of run 1 that has heard of it now.
func follower(t *testing.T) (s *session, log *logbuf.Buffer) {
	t.Helper()
	log = &logbuf.Buffer{}
	src := Source{}.withDefaults(slog.New(slog.NewTextHandler(log, nil)))
	now := time.Now()
	s = &session{line: newLine(nil, outbox.Run{ID: 1, Key: key}), src: &source{Source: src}, covered: position(t, "10:20:"), ahead: position(t, "10:20:"), heard: now, anyway: now.Add(changeSeldom), join: joiner{max: src.MaxCut}}
	s.clock.measured(now, now, now, 0)
	return s, log
}

// messages are those of a batch of about size bytes, with a snapshot of now.
func messages(t *testing.T, run int64, number uint64, size int) [][]byte {
	t.Helper()
	b := &batch{number: number, from: position(t, "10:15:"), to: position(t, "10:18:"), clock: time.Now().Add(-time.Millisecond)}
	w := eventWriter{}
	w.add(&outbox.Event{Seq: 1, Xid: 16, Table: "a", Op: outbox.Insert, Row: bytes.Repeat([]byte("x"), size)})
	messages, err := split(key, run, number, append(b.appendHead(nil), w.buf...), overhead+1000)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// Who can only publish makes no node ask Postgres while the relay is heard, and where relays of two schemas share a
// stream that is said.
func TestAnotherRunIsSeldomAskedForWhileOursIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := follower(t)
		asked := 0
		for i := range uint64(240) { // a minute
			time.Sleep(250 * time.Millisecond)
			s.message(messages(t, rand.Int64(), i, 10)[0], time.Now())
			if s.changes(time.Now()) {
				asked++
				s.anyway, s.foreign = time.Now().Add(changeSeldom), false
			}
			s.message(messages(t, 1, i+1, 10)[0], time.Now())
		}
		if asked != int(time.Minute/changeSeldom)-1 { // the first message of another comes a moment after each time
			t.Errorf("it was asked for %d times in a minute", asked)
		}
		if n := s.src.Counters.Foreign.Load(); n != 240 || !strings.Contains(log.String(), "dropped=128") || strings.Contains(log.String(), "dropped=129") {
			t.Errorf("%d foreign messages: %s", n, log)
		}
	})
}

// All nodes see the other run at one instant.
func TestNodesDoNotAskForTheNextRunAtOneInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions, asked := map[*session]bool{}, map[time.Duration]int{}
		for range 200 {
			s, _ := follower(t)
			sessions[s] = true
		}
		began := time.Now()
		time.Sleep(300 * time.Millisecond)
		for s := range sessions {
			s.message(messages(t, 2, 1, 10)[0], time.Now())
		}
		for len(sessions) > 0 && time.Since(began) < time.Minute {
			for s := range sessions {
				if s.changes(time.Now()) {
					asked[time.Since(began)]++
					delete(sessions, s)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		for at, n := range asked {
			if at < quiet || at > quiet+changeWithin+20*time.Millisecond || n > 20 {
				t.Errorf("%d of 200 ask after %v", n, at)
			}
		}
		if len(sessions) > 0 {
			t.Errorf("%d never ask", len(sessions))
		}
	})
}

// A batch that is long in coming is no silence, but the same part again is.
func TestPartsOnTheirWayAreHeardOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := follower(t)
		parts := messages(t, 1, 5, 5000)
		for i, m := range parts[:len(parts)-1] {
			time.Sleep(2 * time.Second)
			if s.message(m, time.Now()); time.Since(s.heard) != 0 {
				t.Errorf("part %d of %d was not heard", i+1, len(parts))
			}
			time.Sleep(time.Second)
			if s.message(m, time.Now()); time.Since(s.heard) == 0 {
				t.Errorf("part %d was heard again", i+1)
			}
		}
		for _, m := range append(messages(t, 1, 4, 5000)[:1], messages(t, 2, 6, 5000)[:1]...) {
			if s.message(m, time.Now()); time.Since(s.heard) == 0 {
				t.Error("a part of an older batch, or of another run, was heard")
			}
		}
	})
}
