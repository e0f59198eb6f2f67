package serve

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pglockstep/lockstep"
)

// Tables are the tables that are served, by their names.
type Tables struct {
	list   []*lockstep.Table[string, json.RawMessage]
	byName map[string]*lockstep.Table[string, json.RawMessage]
}

// Declare declares a table of documents for each name.
func Declare(names []string) *Tables {
	t := &Tables{byName: make(map[string]*lockstep.Table[string, json.RawMessage])}
	for _, n := range names {
		if t.byName[n] != nil {
			continue
		}
		d := lockstep.Documents(n)
		t.list = append(t.list, d)
		t.byName[n] = d
	}
	return t
}

// Any is what Start takes.
func (t *Tables) Any() []lockstep.AnyTable {
	out := make([]lockstep.AnyTable, len(t.list))
	for i, d := range t.list {
		out[i] = d
	}
	return out
}

type handler struct {
	node     *lockstep.Node
	tables   *Tables
	maxStale time.Duration
}

// Handler serves a node. maxStale above 0 makes /readyz fail for a node that
// is staler than that.
func Handler(node *lockstep.Node, tables *Tables, maxStale time.Duration) http.Handler {
	h := &handler{node, tables, maxStale}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", h.status)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.HandleFunc("GET /v1/tables/", h.table)
	return mux
}

// fail answers with one line.
func fail(w http.ResponseWriter, status int, format string, args ...any) {
	http.Error(w, fmt.Sprintf(format, args...), status)
}

// table answers for /v1/tables/{table}/rows and /v1/tables/{table}/rows/{key}.
// The path is taken apart before it is decoded: names and keys may hold slashes.
func (h *handler) table(w http.ResponseWriter, r *http.Request) {
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
	t := h.tables.byName[name]
	if t == nil {
		fail(w, http.StatusNotFound, "table %s is not served here", name)
		return
	}
	if len(parts) == 2 {
		h.rows(w, t)
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
		fail(w, http.StatusNotFound, "table %s has no row %s", name, key)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(line(nil, doc), '\n')) // the client has gone, if it fails
}

// line is a document on one line.
func line(buf *bytes.Buffer, doc json.RawMessage) []byte {
	if buf == nil {
		buf = new(bytes.Buffer)
	}
	buf.Reset()
	if err := json.Compact(buf, doc); err != nil {
		return doc // it was valid when it came
	}
	return buf.Bytes()
}

// rows streams one view, a row a line.
func (h *handler) rows(w http.ResponseWriter, t *lockstep.Table[string, json.RawMessage]) {
	v := h.node.OpenView()
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
		if _, err := out.Write(append(line(&buf, doc), '\n')); err != nil {
			return
		}
	}
	_ = out.Flush() // the client has gone, if it fails
}

// ready says whether the tables are loaded, which they are once this runs,
// and, if asked to, whether they are fresh.
func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	s := h.node.Status()
	if h.maxStale > 0 && s.Staleness > h.maxStale {
		fail(w, http.StatusServiceUnavailable, "stale for %s: %s", s.Staleness.Round(time.Millisecond), s.Reason)
		return
	}
	fmt.Fprintln(w, "ready:", s.State)
}
