package window

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox"
)

// fake is a node that says what the test wants it to.
type fake struct {
	name   string
	sample atomic.Pointer[Sample]
	asked  atomic.Int64
}

func newFake(name string) *fake {
	f := &fake{name: name}
	f.sample.Store(&Sample{StateName: "live", Staleness: 0.1, Tables: []TableSample{{Name: "public.a", Rows: 3}}})
	return f
}

func (f *fake) Name() string { return f.name }

func (f *fake) Sample(context.Context) (Sample, error) {
	f.asked.Add(1)
	if s := f.sample.Load(); s != nil {
		return *s, nil
	}
	return Sample{}, errors.New("the pipe is broken")
}

func (f *fake) Look(_ context.Context, q Query) (Look, error) {
	return Look{Columns: []string{"id"}, Rows: []Row{}, Total: len(q.Keys)}, nil
}

func TestWithNoPageOpenNothingIsDrawnAndPostgresIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		w := New(Config{Outbox: func(context.Context) (*outbox.Overview, error) {
			looks.Add(1)
			return &outbox.Overview{Nodes: []outbox.NodeSeen{{Name: "n1", Age: 1}, {Name: "n2", State: "live", Age: 2}, {Name: "n3", State: "live", Age: 7200}}}, nil
		}})
		defer w.End()
		n := newFake("n1")
		w.Add(n)
		time.Sleep(30*time.Second + time.Millisecond)
		if f, _ := w.newest(0); looks.Load() != 0 || f != nil || n.asked.Load() < 29 {
			t.Errorf("%d looks at the outbox, frame %v, %d samples", looks.Load(), f, n.asked.Load())
		}
		if err := w.open(1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		light, _ := w.newest(0)
		dark, _ := w.newest(1)
		if light != nil || dark == nil || looks.Load() < 9 || looks.Load() > 11 {
			t.Errorf("with one dark page: light %v, dark %v, %d looks", light, dark, looks.Load())
		}
		for _, want := range []string{`"name":"n1","asked":true`, `"name":"n2","asked":false`, "2 of 2", "1 more have registered"} {
			if !strings.Contains(string(dark), want) {
				t.Errorf("no %q in %s", want, dark)
			}
		}
		w.close(1)
		time.Sleep(2 * time.Second)
		had := looks.Load()
		time.Sleep(time.Minute)
		if dark, _ := w.newest(1); dark != nil || looks.Load() != had {
			t.Errorf("after the page was closed: %v, %d looks", dark, looks.Load()-had)
		}
	})
}

func TestWhatHappenedIsRememberedAndMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Config{Scrub: func(s string) string { return strings.ReplaceAll(s, "geheim", "***") }})
		n := newFake("n1")
		w.Add(n)
		say := func(s Sample) {
			n.sample.Store(&s)
			time.Sleep(3 * time.Second)
		}
		say(Sample{StateName: "live", Events: 100})
		say(Sample{StateName: "stale", Reason: "the password geheim\nis wrong", Staleness: 3, Events: 100})
		say(Sample{StateName: "live", Events: 400, Gaps: 7, Replays: 1, EventsReplayed: 300, Bell: "notify", BellWhy: "not on the stream: geheim"})
		n.sample.Store(nil)
		time.Sleep(3 * time.Second)
		if err := w.open(0); err != nil {
			t.Fatal(err)
		}
		f, _ := w.newest(0)
		got := string(f)
		for _, want := range []string{"n1 is live", "n1 is stale: the password ***; is wrong", "3.00 s at most. Marks: 1 second with gaps, 1 replay, 0 loads", `"state":"no answer"`, "the pipe is broken", "300 at most", "not on the stream: ***"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %s", want, got)
			}
		}
		if strings.Contains(got, "geheim") {
			t.Error("a secret is shown")
		}
		for range 10 * maxLog {
			w.Say(Good, "again")
		}
		w.close(0)
		time.Sleep(10 * time.Minute)
		w.End()
		if points := w.nodes[0].past.points(); len(w.log) != maxLog || len(points) != kept {
			t.Errorf("%d lines and %d points are kept", len(w.log), len(points))
		}
	})
}

func TestAPageThatDoesNotReadIsCutOffAndOneTooManyRefused(t *testing.T) {
	w := New(Config{Every: time.Millisecond, Patience: 100 * time.Millisecond, MaxPages: 1})
	for i := range 50 { // frames that fill a socket soon
		w.Add(newFake(fmt.Sprint("n", i)))
	}
	server := httptest.NewUnstartedServer(w)
	ended := make(chan struct{})
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(ended)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /window/events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // the stream has begun
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/window/events", nil))
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "too many pages") {
		t.Errorf("a second page: %d %s", rec.Code, rec.Body)
	}
	<-ended
	w.End()
	rec = httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/window/events", nil))
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "closing") {
		t.Errorf("after its end: %d %s", rec.Code, rec.Body)
	}
}

func TestThePageMayUseNothingButThisProgram(t *testing.T) {
	w := New(Config{})
	defer w.End()
	for _, path := range []string{"/", "/window/page.css", "/window/page.js"} {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		policy := rec.Header().Get("Content-Security-Policy")
		if rec.Code != 200 || !Static(path) || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %d %v", path, rec.Code, rec.Header())
		}
		for _, foreign := range []string{"http://", "https://", "<script>", "style=", "onclick", "innerHTML"} {
			if strings.Contains(rec.Body.String(), foreign) {
				t.Errorf("%s has %s in it", path, foreign)
			}
		}
	}
}

// tableOf is a table of n rows with keys from 1.
func tableOf(n int) *Table {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint(n - i)
	}
	row := func(k string) any { return map[string]any{"id": k, "text": strings.Repeat("ä", 500), "none": nil} }
	return &Table{
		name: "public.a", len: func(*lockstep.View) int { return n },
		all: func(*lockstep.View) iter.Seq2[string, any] {
			return func(yield func(string, any) bool) {
				for _, k := range keys {
					if !yield(k, row(k)) {
						return
					}
				}
			}
		},
		get: func(_ *lockstep.View, k string) (any, bool) { return row(k), slices.Contains(keys, k) },
	}
}

func TestALookIsBoundedWhateverTheTableIs(t *testing.T) {
	keysOf := func(l Look) (keys []string) {
		for _, r := range l.Rows {
			keys = append(keys, r.Key)
		}
		return keys
	}
	small := tableOf(200)
	l := small.look(nil, Query{})
	if got := keysOf(l); len(got) != maxRows || got[0] != "1" || got[9] != "10" || l.Matches != 200 || l.Total != 200 || l.Partial {
		t.Errorf("all: %v, %d of %d, partial %v", got, l.Matches, l.Total, l.Partial)
	}
	if cells := l.Rows[0].Cells; !slices.Equal(l.Columns, []string{"id", "none", "text"}) || *cells[0] != "1" || cells[1] != nil || len([]rune(*cells[2])) != maxCell+1 {
		t.Errorf("columns %v, cells %v", l.Columns, cells)
	}
	if l := small.look(nil, Query{Find: "20"}); !slices.Equal(keysOf(l), []string{"20", "120", "200"}) || l.Matches != 3 {
		t.Errorf("with 20 in it: %v of %d", keysOf(l), l.Matches)
	}
	large := tableOf(maxVisited + 100)
	if l := large.look(nil, Query{Find: "5"}); !l.Partial || len(l.Rows) != maxRows || l.Rows[0].Key != "5" {
		t.Errorf("of a large one: %v, partial %v", keysOf(l), l.Partial)
	}
	if l := large.look(nil, Query{Keys: []string{"7", "no such"}}); !slices.Equal(keysOf(l), []string{"7"}) || !l.Partial {
		t.Errorf("the same again: %v", keysOf(l))
	}
}
