package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// curl asks a node as curl does.
func (s *serving) curl(t *testing.T, method, path, body string) (status int, answer string, header http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	status, answer, header, _ = exchange(t, http.DefaultClient, req)
	return status, answer, header
}

// exchange sends a request and reads what comes.
func exchange(t *testing.T, client *http.Client, req *http.Request) (status int, body string, header http.Header, proto string) {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header, res.Proto
}

func TestAServedNodeReadsWritesStreamsAndEndsWhenItIsTold(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key, name text)")
	s := startServe(t, db, nil, "--listen", "127.0.0.1:0", "--writes", "--max-body", "100", "--max-streams", "1", "--window", "100000")

	res, err := http.Get(s.url + "/v1/changes?table=public.a")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	stream := bufio.NewScanner(res.Body)
	event := func(name string) {
		t.Helper()
		for stream.Scan() {
			if stream.Text() == "event: "+name {
				return
			}
		}
		t.Fatalf("no %s: %v", name, stream.Err())
	}
	event("live")
	status, body, header := s.curl(t, http.MethodPut, "/v1/tables/public.a/rows/7", `{"name":"Ann"}`)
	if status != 201 || body != "" || header.Get("Lockstep-Token") == "" {
		t.Errorf("PUT: %d %q %v", status, body, header)
	}
	event("insert")
	if status, body, _ := s.curl(t, http.MethodGet, "/v1/tables/public.a/rows/7", ""); status != 200 || body != `{"id":7,"name":"Ann"}`+"\n" {
		t.Errorf("GET: %d %q", status, body)
	}
	if status, body, _ := s.curl(t, http.MethodPut, "/v1/tables/public.a/rows/8", `{"name":"`+strings.Repeat("x", 100)+`"}`); status != 413 {
		t.Errorf("--max-body: %d %q", status, body)
	}
	if status, body, _ := s.curl(t, http.MethodGet, "/v1/changes", ""); status != 503 {
		t.Errorf("--max-streams: %d %q", status, body)
	}
	if status, body, _ := s.curl(t, http.MethodGet, "/metrics", ""); status != 200 || !strings.Contains(body, `lockstep_table_rows{table="public.a"} 1`) {
		t.Errorf("metrics: %d %q", status, body)
	}
	if status, _, _ := s.curl(t, http.MethodGet, "/v1/status?"+strings.Repeat("x", 80<<10), ""); status != 431 {
		t.Errorf("80 KiB of headers: %d", status)
	}
	if status, _, _ := s.curl(t, http.MethodDelete, "/v1/tables/public.a/rows/7", ""); status != 204 {
		t.Errorf("DELETE: %d", status)
	}
	event("delete")

	http.DefaultClient.CloseIdleConnections()
	began := time.Now()
	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d after %v\n%s", status, time.Since(began), s.log)
	}
	for stream.Scan() { // up to a clean end
	}
	if stream.Err() != nil {
		t.Errorf("the stream broke: %v", stream.Err())
	}
}

func TestWithoutWritesNothingIsWritten(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key); insert into a values (1)")
	s := startServe(t, db, nil, "--listen", "127.0.0.1:0")
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPost} {
		if status, body, _ := s.curl(t, method, "/v1/tables/public.a/rows/1", "{}"); status != 405 || !strings.Contains(body, "--writes") {
			t.Errorf("%s: %d %q", method, status, body)
		}
	}
	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d\n%s", status, s.log)
	}
}

// A node that ends leaves a checkpoint, and the next of its name begins with it and replays what it missed.
func TestAServedNodeBeginsAgainFromItsCheckpoint(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key, name text); insert into a select i, 'old' from generate_series(1, 100) i")
	dir := filepath.Join(t.TempDir(), "kept")
	args := []string{"--listen", "127.0.0.1:0", "--checkpoint", dir, "--checkpoint-every", "1h", "--name", "web-1"}
	type status struct {
		Checkpoint *struct {
			Restored bool
			Refused  string
		}
		EventsReplayed int `json:"events_replayed"`
		Loads          []struct{ Reason string }
	}
	ask := func(s *serving) (st status) {
		t.Helper()
		code, body, _ := s.curl(t, http.MethodGet, "/v1/status", "")
		if err := json.Unmarshal([]byte(body), &st); err != nil || code != 200 {
			t.Fatalf("%d %q %v", code, body, err)
		}
		return st
	}
	first := startServe(t, db, nil, args...)
	if st := ask(first); len(st.Loads) != 1 || st.Checkpoint != nil {
		t.Errorf("the first start: %+v", st)
	}
	if code := first.stop(t); code != 0 {
		t.Fatalf("exit status %d\n%s", code, first.log)
	}
	db.Exec(t, "update a set name = 'new' where id = 7")
	second := startServe(t, db, nil, args...)
	if st := ask(second); st.Checkpoint == nil || !st.Checkpoint.Restored || st.EventsReplayed != 1 || len(st.Loads) != 0 {
		t.Errorf("the second start: %+v\n%s", st, second.log)
	}
	for id, want := range map[string]string{"7": `"new"`, "8": `"old"`} {
		if code, body, _ := second.curl(t, http.MethodGet, "/v1/tables/public.a/rows/"+id, ""); code != 200 || !strings.Contains(body, want) {
			t.Errorf("row %s: %d %q", id, code, body)
		}
	}
	if code := second.stop(t); code != 0 {
		t.Errorf("exit status %d\n%s", code, second.log)
	}
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	for want, args := range map[string][]string{
		"needs a --name": {"--checkpoint", dir}, "needs --checkpoint": {"--checkpoint-every", "1m"}, "above 0": {"--checkpoint", dir, "--name", "web-1", "--checkpoint-every", "0s"},
	} {
		if _, errs, code := runCommand(t, env, append([]string{"serve", "--table", "public.a"}, args...)...); code != 1 || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: %d, %q", args, code, errs)
		}
	}
}
