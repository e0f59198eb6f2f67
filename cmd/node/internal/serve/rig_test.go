package serve_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// site is a node on real tables, over HTTP on a real socket.
type site struct {
	t      *testing.T
	db     *pgtest.DB
	node   *lockstep.Node
	tables *serve.Tables
	pages  *serve.Handler
	server *httptest.Server
}

// served makes the tables with sql, captures them and serves them.
func served(t *testing.T, o serve.Options, sql string, tables ...string) *site {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, sql)
	return servedOn(t, db, db.Pool(t), o, tables...)
}

// servedOn serves tables that are there, through a pool.
func servedOn(t *testing.T, db *pgtest.DB, pool *pgxpool.Pool, o serve.Options, tables ...string) *site {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	if err := triggers.Install(t.Context(), db.Conn(t), triggers.Options{Logger: quiet}, tables...); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, db: db, tables: serve.Declare(tables)}
	s.pages = serve.New(s.tables, o)
	var err error
	if s.node, err = lockstep.Start(t.Context(), pool, lockstep.Config{Name: "n1", Register: -1, MaxStale: time.Minute, Logger: quiet}, s.tables.Any()...); err != nil {
		t.Fatal(err)
	}
	s.pages.Ready(s.node)
	s.server = httptest.NewServer(s.pages)
	t.Cleanup(func() {
		s.server.Close()
		if err := s.node.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// answer is what a request came back with.
type answer struct {
	status int
	body   string
	header http.Header
}

// send sends a request; header lines are "Name: value", and Host is one.
func (s *site) send(method, path, body string, header ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Add(name, value); name == "Host" {
			req.Host = value
		}
	}
	res, err := s.server.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{res.StatusCode, string(b), res.Header}
}

func (s *site) get(path string) (int, string, http.Header) {
	s.t.Helper()
	a := s.send(http.MethodGet, path, "")
	return a.status, a.body, a.header
}

// rowPath is the address of a row.
func rowPath(table, key string) string {
	return "/v1/tables/" + url.PathEscape(table) + "/rows/" + url.PathEscape(key)
}

// wantProblem checks that an answer is a problem of this status and type, in
// one line, and returns its detail.
func (a answer) wantProblem(t *testing.T, status int, word string) string {
	t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	err := json.Unmarshal([]byte(a.body), &p)
	if a.status != status || a.header.Get("Content-Type") != "application/problem+json" || err != nil ||
		p.Status != status || !strings.HasSuffix(p.Type, "/docs/http.md#"+word) || p.Title == "" ||
		p.Detail == "" || strings.ContainsAny(p.Detail, "\n\r") {
		t.Errorf("%d %v %q, want a problem %d %s", a.status, a.header, a.body, status, word)
	}
	return p.Detail
}
