package serve

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pglockstep/lockstep"
)

// maxKeys bounds the keys that one request may ask for.
const maxKeys = 10_000

// cutLife is how long a cut may be held, however often it is asked: Postgres
// keeps every row version that it shows, and its tables cannot be altered.
const cutLife = time.Hour

// cuts holds the one instant of this node and of Postgres that a client may
// compare at a time. It ends when the client says so, or has not asked for a while.
type cuts struct {
	mu  sync.Mutex
	now *heldCut
}

// heldCut is a cut in use.
type heldCut struct {
	id     string
	tables []*documents
	until  time.Time
	idle   *time.Timer

	mu  sync.RWMutex // held for reading while the view is read
	cut *lockstep.SharedCut

	reading sync.Mutex
	readers int // requests that read it now
}

// read counts a request that begins to read the cut. It idles from when the last
// of them has ended: until then only its hour ends it.
func (h *heldCut) read() (done func(idle time.Duration)) {
	h.reading.Lock()
	defer h.reading.Unlock()
	h.readers++
	h.idle.Reset(max(0, time.Until(h.until)))
	return func(idle time.Duration) {
		h.reading.Lock()
		defer h.reading.Unlock()
		if h.readers--; h.readers == 0 {
			h.idle.Reset(max(0, min(idle, time.Until(h.until))))
		}
	}
}

// end closes the cut, once nobody reads it.
func (c *cuts) end(h *heldCut) {
	c.mu.Lock()
	if c.now == h {
		c.now = nil
	}
	c.mu.Unlock()
	h.idle.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut != nil {
		h.cut.Close()
		h.cut = nil
	}
}

func (c *cuts) endAll() {
	c.mu.Lock()
	h := c.now
	c.mu.Unlock()
	if h != nil {
		c.end(h)
	}
}

func (h *heldCut) table(t *documents) bool {
	for _, have := range h.tables {
		if have == t {
			return true
		}
	}
	return false
}

// cutPage answers for /v1/cuts and what is below.
func (h *Handler) cutPage(w http.ResponseWriter, r *http.Request, node *lockstep.Node) {
	rest := strings.TrimPrefix(r.URL.EscapedPath(), "/v1/cuts")
	parts := strings.Split(strings.TrimPrefix(rest, "/"), "/")
	var method string
	var page func(http.ResponseWriter, *http.Request, *heldCut)
	switch {
	case rest == "":
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST")
			h.fail(w, notAllowed, "%s is not allowed here, only POST is", r.Method)
			return
		}
		h.openCut(w, r, node)
		return
	case len(parts) == 1:
		method, page = http.MethodDelete, func(w http.ResponseWriter, _ *http.Request, c *heldCut) {
			h.cuts.end(c)
			w.WriteHeader(http.StatusNoContent)
		}
	case len(parts) == 4 && parts[1] == "tables" && parts[3] == "rows":
		method, page = http.MethodPost, h.ofCut(parts[2], h.cutRows)
	case len(parts) == 4 && parts[1] == "tables" && parts[3] == "keys":
		method, page = http.MethodGet, h.ofCut(parts[2], h.cutKeys)
	default:
		h.fail(w, notFound, "there is no page %s", r.URL.EscapedPath())
		return
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		h.fail(w, notAllowed, "%s is not allowed here, only %s is", r.Method, method)
		return
	}
	h.cuts.mu.Lock()
	c := h.cuts.now
	h.cuts.mu.Unlock()
	if c == nil || c.id != parts[0] {
		h.fail(w, notFound, "there is no such cut: it was ended, or not asked for %s", h.CutIdle)
		return
	}
	page(w, r, c)
}

// openCut makes the cut. What the body names is locked in Postgres until the cut ends.
func (h *Handler) openCut(w http.ResponseWriter, r *http.Request, node *lockstep.Node) {
	var want struct {
		Tables []string `json:"tables"`
	}
	if !h.body(w, r, &want) {
		return
	}
	tables := h.tables.list
	if len(want.Tables) > 0 {
		tables = nil
	}
	for _, name := range want.Tables {
		t := h.tables.find(name)
		if t == nil {
			h.fail(w, notFound, "table %s is not served here: /v1/status lists those that are", name)
			return
		}
		tables = append(tables, t)
	}
	c := &heldCut{id: rand.Text(), tables: tables, until: time.Now().Add(cutLife)}
	h.cuts.mu.Lock()
	taken := h.cuts.now != nil
	if !taken {
		c.idle = time.AfterFunc(cutLife, func() { h.cuts.end(c) })
		c.mu.Lock() // until it is made
		h.cuts.now = c
	}
	h.cuts.mu.Unlock()
	if taken {
		h.fail(w, unavailable, "another client compares this node just now")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.WriteWait)
	defer cancel()
	cut, err := node.ShareCut(ctx, anyOf(tables)...)
	if err != nil {
		c.mu.Unlock()
		h.cuts.end(c)
		h.fail(w, unavailable, "%v", err)
		return
	}
	c.cut = cut
	answer := cutAnswer{ID: c.id, Position: cut.Position, Snapshot: cut.Snapshot, Name: cut.Name}
	for _, t := range tables {
		answer.Tables = append(answer.Tables, cutTable{t.Name(), t.At(cut.View).Len()})
	}
	c.mu.Unlock()
	c.idle.Reset(h.CutIdle)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(answer) // the client has gone, if it fails
}

// cutAnswer is what the client is told of a cut.
type cutAnswer struct {
	ID       string            `json:"id"`
	Position lockstep.Position `json:"position"`
	Snapshot lockstep.Position `json:"snapshot"`
	Name     string            `json:"snapshot_name"`
	Tables   []cutTable        `json:"tables"`
}

type cutTable struct {
	Table string `json:"table"`
	Rows  int    `json:"rows"`
}

func anyOf(tables []*documents) []lockstep.AnyTable {
	out := make([]lockstep.AnyTable, len(tables))
	for i, t := range tables {
		out[i] = t
	}
	return out
}

// body reads a request's JSON; an empty one is {}.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, into any) bool {
	var big *http.MaxBytesError
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, h.MaxBody)).Decode(into)
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return true
	case errors.As(err, &big):
		h.fail(w, tooLarge, "the body is larger than %d bytes", h.MaxBody)
	default:
		h.fail(w, badRequest, "the body: %v", err)
	}
	return false
}

// ofCut finds the table and holds the cut while the page reads it.
func (h *Handler) ofCut(escaped string, page func(http.ResponseWriter, *http.Request, *heldCut, *documents)) func(http.ResponseWriter, *http.Request, *heldCut) {
	return func(w http.ResponseWriter, r *http.Request, c *heldCut) {
		name, err := url.PathUnescape(escaped)
		if err != nil {
			h.fail(w, badRequest, "the table's name is not percent-encoded: %v", err)
			return
		}
		t := h.tables.find(name)
		if t == nil || !c.table(t) {
			h.fail(w, notFound, "table %s is not in this cut", name)
			return
		}
		c.mu.RLock()
		defer c.mu.RUnlock()
		if c.cut == nil {
			h.fail(w, notFound, "there is no such cut: it was ended, or not asked for %s", h.CutIdle)
			return
		}
		defer c.read()(h.CutIdle)
		w.Header().Set("Lockstep-Position", c.cut.Position.String())
		page(w, r, c, t)
	}
}

// cutRows answers with the rows of a list of keys, in its order: a row a line, null where there is none.
func (h *Handler) cutRows(w http.ResponseWriter, r *http.Request, c *heldCut, t *documents) {
	var list []json.RawMessage
	if !h.body(w, r, &list) {
		return
	}
	if len(list) > maxKeys {
		h.fail(w, tooLarge, "%d keys in one request, %d may be", len(list), maxKeys)
		return
	}
	keys := make([]string, len(list))
	for i, k := range list {
		var err error
		if keys[i], err = lockstep.DocumentKey(string(k)); err != nil {
			h.fail(w, badRequest, "%v", err)
			return
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, 32<<10)
	var buf bytes.Buffer
	for _, k := range keys {
		text := []byte("null\n")
		if doc, ok := t.At(c.cut.View).Get(k); ok {
			text = line(&buf, doc)
		}
		if _, err := out.Write(text); err != nil {
			return
		}
	}
	_ = out.Flush() // the client has gone, if it fails
}

// cutKeys streams all keys of a table, one a line, in no order.
func (h *Handler) cutKeys(w http.ResponseWriter, _ *http.Request, c *heldCut, t *documents) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, 32<<10)
	deadline := http.NewResponseController(w)
	n := 0
	for k := range t.At(c.cut.View).All() {
		if n++; n%1000 == 1 {
			by := time.Now().Add(time.Minute)
			if c.until.Before(by) { // Postgres keeps the instant for no slow reader
				by = c.until
			}
			_ = deadline.SetWriteDeadline(by) // not every writer can
		}
		if _, err := fmt.Fprintln(out, k); err != nil {
			return
		}
	}
	_ = out.Flush() // the client has gone, if it fails
}

// reload makes the node load a table again, and answers once that is visible.
func (h *Handler) reload(w http.ResponseWriter, r *http.Request, node *lockstep.Node, t *documents) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // not every writer can
	if err := node.Reload(r.Context(), t); err != nil {
		h.fail(w, unavailable, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
