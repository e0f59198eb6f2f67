package stream

import (
	"testing"
	"time"
)

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
		k.measured(t0, s, t0.Add(time.Millisecond), time.Millisecond)
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
		k.measured(t0, s, t0, 0)
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

// A relay's answer stands for a look at Postgres: moments are put no later than they were, and an answer that the next batch does
// not bear out counts for nothing.
func TestAMomentIsNotPutTooLateByARelaysAnswer(t *testing.T) {
	t0, s := time.Now(), time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) // the server's clock at t0
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		took, way   time.Duration // the relay's look, and the answer's way back
		set, paused time.Duration // what the clock is set by after the relay's look, and how long the relay's machine has stood still after it
		taken, slow bool
	}{
		"as it should be":             {took: ms, way: ms, taken: true},
		"a far relay":                 {took: ms, way: 400 * ms, taken: true, slow: true},
		"a look that took long":       {took: 900 * ms, way: ms, taken: true, slow: true},
		"set forward":                 {took: ms, way: ms, set: 150 * ms},
		"set back":                    {took: ms, way: ms, set: -150 * ms},
		"the relay's machine stopped": {took: ms, way: ms, paused: 1500 * ms},
	} {
		for _, ahead := range []time.Duration{0, c.took / 2, c.took} { // where in its look the server's clock was read
			var k clock
			k.measured(t0.Add(-time.Minute), s.Add(-time.Minute-ms), t0.Add(-time.Minute), 0) // a while ago; it puts moments 1 ms too late, which tells
			asked := 5*ms + c.paused                                                          // after t0 the question was answered
			a := &clockAnswer{t0: t0, now: t0.Add(asked + c.way), clock: s.Add(5*ms + ahead - c.took), took: c.took, uptime: time.Hour}
			k.told(a)
			old := &batch{clock: s.Add(-ms), took: ms, uptime: time.Hour - 10*ms} // read before the question was asked, and late
			if at, ok := k.ours(old, t0.Add(asked+c.way)); !ok || !at.Equal(k.t0.Add(old.clock.Sub(k.s)-old.clock.Sub(k.s).Abs()*drift/1_000_000)) || k.answer == nil {
				t.Errorf("%s, %v: a batch of before the question: %v, %v, and the answer counts", name, ahead, at.Sub(t0), ok)
			}
			began := asked + time.Second // of the next fetch, after t0
			read := s.Add(began + c.set + ms/2)
			b := &batch{clock: read.Add(-ms), took: ms, uptime: time.Hour + time.Second}
			at, ok := k.ours(b, t0.Add(began+400*ms))
			if taken := k.t0.Equal(t0); taken != c.taken || k.answer != nil {
				t.Errorf("%s, %v: the answer counts: %v", name, ahead, taken)
			}
			if k.soon > 0 != c.slow {
				t.Errorf("%s, %v: clocks are compared again in %v", name, ahead, k.until.Sub(t0))
			}
			if was := t0.Add(began + ms/2); c.taken && (!ok || at.After(was) || was.Sub(at) > c.took+10*ms) {
				t.Errorf("%s, %v: ok %v, put %v after it was", name, ahead, ok, at.Sub(was))
			}
		}
	}
}

// The relay is asked in time, again if it does not say, and seldom.
func TestTheRelayIsAskedBeforePostgresIs(t *testing.T) {
	for range 100 {
		var k clock
		now := time.Now()
		if k.due(now) {
			t.Fatal("a clock that was never measured is due: the first fetch measures it")
		}
		k.measured(now, now, now, 0)
		asked := 0
		for at := now; at.Before(k.until); at = at.Add(250 * time.Millisecond) {
			if k.due(at) {
				asked++
				k.refused(at)
			}
		}
		if asked != 2 {
			t.Errorf("a relay that says nothing was asked %d times in %v", asked, k.until.Sub(now))
		}
		if k.due(k.until.Add(time.Millisecond)) {
			t.Error("it is asked when Postgres is")
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
				k.measured(now, now, now.Add(took), took)
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
