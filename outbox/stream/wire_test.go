package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep/outbox"
)

var key = []byte("a key of a run, of some length...")

func TestABatchIsSplitUnderTheLimitAndJoinedWhateverComesBetween(t *testing.T) {
	for _, size := range []int{0, 1, 99, 100, 101, 200, 12345} {
		batch := bytes.Repeat([]byte("x"), size)
		messages, err := split(key, -7, 3, batch, overhead+100)
		if err != nil {
			t.Fatal(err)
		}
		if want := max(1, (size+99)/100); len(messages) != want {
			t.Errorf("%d bytes are %d messages, want %d", size, len(messages), want)
		}
		rand.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		j := joiner{max: 1 << 20}
		var got [][]byte
		for _, m := range append(messages, messages...) { // each comes twice
			if len(m) > overhead+100 {
				t.Fatalf("a message of %d bytes", len(m))
			}
			p, err := open(m)
			if err != nil || p.verify(key) != nil || p.run != -7 || p.number != 3 {
				t.Fatalf("%+v: %v", p, err)
			}
			if b, _ := j.add(p); b != nil {
				got = append(got, b)
			}
		}
		if len(messages) > 1 && len(got) != 1 || len(got) == 0 || !bytes.Equal(got[0], batch) {
			t.Errorf("%d bytes in %d messages came out %d times", size, len(messages), len(got))
		}
	}
}

func TestABatchThatLacksAPartIsGivenUpForTheNext(t *testing.T) {
	j := joiner{max: 1000}
	parts := func(number uint64, size int) (out []part) {
		messages, err := split(key, 1, number, bytes.Repeat([]byte{byte(number)}, size), overhead+100)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			p, err := open(m)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, p)
		}
		return out
	}
	for i, step := range []struct {
		p    part
		done bool
		lost bool
	}{
		{p: parts(1, 250)[0]},
		{p: parts(1, 250)[2]},
		{p: parts(2, 150)[1], lost: true},
		{p: parts(1, 250)[1]}, // too late
		{p: parts(2, 150)[0], done: true},
		{p: parts(3, 150)[0]},
		{p: parts(4, 50)[0], done: true, lost: true},
		{p: parts(3, 150)[1]},
		{p: parts(5, 1200)[0]},
	} {
		batch, lost := j.add(step.p)
		if (batch != nil) != step.done || lost != step.lost {
			t.Errorf("step %d: a batch of %d bytes, lost %v; want %v, %v", i, len(batch), lost, step.done, step.lost)
		}
	}
	lost := false
	for _, p := range parts(6, 1200) { // more than is joined
		batch, l := j.add(p)
		if lost = lost || l; batch != nil {
			t.Fatal("a batch above the bound was joined")
		}
	}
	if !lost || j.size > j.max {
		t.Errorf("lost %v, %d bytes held", lost, j.size)
	}
}

func TestAForgedMessageIsNotBelieved(t *testing.T) {
	messages, err := split(key, 1, 1, []byte("a batch"), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(messages[0]) * 8 {
		m := bytes.Clone(messages[0])
		m[bit/8] ^= 1 << (bit % 8)
		if p, err := open(m); err == nil && !errors.Is(p.verify(key), errForged) {
			t.Fatalf("bit %d was flipped, and nobody saw", bit)
		}
	}
	for n := range len(messages[0]) {
		if p, err := open(messages[0][:n]); err == nil && p.verify(key) == nil {
			t.Fatalf("it was cut to %d bytes, and nobody saw", n)
		}
	}
	p, err := open(messages[0])
	if err != nil || p.verify([]byte("another key")) == nil {
		t.Errorf("another key does as well (%v)", err)
	}
}

func position(t testing.TB, s string) outbox.Position {
	t.Helper()
	p, err := outbox.ParsePosition(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sample(t testing.TB) (*batch, []byte) {
	b := &batch{
		identity: "cluster 1, database 2, schema 3", history: uuid.New(), from: position(t, "10:12:10"), to: position(t, "12:30:12,14"),
		lastSeq: 77, horizon: 5, drawn: 29, minNode: 1, clock: time.UnixMicro(1234567890123456), uptime: -3,
		prints: map[uint32]string{16384: "-99", 4_000_000_000: ""},
		events: []outbox.Event{
			{Seq: 70, Xid: 13, Table: "public.a", Op: outbox.Insert, Lead: true, Row: []byte(`{"id":1}`), At: time.UnixMicro(5)},
			{Seq: 71, Xid: 13, Table: `"Odd"."T"`, Op: outbox.Truncate, At: time.UnixMicro(-5)},
			{Seq: 69, Xid: 15, Table: "public.a", Op: outbox.Reload, Row: []byte{}, At: time.UnixMicro(6)},
		},
	}
	var w eventWriter
	for i := range b.events {
		w.add(&b.events[i])
	}
	return b, append(b.appendHead(nil), w.buf...)
}

func TestABatchComesBackAsItWentOut(t *testing.T) {
	b, data := sample(t)
	got, err := parseBatch(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, b) {
		t.Errorf("got  %+v\nwant %+v", got, b)
	}
}

// Only who has the key can make one that is no batch; it must not break a node all the same.
func FuzzParseBatch(f *testing.F) {
	_, data := sample(f)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBatch(data)
		if err == nil && (b.from.IsZero() || b.to.IsZero()) {
			t.Errorf("a batch from %v to %v", b.from, b.to)
		}
	})
}

func TestAMomentOfTheServersClockIsNeverPutTooLate(t *testing.T) {
	t0, s := time.Now(), time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) // clocks that know nothing of each other
	at := func(server, uptime time.Duration) *batch { return &batch{clock: s.Add(server), uptime: uptime} }
	for _, c := range []struct {
		name   string
		b, b2  *batch
		now    time.Duration
		ok     bool
		latest time.Duration
	}{
		{name: "a moment ago", b: at(time.Second, 0), now: 1100 * time.Millisecond, ok: true, latest: time.Second},
		{name: "before it was measured", b: at(-time.Second, 0), now: time.Second, ok: true, latest: -time.Second},
		{name: "in the future: the clock was set forward", b: at(time.Minute, 0), now: time.Second},
		{name: "the clock was set back", b: at(10*time.Second, 0), b2: at(-5*time.Second, time.Second), now: 12 * time.Second},
		{name: "set forward by less than a message is late", b: at(time.Second, 0), b2: at(9*time.Second, time.Second), now: 20 * time.Second},
		{name: "measured too long ago", b: at(measureEvery, 0), now: measureEvery + time.Second},
	} {
		var k clock
		k.measured(t0, s, t0.Add(time.Millisecond))
		got, ok := k.ours(c.b, t0.Add(c.now))
		if c.b2 != nil {
			if !ok {
				t.Errorf("%s: the first one is refused", c.name)
			}
			got, ok = k.ours(c.b2, t0.Add(c.now))
		}
		if ok != c.ok || ok && (got.After(t0.Add(c.latest)) || got.Before(t0.Add(c.latest-time.Millisecond))) {
			t.Errorf("%s: %v, %v", c.name, got.Sub(t0), ok)
		}
	}
	var k clock
	if _, ok := k.ours(at(0, 0), t0); ok {
		t.Error("a clock that was never measured is relied upon")
	}
}

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
		s := &session{src: &source{Source: Source{}.withDefaults(nil)}, covered: position(t, covered), ahead: position(t, covered)}
		now := time.Now()
		s.clock.measured(now, now, now)
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
	s := &session{src: &source{Source: Source{}.withDefaults(nil)}, covered: position(t, "10:20:"), ahead: position(t, "10:20:"), heard: now}
	s.clock.measured(now, now, now)
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

// asked counts who asks it, and knows no run.
type asked int

func (a *asked) Prove(context.Context, int64) ([]byte, error) {
	*a++
	return nil, outbox.ErrRun
}

func TestAFloodOfRunsThatNobodyHasHeardOfAsksPostgresAFewTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, n := prover{counters: new(Counters)}, asked(0)
		flood := func() {
			t.Helper()
			var messages [][]byte
			for range 10_000 {
				one, err := split(key, rand.Int64(), 1, nil, overhead+1)
				if err != nil {
					t.Fatal(err)
				}
				messages = append(messages, one...)
			}
			if run, err := p.find(t.Context(), &n, messages); run != nil || err != nil {
				t.Fatalf("run %v, %v", run, err)
			}
		}
		flood()
		flood()
		if n == 0 || n > proveMost {
			t.Errorf("Postgres was asked %d times", n)
		}
		time.Sleep(proveAgain)
		if was := n; func() bool { flood(); return n == was }() {
			t.Error("a second later nobody was asked for")
		}
		if len(p.dead) > proveMost {
			t.Errorf("%d runs are remembered", len(p.dead))
		}
	})
}

// Many relays, and many nodes, are started at once, and must not all act at once for ever.
func TestWhoWaitsForTheSameThingDoesNotActAtOneInstant(t *testing.T) {
	for name, draw := range map[string]struct {
		draw   func() time.Duration
		lo, hi time.Duration
	}{
		"a relay that does not lead":      {func() time.Duration { return standby(500 * time.Millisecond) }, 250 * time.Millisecond, 500 * time.Millisecond},
		"a node that hears nothing":       {Source{Away: 4 * time.Second}.patience, 4 * time.Second, 5 * time.Second},
		"a relay that tries all the time": {func() time.Duration { return standby(1) }, 0, 1},
	} {
		seen := map[time.Duration]bool{}
		for range 1000 {
			d := draw.draw()
			if d < draw.lo || d > draw.hi {
				t.Fatalf("%s waits %v, want %v to %v", name, d, draw.lo, draw.hi)
			}
			seen[d] = true
		}
		if draw.hi > time.Millisecond && len(seen) < 500 {
			t.Errorf("%s: %d waits of 1000 differ", name, len(seen))
		}
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
		s := &session{src: &source{Source: Source{}.withDefaults(nil)}, covered: snaps[0], ahead: snaps[0]}
		s.clock.measured(now, now, now)
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

func TestTheRelayDrawsAnIDWhereNumbersAreMissing(t *testing.T) {
	now, beat := time.Now(), time.Second
	var a account
	settle := func(last int64, xmin uint64, drawn uint64, seqs ...int64) {
		for _, s := range seqs {
			a.event(s)
		}
		a.settle(&outbox.Header{LastSeq: last, Drawn: drawn, Snapshot: outbox.NewPosition(xmin, nil)})
	}
	settle(10, 100, 0)
	if a.open() || a.wantsDraw(now, beat) {
		t.Error("nothing was handed out since the run began")
	}
	settle(12, 101, 0, 11, 12)
	if a.open() || a.wantsDraw(now, beat) {
		t.Error("all numbers have come")
	}
	settle(15, 102, 0, 13, 15)
	if !a.open() || !a.wantsDraw(now, beat) || a.wantsDraw(now, beat) {
		t.Error("14 is missing: an id is to be drawn, once a beat")
	}
	settle(15, 103, 103)
	if !a.open() || a.wantsDraw(now.Add(2*beat), beat) {
		t.Error("the id was drawn, and 103 may still be running")
	}
	settle(15, 104, 0)
	if a.open() {
		t.Error("whoever drew 14 is over")
	}
}
