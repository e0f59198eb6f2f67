package stream

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

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
