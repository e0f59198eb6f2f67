package stream

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

func TestOnlyTheRelayOfTheRunAnswersAndOnlyTheQuestion(t *testing.T) {
	run := outbox.Run{ID: -7, Key: key}
	nonce := func(b byte) []byte { return bytes.Repeat([]byte{b}, nonceLen) }
	q := question{run: run.ID, nonce: nonce(1), uptime: -time.Second, kind: askRow, body: []byte("a row")}
	sealed := q.seal(key)
	got, err := openQuestion(sealed, &run)
	if err != nil || got.run != q.run || !bytes.Equal(got.nonce, q.nonce) || got.uptime != q.uptime || got.kind != q.kind || !bytes.Equal(got.body, q.body) {
		t.Fatalf("%+v, %v", got, err)
	}
	batch, err := split(key, run.ID, 1, []byte("a batch, as long as a question is"), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string][]byte{
		"nothing": nil, "cut short": sealed[:questionLen+macLen-1], "another key": q.seal([]byte("another")), "an answer": q.answer(key, []byte("as long as a question has to be")),
		"a batch": batch[0], "too long": (&question{run: run.ID, nonce: nonce(1), body: make([]byte, maxQuestion)}).seal(key),
		"another run": (&question{run: 8, nonce: nonce(1)}).seal(key),
	} {
		if _, err := openQuestion(m, &run); err == nil {
			t.Errorf("%s is taken for a question", name)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := openQuestion(bad, &run); err == nil {
			t.Fatalf("a question whose byte %d is another is taken", i)
		}
	}
	said := q.answer(key, []byte("12345678"))
	if body, err := q.openAnswer(said, key, 8); err != nil || string(body) != "12345678" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := q.openAnswer(q.answer(key, nil), key, 8); !errors.Is(err, errNoAnswer) {
		t.Errorf("no answer: %v", err)
	}
	other := question{run: run.ID, nonce: nonce(2)}
	for name, m := range map[string][]byte{
		"nothing": nil, "to another question": other.answer(key, []byte("12345678")), "another key": q.answer([]byte("another"), []byte("12345678")),
		"another length": q.answer(key, []byte("1234567")), "a question": sealed,
	} {
		if _, err := q.openAnswer(m, key, 8); err == nil || errors.Is(err, errNoAnswer) {
			t.Errorf("%s is taken for the answer: %v", name, err)
		}
	}
}

// What a relay says of a clock that it last saw a while ago is true, and it does not say what it cannot know.
func TestARelaySaysWhatItKnowsOfTheClockAndNoMore(t *testing.T) {
	start := time.Now()
	server := func(at time.Time) time.Time { return at.Add(-1000 * time.Hour) } // its clock, at a moment
	d := &desk{start: start}
	if d.clock(start) != nil {
		t.Error("a relay that has not fetched knows the clock")
	}
	began, took := start.Add(5*time.Second), 40*time.Millisecond
	c := &collector{header: outbox.Header{Began: began}, took: took, uptime: began.Sub(start)}
	c.clock = server(began.Add(took / 2)).Add(-took) // it was read half way
	d.noteClock(c)
	for _, since := range []time.Duration{took, 250 * time.Millisecond, clockFor} {
		now := began.Add(since)
		a := readClock(d.clock(now))
		if true0 := server(now); a.clock.After(true0) || a.clock.Add(a.took).Before(true0) || a.took > took+3*time.Millisecond {
			t.Errorf("after %v: %v and %v more, it was %v", since, a.clock, a.took, true0)
		}
		if a.uptime != now.Sub(start) {
			t.Errorf("after %v: uptime %v", since, a.uptime)
		}
	}
	if d.clock(began.Add(clockFor+time.Millisecond)) != nil {
		t.Error("a relay that hangs knows the clock")
	}
	d.wall = d.wall.Add(-time.Minute) // by the clock on the wall the last fetch is long ago
	if d.clock(began.Add(time.Millisecond)) != nil {
		t.Error("a relay whose machine has slept knows the clock")
	}
}
