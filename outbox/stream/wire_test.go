package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/pglockstep/lockstep/internal/logbuf"
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
		lastSeq: 77, horizon: 5, drawn: 29, minNode: 1, clock: time.UnixMicro(1234567890123456), took: 12345, uptime: -3,
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
		{name: "measured too long ago", b: at(2*measureEvery, 0), now: 2 * measureEvery},
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

// An answer that is late says nothing of a clock; one that was set is found out however late answers are, and in
// steps that are small as well.
func TestALateAnswerIsNotTakenForAClockThatWasSet(t *testing.T) {
	t0, s := time.Now(), time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		took []time.Duration // of the answer to the fetch after each second
		set  map[int]time.Duration
		bad  int // the fetch at which the clock is found to be set; 0: none
	}{
		"a packet is lost":                        {took: []time.Duration{ms, 400 * ms, ms, 900 * ms, 2 * ms}},
		"a catalogue of many tables, every third": {took: []time.Duration{ms, ms, 300 * ms, ms, ms, 300 * ms, ms, ms, 300 * ms}},
		"the first is late":                       {took: []time.Duration{900 * ms, ms, ms}},
		"set forward":                             {took: []time.Duration{ms, ms, ms, ms}, set: map[int]time.Duration{3: 150 * ms}, bad: 3},
		"set back":                                {took: []time.Duration{ms, ms, ms, ms}, set: map[int]time.Duration{3: -150 * ms}, bad: 3},
		"set forward, by a late answer":           {took: []time.Duration{ms, ms, 400 * ms, ms}, set: map[int]time.Duration{3: 700 * ms}, bad: 3},
		"set forward again and again":             {took: []time.Duration{ms, ms, ms, ms, ms, ms}, set: map[int]time.Duration{2: 60 * ms, 4: 60 * ms}, bad: 4},
	} {
		var k clock
		k.measured(t0, s, t0)
		set := time.Duration(0)
		for i, took := range c.took {
			set += c.set[i+1]
			began := time.Duration(i+1) * time.Second
			read := s.Add(began + set + ms/2) // the server reads its clock when the question has come
			b := &batch{clock: read.Add(-took), took: took, uptime: began}
			at, ok := k.ours(b, t0.Add(began+took+200*ms)) // no step puts it into the future
			if want := c.bad == 0 || i+1 < c.bad; ok != want {
				t.Errorf("%s: batch %d: ok %v", name, i+1, ok)
			}
			if limit := t0.Add(began + set + ms); ok && at.After(limit) {
				t.Errorf("%s: batch %d of %v is put at %v", name, i+1, began, at.Sub(t0))
			}
			if !ok {
				break
			}
		}
	}
}

// Where every answer is slow, or many nodes have measured at one instant, Postgres is asked seldom, and not by all at once.
func TestClocksAreMeasuredSeldomAndNotAtOneInstant(t *testing.T) {
	for took, most := range map[time.Duration]int{60 * time.Millisecond: 16, slow: 16, time.Second: 24} {
		seen := map[time.Duration]bool{}
		for range 200 {
			var k clock
			now, n := time.Now(), 0
			for end := now.Add(time.Hour); now.Before(end); n++ {
				k.measured(now, now, now.Add(took))
				if until := k.until.Sub(now); n == 0 {
					seen[until] = true
				}
				now = k.until.Add(time.Millisecond)
			}
			if n > most {
				t.Fatalf("with answers that take %v a node asks %d times in an hour", took, n)
			}
		}
		if len(seen) < 150 {
			t.Errorf("200 nodes measure again after %d different times", len(seen))
		}
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

// follower is a session of run 1 that has heard of it now.
func follower(t *testing.T) (s *session, log *logbuf.Buffer) {
	t.Helper()
	log = &logbuf.Buffer{}
	src := Source{}.withDefaults(slog.New(slog.NewTextHandler(log, nil)))
	now := time.Now()
	s = &session{src: &source{Source: src}, run: outbox.Run{ID: 1, Key: key}, covered: position(t, "10:20:"), ahead: position(t, "10:20:"), heard: now, join: joiner{max: src.MaxCut}}
	s.clock.measured(now, now, now)
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
func TestAnotherRunIsNotAskedForWhileOursIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := follower(t)
		for i := range uint64(240) { // a minute
			time.Sleep(250 * time.Millisecond)
			s.message(messages(t, rand.Int64(), i, 10)[0], time.Now())
			if s.changes(time.Now()) {
				t.Fatalf("after %d messages of others it is time to ask", i)
			}
			s.message(messages(t, 1, i+1, 10)[0], time.Now())
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

func TestARelayThatGetsNothingThroughResigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{cfg: RelayConfig{Logger: slog.New(slog.DiscardHandler)}.withDefaults()}
		l, failure := newLeader(r, nil, outbox.Run{}), errors.New("no answer")
		fails := func(sent int) error {
			began := time.Now()
			time.Sleep(2 * time.Second)
			return l.unsent(t.Context(), began, sent, failure)
		}
		for range 10 { // what is slow is not away
			if err := fails(3); err != nil {
				t.Fatal(err)
			}
		}
		if l.inPart < partAgain {
			t.Errorf("%d batches that got through in part were counted", l.inPart)
		}
		n := 0
		for ; n < 10; n++ {
			if err := fails(0); err != nil {
				if !errors.Is(err, errNoNATS) || !errors.Is(err, failure) {
					t.Error(err)
				}
				break
			}
		}
		if n != 2 { // 6 s
			t.Errorf("it resigns after %d failures of 2 s", n+1)
		}
	})
}

// Each time that messages are asked for again a consumer is left behind, which the server keeps for a while.
func TestConsumersDoNotPileUpWhereNothingComes(t *testing.T) {
	var f feed
	f.came(7)
	f.pause(errSilent)
	at, made := time.Duration(0), []time.Duration{}
	for at < time.Hour { // the relay is away: all that comes is its last message
		f.came(7)
		at += f.patience()
		f.quiet++
		at += f.pause(fmt.Errorf("%w over stream x", errSilent))
		made = append(made, at)
	}
	for i := range made {
		kept := 0
		for _, other := range made[:i] {
			if made[i]-other < forgotten {
				kept++
			}
		}
		if kept > 4 || i > 10 && kept > 1 {
			t.Errorf("after %v there are %d consumers", made[i], kept)
		}
	}
	if f.came(8); f.patience() != silence {
		t.Errorf("a relay that is back is given %v", f.patience())
	}
	refused := errors.New("the stream is not there")
	f.pause(refused)
	var last time.Duration
	for range 20 {
		last = f.pause(refused)
	}
	if last < seldom/2 || last > seldom {
		t.Errorf("a stream that is not there is asked for every %v", last)
	}
}

// Somebody waits for Postgres all the time.
func TestABusyNodeTriesTheStreamToo(t *testing.T) {
	d := &detour{src: &source{Source: Source{}.withDefaults(nil)}}
	from := position(t, "10:20:")
	for _, c := range []struct {
		req   outbox.Request
		since time.Duration
		due   bool
	}{
		{outbox.Request{From: from}, d.src.Return - 1, false},
		{outbox.Request{From: from}, d.src.Return, true},
		{outbox.Request{From: from, Now: true}, 9 * d.src.Return, false},
		{outbox.Request{From: from, Now: true}, 10 * d.src.Return, true},
		{outbox.Request{From: from, Snapshot: "00000003-0000001B-1"}, time.Hour, false},
		{outbox.Request{}, time.Hour, false},
	} {
		if got := d.due(&c.req, c.since); got != c.due {
			t.Errorf("%+v after %v: %v", c.req, c.since, got)
		}
	}
}

// A NATS server that takes connections and never says a word holds up nobody.
func TestANATSServerThatSaysNothingHoldsUpNobody(t *testing.T) {
	var listening net.ListenConfig
	l, err := listening.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case accepted <- conn:
			default:
			}
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f := newFeed(Source{URL: "nats://localhost:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port), Options: []nats.Option{nats.Timeout(time.Hour)}}.withDefaults(nil))
		conn := <-accepted
		f.close()
		_ = conn.Close()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("who gives up waits for it")
	}
}

// A server that is there and has stopped, or whose packets are dropped, is found out long before a relay's lead is in question.
func TestAConnectionToNATSThatIsDeadIsFoundOutWithinSeconds(t *testing.T) {
	o := nats.GetDefaultOptions()
	for _, set := range connection("x") {
		if err := set(&o); err != nil {
			t.Fatal(err)
		}
	}
	if d := o.PingInterval * time.Duration(o.MaxPingsOut+1); d > 5*time.Second || o.FlusherTimeout > 5*time.Second || o.Timeout > 5*time.Second {
		t.Errorf("pings find it out after %v, writes after %v, connecting after %v", d, o.FlusherTimeout, o.Timeout)
	}
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
