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

// documents is a table that is served.
type documents = lockstep.Table[string, json.RawMessage]

// table answers for /v1/tables/{table}/rows and /v1/tables/{table}/rows/{key}.
func (h *Handler) table(w http.ResponseWriter, r *http.Request, node *lockstep.Node) {
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/v1/tables/"), "/")
	again := len(parts) == 2 && parts[1] == "reload"
	if !again && (len(parts) < 2 || len(parts) > 3 || parts[1] != "rows") {
		h.fail(w, notFound, "there is no such page: want /v1/tables/{table}/rows or /v1/tables/{table}/rows/{key}, percent-encoded")
		return
	}
	name, err := url.PathUnescape(parts[0])
	if err != nil {
		h.fail(w, badRequest, "the table's name is not percent-encoded: %v", err)
		return
	}
	t := h.tables.find(name)
	if t == nil {
		h.fail(w, notFound, "table %s is not served here: /v1/status lists those that are", name)
		return
	}
	if again {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST")
			h.fail(w, notAllowed, "%s is not allowed here, only POST is", r.Method)
			return
		}
		h.reload(w, r, node, t)
		return
	}
	if len(parts) == 2 {
		h.only(w, r, func(w http.ResponseWriter, r *http.Request) {
			h.awaited(t.Name(), func(w http.ResponseWriter, r *http.Request, node *lockstep.Node) { h.rows(w, r, node, t) })(w, r, node)
		})
		return
	}
	text, err := url.PathUnescape(parts[2])
	if err != nil {
		h.fail(w, badRequest, "the key is not percent-encoded: %v", err)
		return
	}
	key, err := lockstep.DocumentKey(text)
	if err != nil {
		h.fail(w, badRequest, "%v", err)
		return
	}
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		h.awaited(t.Name(), func(w http.ResponseWriter, _ *http.Request, _ *lockstep.Node) { h.row(w, t, key) })(w, r, node)
	case r.Method == http.MethodPut && h.Writes:
		h.put(w, r, t, key)
	case r.Method == http.MethodDelete && h.Writes:
		h.remove(w, r, t, key)
	case h.Writes:
		w.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		h.fail(w, notAllowed, "%s is not allowed here, only GET, HEAD, PUT and DELETE are", r.Method)
	default:
		w.Header().Set("Allow", "GET, HEAD")
		h.fail(w, notAllowed, "%s is not allowed here: this node is served without --writes", r.Method)
	}
}

// row answers with the row of a key.
func (h *Handler) row(w http.ResponseWriter, t *documents, key string) {
	doc, ok := t.Get(key)
	if !ok {
		h.fail(w, notFound, "table %s has no row %s", t.Name(), key)
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
func (h *Handler) rows(w http.ResponseWriter, r *http.Request, node *lockstep.Node, t *documents) {
	v := node.OpenView()
	defer v.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Lockstep-Position", lockstep.CutOf(v).Position.String())
	w.Header().Set("Lockstep-Rows", fmt.Sprint(t.At(v).Len()))
	if r.Method == http.MethodHead {
		return
	}
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
