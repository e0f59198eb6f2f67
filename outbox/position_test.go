package outbox_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/pglockstep/lockstep/outbox"
)

// smallPosition draws a position over a few ids, so that two of them meet.
func smallPosition(t *rapid.T, label string) (outbox.Position, map[uint64]bool) {
	xmax := rapid.Uint64Range(1, 20).Draw(t, label+" xmax")
	xip := rapid.SliceOfDistinct(rapid.Uint64Range(1, 22), rapid.ID).Draw(t, label+" xip")
	covered := make(map[uint64]bool)
	for x := uint64(1); x < xmax; x++ {
		covered[x] = true
	}
	for _, x := range xip {
		delete(covered, x)
	}
	return outbox.NewPosition(xmax, xip), covered
}

func TestPositionIsASetOfTransactions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, inP := smallPosition(t, "p")
		q, inQ := smallPosition(t, "q")
		includes := true
		for x := uint64(1); x < 25; x++ {
			if p.Covers(x) != inP[x] {
				t.Fatalf("%v covers %d: %v", p, x, p.Covers(x))
			}
			includes = includes && (inP[x] || !inQ[x])
		}
		if p.Includes(q) != includes {
			t.Fatalf("%v includes %v: %v", p, q, p.Includes(q))
		}
		if c := p.Compare(q); c == 0 != (p.Xmax() == q.Xmax() && p.Equal(q)) || c != -q.Compare(p) {
			t.Fatalf("compare %v and %v: %d and %d", p, q, c, q.Compare(p))
		}
	})
}

func TestPositionSurvivesTextAndJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, _ := smallPosition(t, "p")
		back, err := outbox.ParsePosition(p.String())
		if err != nil || back.String() != p.String() {
			t.Fatalf("%q came back as %q, %v", p, back, err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var q outbox.Position
		if err := json.Unmarshal(b, &q); err != nil || !q.Equal(p) {
			t.Fatalf("%s came back as %v, %v", b, q, err)
		}
	})
}

func TestPositionRefusesWhatPostgresWould(t *testing.T) {
	for _, s := range []string{"1", "1:2", "2:1:", "1:5:0", "1:5:5", "2:5:1", "1:5:3,2", "1:5:2,2", "x:5:", "1:5:2,", "0:0:", "1:2:3:4", "-1:5:", "1:18446744073709551616:"} {
		if p, err := outbox.ParsePosition(s); err == nil {
			t.Errorf("%q was read as %v", s, p)
		}
	}
}

// A tight position covers the same events as the snapshot, and nothing that
// could be handed out again.
func TestTightPositionCoversTheSameEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, _ := smallPosition(t, "p")
		xmax := rapid.Uint64Range(p.Xmax(), 40).Draw(t, "xmax")
		var xip []uint64
		for x := p.Xmin(); x < xmax; x++ {
			if !p.Covers(x) && rapid.Bool().Draw(t, "in flight") {
				xip = append(xip, x)
			}
		}
		snap := outbox.NewPosition(xmax, xip)
		highest := uint64(0)
		events := map[uint64]bool{} // transactions that wrote events, visible in snap, not in p
		for x := uint64(1); x < xmax; x++ {
			if snap.Covers(x) && !p.Covers(x) && rapid.Bool().Draw(t, "wrote") {
				events[x], highest = true, x
			}
		}
		tight := p.Tight(snap, highest)
		for x := uint64(1); x < xmax+5; x++ {
			switch {
			case events[x] && !tight.Covers(x):
				t.Fatalf("%v after %v in %v: event of %d would come twice", tight, p, snap, x)
			case !snap.Covers(x) && tight.Covers(x):
				t.Fatalf("%v after %v in %v: %d would never come", tight, p, snap, x)
			case x >= max(p.Xmax(), highest+1) && tight.Covers(x):
				t.Fatalf("%v is not tight: %d could be handed out again", tight, x)
			}
		}
	})
}

func TestTokenSurvivesText(t *testing.T) {
	for _, token := range []outbox.Token{{}, {History: uuid.New(), Xid: 4711}} {
		back, err := outbox.ParseToken(token.String())
		if err != nil || back != token {
			t.Errorf("%v came back as %v, %v", token, back, err)
		}
	}
	for _, s := range []string{"x", "4711", uuid.NewString(), uuid.NewString() + ":", uuid.NewString() + ":0", ":5"} {
		if token, err := outbox.ParseToken(s); err == nil {
			t.Errorf("%q was read as %v", s, token)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("90:92:90")
	f.Add("1:1:")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := outbox.ParsePosition(s)
		if err != nil {
			return
		}
		if q, err := outbox.ParsePosition(p.String()); err != nil || !q.Equal(p) {
			t.Errorf("%q was read as %v and that as %v, %v", s, p, q, err)
		}
	})
}
