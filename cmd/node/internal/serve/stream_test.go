package serve_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

// event is a server-sent event, as a browser would read it.
type event struct {
	name, id string
	data     struct {
		Table, Xid, Position string
		Key, Row             json.RawMessage
	}
}

func (e event) String() string {
	return strings.TrimSpace(strings.Join([]string{e.name, e.data.Table, string(e.data.Key), string(e.data.Row)}, " "))
}

// listener is a client of a stream.
type listener struct {
	t      *testing.T
	res    *http.Response
	in     *bufio.Scanner
	leave  context.CancelFunc
	lastID string // as a browser remembers it
	beats  int
	retry  string
}

// listen opens a stream. Header lines are as in send.
func (s *site) listen(query string, header ...string) *listener {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+"/v1/changes"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	res, err := s.server.Client().Do(req) //nolint:bodyclose // leave does
	if err != nil {
		s.t.Fatal(err)
	}
	l := &listener{t: s.t, res: res, in: bufio.NewScanner(res.Body), leave: func() { cancel(); _ = res.Body.Close() }}
	l.in.Buffer(nil, 64<<20)
	s.t.Cleanup(l.leave)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	return l
}

// next is the next event; false at the end of the stream.
func (l *listener) next() (e event, more bool) {
	l.t.Helper()
	for l.in.Scan() {
		line := l.in.Text()
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, ":"):
			l.beats++
		case name == "event":
			e.name = value
		case name == "id":
			e.id, l.lastID = value, value
		case name == "data":
			if err := json.Unmarshal([]byte(value), &e.data); err != nil {
				l.t.Fatalf("%v: %s", err, line)
			}
		case line == "" && e.name != "":
			return e, true
		case line == "":
			e = event{}
		case name == "retry":
			l.retry = value
		default:
			l.t.Fatalf("a strange line %q", line)
		}
	}
	return e, false
}

// take reads n events.
func (l *listener) take(n int) (all []event) {
	l.t.Helper()
	for range n {
		e, more := l.next()
		if !more {
			l.t.Fatalf("the stream has ended after %v: %v", all, l.in.Err())
		}
		all = append(all, e)
	}
	return all
}

// untilLive reads up to the event that says that the current rows are complete.
func (l *listener) untilLive() (all []event) {
	l.t.Helper()
	for {
		e := l.take(1)[0]
		if all = append(all, e); e.name == "live" {
			return all
		}
	}
}

func want(t *testing.T, got []event, want ...string) {
	t.Helper()
	var list []string
	for _, e := range got {
		list = append(list, e.String())
	}
	if strings.Join(list, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
}

// ids says which events have one.
func ids(events []event) (has string) {
	for _, e := range events {
		if e.id == "" {
			has += "-"
		} else {
			has += "x"
		}
	}
	return has
}

const twoTables = `create table a (id int primary key, v text); create table b (k text primary key, n int); insert into a values (1, 'one'); insert into b values ('x', 1)`

func TestAStreamBeginsWithTheRowsAndGoesOnWithEveryChange(t *testing.T) {
	s := served(t, serve.Options{}, twoTables, "public.a", "public.b")
	l := s.listen("")
	first := l.untilLive()
	want(t, first, "reset", `row public.a 1 {"id":1,"v":"one"}`, `row public.b "x" {"k":"x","n":1}`, "live")
	if l.retry != "2000" {
		t.Errorf("retry is %q", l.retry)
	}
	if ids(first) != "---x" || first[3].data.Position == "" {
		t.Errorf("ids %s, %+v", ids(first), first[3])
	}
	s.db.Exec(t, `begin; insert into a values (2, E'two\n"'); update b set n = 2; delete from a where id = 1; commit`)
	s.db.Exec(t, "update a set id = 3 where id = 2")
	got := l.take(5)
	want(t, got[:3], `insert public.a 2 {"id":2,"v":"two\n\""}`, `update public.b "x" {"k":"x","n":2}`, "delete public.a 1")
	want(t, got[3:], `insert public.a 3 {"id":3,"v":"two\n\""}`, "delete public.a 2")
	if got[0].data.Xid == "" || got[0].data.Xid != got[2].data.Xid || got[2].data.Xid == got[4].data.Xid {
		t.Errorf("transactions %q %q %q", got[0].data.Xid, got[2].data.Xid, got[4].data.Xid)
	}
}

func TestOnlyTheLastEventOfACutHasAnId(t *testing.T) {
	s := served(t, serve.Options{}, twoTables, "public.a", "public.b")
	both, one := s.listen(""), s.listen("?table=public.a")
	both.untilLive()
	one.untilLive()
	s.db.Exec(t, "begin; insert into a values (2, 'x'), (3, 'x'); insert into b values ('y', 1); commit")
	if got := ids(both.take(3)); got != "--x" {
		t.Errorf("all tables: %s", got)
	}
	// The last one of those that are wanted.
	if got := ids(one.take(2)); got != "-x" {
		t.Errorf("one table: %s", got)
	}
}

func TestAStreamOfSomeTablesTellsOfNoOthers(t *testing.T) {
	s := served(t, serve.Options{}, twoTables+"; create table c (id int primary key)", "public.a", "public.b", "public.c")
	l := s.listen("?table=public.b&table=" + url.QueryEscape(`"public"."c"`))
	want(t, l.untilLive(), "reset", `row public.b "x" {"k":"x","n":1}`, "live")
	s.db.Exec(t, "insert into a values (2, 'two')")
	s.db.Exec(t, "insert into c values (5)")
	s.db.Exec(t, "delete from b")
	want(t, l.take(2), `insert public.c 5 {"id":5}`, `delete public.b "x"`)
	s.send(http.MethodGet, "/v1/changes?table=public.nowhere", "").wantProblem(t, 404, "not-found")
}

func TestAStreamBeginsAfterItsToken(t *testing.T) {
	s := served(t, serve.Options{ReadWait: time.Minute, Writes: true}, twoTables, "public.a", "public.b")
	other := servedOn(t, s.db, s.db.Pool(t), serve.Options{ReadWait: time.Minute}, "public.a")
	for i := range 20 {
		a := s.send(http.MethodPut, rowPath("public.a", fmt.Sprint(100+i)), `{"v":"new"}`, asJSON)
		l := other.listen("", "Lockstep-Token: "+a.header.Get("Lockstep-Token"))
		if rows := l.untilLive(); len(rows) != 2+1+i+1 {
			t.Fatalf("after write %d: %v", i, rows)
		}
		l.leave()
	}
}

func TestASilentStreamBeatsAndItsPlaceMovesOn(t *testing.T) {
	s := served(t, serve.Options{Heartbeat: 10 * time.Millisecond}, twoTables, "public.a", "public.b")
	l := s.listen("?table=public.b")
	l.untilLive()
	began := l.lastID
	s.db.Exec(t, "insert into a values (2, 'two')") // which is not told
	for l.lastID == began && l.in.Scan() {
		if id, ok := strings.CutPrefix(l.in.Text(), "id: "); ok {
			l.lastID = id
		}
	}
	l.leave()
	again := s.listen("?table=public.b", "Last-Event-ID: "+l.lastID)
	s.db.Exec(t, "insert into b values ('y', 1)")
	want(t, again.take(1), `insert public.b "y" {"k":"y","n":1}`)
}

func TestThereAreNoMoreStreamsThanAllowed(t *testing.T) {
	s := served(t, serve.Options{MaxStreams: 2}, twoTables, "public.a", "public.b")
	first := s.listen("")
	s.listen("")
	a := s.send(http.MethodGet, "/v1/changes", "")
	a.wantProblem(t, 503, "unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	first.leave()
	until(t, "a place that is free", func() bool { return s.metric("lockstep_http_streams") == "1" })
	s.listen("").untilLive()
	if got := s.metric(`lockstep_http_streams_ended_total{why="refused"}`); got != "1" {
		t.Errorf("%s refused", got)
	}
}

// metric is a value from the metrics page.
func (s *site) metric(name string) string {
	s.t.Helper()
	_, body, _ := s.get("/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	s.t.Fatalf("there is no %s", name)
	return ""
}
