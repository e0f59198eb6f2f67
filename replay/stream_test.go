package replay

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// flood is a source whose second fetch brings a great many transactions,
// without ever holding them.
type flood struct {
	*fakeSession

	events  int
	fetched int
	held    int64 // bytes that the engine held at the end of the flood
}

func (f *flood) Open(context.Context) (Session, error) { return f, nil }

func (f *flood) Fetch(_ context.Context, req outbox.Request, sink outbox.Sink) error {
	h := outbox.Header{Began: time.Now(), History: f.db.history, Fingerprints: []string{"", ""}}
	f.fetched++
	if f.fetched > 1 {
		h.LastSeq = int64(f.events)
	}
	h.Snapshot = outbox.NewPosition(uint64(h.LastSeq)+100, nil)
	if err := sink.Begin(&h); err != nil || f.fetched != 2 {
		return err
	}
	before := heap()
	for i := range f.events {
		ev := outbox.Event{Seq: int64(i) + 1, Xid: uint64(i) + 100, Table: emp, Op: outbox.Update}
		if err := sink.Event(0, &ev, fakeRow{rec{i % 1000, "row"}}); err != nil {
			return err
		}
	}
	f.held = heap() - before
	return nil
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestALongCatchUpIsNotHeldInMemory(t *testing.T) {
	r := newRig(t, Config{})
	r.leaveOut(emp, true)
	src := &flood{
		fakeSession: &fakeSession{db: r.db, rings: make(chan struct{}, 1), lost: make(chan struct{})},
		events:      500_000,
	}
	r.eng.src = src
	r.start()
	if err := r.eng.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := r.eng.Status()
	if err := r.eng.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st.Events != 500_000 || st.Gaps.Open != 0 || r.emp.Len() != 1000 {
		t.Errorf("%d events, %d gaps, %d rows", st.Events, st.Gaps.Open, r.emp.Len())
	}
	// An event takes 100 bytes and more; the cache keeps what it tells its
	// subscribers, 100,000 changes at the most.
	t.Logf("%d bytes held after %d events", src.held, src.events)
	if src.held > 20<<20 {
		t.Errorf("%d bytes are held after %d events", src.held, src.events)
	}
}
