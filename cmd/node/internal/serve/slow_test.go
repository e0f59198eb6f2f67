package serve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

// deaf opens a stream and reads nothing of it.
func (s *site) deaf() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprint(conn, "GET /v1/changes HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// windowBytes is the size of the window, which must keep its bound.
func (s *site) windowBytes(limit int) {
	s.t.Helper()
	n, err := strconv.ParseFloat(s.metric("lockstep_http_window_bytes"), 64)
	if err != nil || int(n) > limit {
		s.t.Errorf("the window has %v bytes, of %d: %v", n, limit, err)
	}
}

func TestAReaderThatDoesNotReadIsCutOffAndHoldsUpNobody(t *testing.T) {
	const limit = 100_000
	s := served(t, serve.Options{Window: limit, StreamWait: 100 * time.Millisecond},
		"create table a (id int primary key, v text); insert into a select i, repeat('x', 100000) from generate_series(1, 200) i; create table b (id int primary key)", "public.a", "public.b")
	conn := s.deaf() // the rows are more than sockets hold
	until(t, "its end", func() bool { return s.metric(`lockstep_http_streams_ended_total{why="slow"}`) == "1" })
	if got := s.metric("lockstep_http_streams"); got != "0" {
		t.Errorf("%s streams are left", got)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) || n >= 20_000_000 {
		t.Errorf("%d bytes, %v: the connection is still there", n, err)
	}
	s.windowBytes(limit)
}

func TestAReaderThatStopsReadingAfterTheRowsIsCutOffToo(t *testing.T) {
	const limit = 5_000_000
	s := served(t, serve.Options{Window: limit, StreamWait: 100 * time.Millisecond, Heartbeat: time.Hour},
		"create table a (id int primary key, v text); create table b (id int primary key)", "public.a", "public.b")
	s.deaf()
	good := s.listen("?table=public.b")
	good.untilLive()
	until(t, "both streams", func() bool { return s.metric("lockstep_http_streams") == "2" })
	ended := func() bool { return s.metric(`lockstep_http_streams_ended_total{why="slow"}`) == "1" }
	n := 0
	for !ended() && n < 100_000 {
		s.db.Exec(t, fmt.Sprintf("insert into a select i, repeat('x', 40000) from generate_series(%d, %d) i; insert into b values (%d)", n+1, n+20, n))
		n += 20
		want(t, good.take(1), fmt.Sprintf(`insert public.b %d {"id":%d}`, n-20, n-20)) // holds up nobody
		s.windowBytes(limit)
	}
	if !ended() {
		t.Errorf("after %d changes of 40 kB it is still there", n)
	}
}

// One that reads, but not as fast as others write, skips what it has missed.
func TestAReaderThatFallsBehindGetsTheNewestRowsAndNotWhatLiesBetween(t *testing.T) {
	const limit = 500_000
	s := served(t, serve.Options{Window: limit, StreamWait: time.Minute}, "create table a (id int primary key, v text); insert into a values (0, '')", "public.a")
	l := s.listen("")
	l.untilLive()
	conn := s.db.Conn(t)
	for i := range 100 { // 30 MB, while nothing is read
		if _, err := conn.Exec(t.Context(), "update a set v = $1 || repeat('x', 300000)", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if err := s.node.Barrier(t.Context()); err != nil { // each is a cut
			t.Fatal(err)
		}
	}
	s.db.Exec(t, "update a set v = 'last'")
	if err := s.node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.windowBytes(limit)
	seen, resets, value := 0, 0, ""
	for value != `{"id":0,"v":"last"}` {
		e := l.take(1)[0]
		seen++
		if e.name == "reset" {
			resets++
		}
		if e.data.Row != nil {
			value = string(e.data.Row)
		}
	}
	if resets == 0 || seen > 90 {
		t.Errorf("%d events, %d resets: it has got everything, and this test shows nothing", seen, resets)
	}
}

// The rows are more than sockets hold, and the window forgets everything at once.
func TestAReaderThatNeverGetsBeyondTheRowsIsClosed(t *testing.T) {
	s := served(t, serve.Options{Window: 1, StreamWait: time.Minute},
		"create table a (id int primary key, v text); insert into a select i, repeat('x', 100000) from generate_series(1, 160) i; create table b (id int primary key)", "public.a", "public.b")
	l := s.listen("")
	resets := 0
	for {
		e, more := l.next()
		if !more {
			break
		}
		if e.name == "reset" {
			s.db.Exec(t, fmt.Sprintf("insert into b values (%d)", resets))
			if err := s.node.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
			resets++
		}
	}
	if resets != 3 || l.in.Err() != nil || s.metric(`lockstep_http_streams_ended_total{why="behind"}`) != "1" {
		t.Errorf("%d resets, %v, %s behind", resets, l.in.Err(), s.metric(`lockstep_http_streams_ended_total{why="behind"}`))
	}
}

func TestStreamsEndCleanlyWithTheServer(t *testing.T) {
	s := served(t, serve.Options{}, twoTables, "public.a", "public.b")
	l := s.listen("")
	l.untilLive()
	server := new(http.Server) // as the command has one
	server.RegisterOnShutdown(s.pages.End)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if e, more := l.next(); more || l.in.Err() != nil {
		t.Errorf("%v, %v: want the end, and no error", e, l.in.Err())
	}
	s.pages.End() // once more
	s.send(http.MethodGet, "/v1/changes", "").wantProblem(t, 503, "unavailable")
	until(t, "no streams", func() bool { return s.metric("lockstep_http_streams") == "0" })
	if got := s.metric(`lockstep_http_streams_ended_total{why="closing"}`); got != "1" {
		t.Errorf("%s have ended so", got)
	}
}

func TestAStreamEndsWithItsNode(t *testing.T) {
	s := served(t, serve.Options{}, twoTables, "public.a", "public.b")
	l := s.listen("")
	l.untilLive()
	if err := s.node.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, more := l.next(); more || l.in.Err() != nil {
		t.Errorf("%v, %v", e, l.in.Err())
	}
}

func TestAStreamOutlivesTheTimeoutsOfTheServer(t *testing.T) {
	s := served(t, serve.Options{Heartbeat: 20 * time.Millisecond}, twoTables, "public.a", "public.b")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.pages, ReadTimeout: 50 * time.Millisecond, WriteTimeout: 50 * time.Millisecond}
	defer func() { _ = server.Close() }()
	go func() { _ = server.Serve(listener) }()
	s.server.URL = "http://" + listener.Addr().String()
	l := s.listen("")
	l.untilLive()
	for began := time.Now(); time.Since(began) < 300*time.Millisecond; { // beats keep it going
		if !l.in.Scan() {
			t.Fatalf("the stream has ended: %v", l.in.Err())
		}
	}
	s.db.Exec(t, "delete from b")
	want(t, l.take(1), `delete public.b "x"`)
	if strings.Contains(s.server.URL, "https") {
		t.Error("this is about plain connections")
	}
}
