package serve

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pglockstep/lockstep"
)

// Options are how a node is served. The zero value is good.
type Options struct {
	// MaxStale, above 0, makes /readyz fail for a node that is staler than
	// that. Default: staleness does not count, so that an outage of Postgres
	// does not empty a load balancer.
	MaxStale time.Duration
	// Scrub takes secrets out of texts that come from errors. Default: none are.
	Scrub func(string) string
}

// Handler serves a node. Until it is given one it answers that it loads.
type Handler struct {
	Options
	tables *Tables
	mux    *http.ServeMux
	node   atomic.Pointer[lockstep.Node]
}

// New makes the pages of a node on these tables.
func New(tables *Tables, o Options) *Handler {
	h := &Handler{Options: o, tables: tables, mux: http.NewServeMux()}
	if h.Scrub == nil {
		h.Scrub = func(s string) string { return s }
	}
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	h.mux.HandleFunc("GET /readyz", h.loaded(h.ready))
	h.mux.HandleFunc("GET /v1/status", h.loaded(h.status))
	h.mux.HandleFunc("GET /v1/tables/", h.loaded(h.table))
	return h
}

// Ready gives the handler its node, whose tables are loaded.
func (h *Handler) Ready(node *lockstep.Node) { h.node.Store(node) }

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// loaded answers for the node while there is none.
func (h *Handler) loaded(page func(http.ResponseWriter, *http.Request, *lockstep.Node)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if node := h.node.Load(); node != nil {
			page(w, r, node)
			return
		}
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "loading")
	}
}

// fail answers with one line.
func fail(w http.ResponseWriter, status int, format string, args ...any) {
	http.Error(w, strings.NewReplacer("\n", " ", "\r", " ").Replace(fmt.Sprintf(format, args...)), status)
}

// table answers for /v1/tables/{table}/rows and /v1/tables/{table}/rows/{key}.
// The path is taken apart before it is decoded: names and keys may hold slashes.
func (h *Handler) table(w http.ResponseWriter, r *http.Request, node *lockstep.Node) {
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/v1/tables/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[1] != "rows" {
		fail(w, http.StatusNotFound, "there is no such page: want /v1/tables/{table}/rows or /v1/tables/{table}/rows/{key}, percent-encoded")
		return
	}
	name, err := url.PathUnescape(parts[0])
	if err != nil {
		fail(w, http.StatusBadRequest, "the table's name is not percent-encoded: %v", err)
		return
	}
	t := h.tables.find(name)
	if t == nil {
		fail(w, http.StatusNotFound, "table %s is not served here: /v1/status lists those that are", name)
		return
	}
	if len(parts) == 2 {
		rows(w, node, t)
		return
	}
	text, err := url.PathUnescape(parts[2])
	if err != nil {
		fail(w, http.StatusBadRequest, "the key is not percent-encoded: %v", err)
		return
	}
	key, err := lockstep.DocumentKey(text)
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	doc, ok := t.Get(key)
	if !ok {
		fail(w, http.StatusNotFound, "table %s has no row %s", t.Name(), key)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	var buf bytes.Buffer
	_, _ = w.Write(line(&buf, doc)) // the client has gone, if it fails
}

// line is a document on one line, with the end of the line.
func line(buf *bytes.Buffer, doc json.RawMessage) []byte {
	buf.Reset()
	if err := json.Compact(buf, doc); err != nil {
		return append(bytes.Clone(doc), '\n') // it was valid when it came
	}
	buf.WriteByte('\n')
	return buf.Bytes()
}

// rows streams one view, a row a line.
func rows(w http.ResponseWriter, node *lockstep.Node, t *lockstep.Table[string, json.RawMessage]) {
	v := node.OpenView()
	defer v.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Lockstep-Position", lockstep.CutOf(v).Position.String())
	w.Header().Set("Lockstep-Rows", fmt.Sprint(t.At(v).Len()))
	out := bufio.NewWriterSize(w, 32<<10)
	deadline := http.NewResponseController(w)
	var buf bytes.Buffer
	n := 0
	for _, doc := range t.At(v).All() {
		if n++; n%1000 == 1 {
			// A client that reads nothing for a minute must not hold the view open.
			_ = deadline.SetWriteDeadline(time.Now().Add(time.Minute)) // not every writer can
		}
		if _, err := out.Write(line(&buf, doc)); err != nil {
			return
		}
	}
	_ = out.Flush() // the client has gone, if it fails
}

// ready says that the tables are loaded and, if asked to, whether they are fresh.
func (h *Handler) ready(w http.ResponseWriter, _ *http.Request, node *lockstep.Node) {
	s := node.Status()
	if h.MaxStale > 0 && s.Staleness > h.MaxStale {
		fail(w, http.StatusServiceUnavailable, "stale for %s: %s", s.Staleness.Round(time.Millisecond), h.Scrub(s.Reason))
		return
	}
	fmt.Fprintln(w, "ready:", s.State)
}

// status is the node's own account.
func (h *Handler) status(w http.ResponseWriter, _ *http.Request, node *lockstep.Node) {
	b, err := json.MarshalIndent(node.Status(), "", "  ")
	if err != nil {
		fail(w, http.StatusInternalServerError, "%s", h.Scrub(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(h.Scrub(string(b)) + "\n")) // the client has gone, if it fails
}
