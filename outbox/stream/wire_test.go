package stream

import (
	"bytes"
	"context"
	"errors"
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

// asked counts who asks it, and knows no run.
type asked int

func (a *asked) Running(context.Context) (outbox.Run, error) {
	*a++
	return outbox.Run{}, outbox.ErrRun
}

// leading is the registry of a server on which one run is there.
type leading struct{ run outbox.Run }

func (l leading) Running(context.Context) (outbox.Run, error) { return l.run, nil }

func TestAFloodOfForgedRunsHidesNoneThatIsThere(t *testing.T) {
	var messages [][]byte
	for i := range 10_000 {
		run := rand.Int64()
		if i == 17 {
			run = 4711
		}
		one, err := split(key, run, 1, nil, overhead+1)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, one...)
	}
	for _, there := range []outbox.Run{{ID: 4711, Key: key}, {ID: 4711, Key: []byte("another")}} {
		c := new(Counters)
		p := finder{counters: c}
		run, err := p.find(t.Context(), leading{there}, messages)
		right := bytes.Equal(there.Key, key)
		if err != nil || (run != nil) != right || c.Foreign.Load() < 9_000 || (c.Forged.Load() == 1) == right {
			t.Errorf("the key is right %v: run %v, %v, %d foreign and %d forged", right, run, err, c.Foreign.Load(), c.Forged.Load())
		}
	}
}

func TestAFloodOfRunsThatNobodyHasHeardOfAsksPostgresAFewTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, n := finder{counters: new(Counters)}, asked(0)
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
		if n != 1 {
			t.Errorf("Postgres was asked %d times", n)
		}
		time.Sleep(askEvery)
		if flood(); n != 2 {
			t.Errorf("a moment later Postgres has been asked %d times", n)
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
