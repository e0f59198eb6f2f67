package window

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

//go:embed page
var page embed.FS

// policy lets the page use what this program serves and nothing else. Charts
// are images with a data address: their styles are their own.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Static reports whether a path is one of the page's own files, which tell
// nothing of the cluster: who has a token to send can send it from the page only.
func Static(path string) bool {
	return path == "/" || path == "/window/page.css" || path == "/window/page.js"
}

func (w *Window) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for path, file := range map[string]string{"/{$}": "page/index.html", "/window/page.css": "page/page.css", "/window/page.js": "page/page.js"} {
		mux.HandleFunc("GET "+path, func(rw http.ResponseWriter, r *http.Request) { http.ServeFileFS(rw, r, page, file) })
	}
	mux.HandleFunc("GET /window/events", w.events)
	mux.HandleFunc("POST /window/do/{action}", w.do)
	return mux
}

// ServeHTTP answers for / and whatever is below /window/. It does not ask who
// sends the request: a guard in front of it does.
func (w *Window) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h := rw.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	w.mux.ServeHTTP(rw, r)
}

// fail answers with a problem, as RFC 9457 has it.
func fail(rw http.ResponseWriter, status int, format string, args ...any) {
	rw.Header().Set("Content-Type", "application/problem+json")
	rw.WriteHeader(status)
	// The client has gone, if it fails.
	_ = json.NewEncoder(rw).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": fmt.Sprintf(format, args...)})
}

// do presses a button.
func (w *Window) do(rw http.ResponseWriter, r *http.Request) {
	name, node := r.PathValue("action"), r.URL.Query().Get("node")
	for _, a := range w.cfg.Actions {
		if a.Name != name || a.Node != (node != "") {
			continue
		}
		ctx, cancel := context.WithTimeout(r.Context(), 40*time.Second)
		defer cancel()
		said, err := a.Do(ctx, node)
		if err != nil {
			fail(rw, http.StatusConflict, "%s", w.text(err.Error()))
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(map[string]string{"said": said}) // the client has gone, if it fails
		return
	}
	fail(rw, http.StatusNotFound, "there is no button %q for node %q", name, node)
}

// errPages says that there is no room for another page.
var errPages = errors.New("too many pages are open")

// open counts a page in. The frame of its theme is made if it is the first.
func (w *Window) open(dark int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages >= w.cfg.MaxPages {
		return errPages
	}
	w.pages++
	w.dark[dark]++
	if w.frame[dark] == nil {
		w.frame[dark] = w.make(dark == 1)
	}
	return nil
}

func (w *Window) close(dark int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages--
	w.dark[dark]--
}

// newest is the newest frame, and a channel that is closed with the next one.
func (w *Window) newest(dark int) ([]byte, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frame[dark], w.next
}

// events pushes frames as server-sent events, and the rows of the table that
// the page shows. A page that reads slowly gets fewer frames: only the newest one is sent,
// and one page has no more memory here than that takes. One that does not read is cut off.
func (w *Window) events(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	dark := 0
	if q.Get("dark") == "1" {
		dark = 1
	}
	if w.ctx.Err() != nil {
		fail(rw, http.StatusServiceUnavailable, "the node is closing")
		return
	}
	if err := w.open(dark); err != nil {
		fail(rw, http.StatusServiceUnavailable, "%v: %d, and there may be no more", err, w.cfg.MaxPages)
		return
	}
	defer w.close(dark)
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("X-Accel-Buffering", "no") // a proxy that collects would hold up everything
	to := http.NewResponseController(rw)
	// The deadline of the request's body would end the connection under the stream.
	_ = to.SetReadDeadline(time.Time{}) // not every writer can
	query := Query{Table: q.Get("table"), Find: q.Get("find")}
	for {
		f, next := w.newest(dark)
		_ = to.SetWriteDeadline(time.Now().Add(w.cfg.Patience)) // not every writer can
		if f != nil {
			if err := event(rw, "frame", f); err != nil {
				return
			}
		}
		if query.Table != "" {
			if err := event(rw, "rows", w.look(r.Context(), q.Get("node"), &query)); err != nil {
				return
			}
		}
		if err := to.Flush(); err != nil {
			return
		}
		select {
		case <-next:
		case <-r.Context().Done():
			return
		case <-w.ctx.Done():
			return
		}
	}
}

func event(rw http.ResponseWriter, name string, data []byte) error {
	_, err := fmt.Fprintf(rw, "event: %s\ndata: %s\n\n", name, data)
	return err //nolint:wrapcheck // the client has gone
}

// looked is the JSON of an answer of a node about its rows.
type looked struct {
	Node  string `json:"node"`
	Table string `json:"table"`
	Look
	Failed string `json:"failed,omitempty"`
}

// look asks a node for rows; "" is the first one. Where it had to leave out
// rows the same ones are asked for again, and not searched for.
func (w *Window) look(ctx context.Context, name string, q *Query) []byte {
	w.mu.Lock()
	var node Node
	for _, n := range w.nodes {
		if n.name == name || name == "" {
			node, name = n.node, n.name
			break
		}
	}
	w.mu.Unlock()
	out := looked{Node: name, Table: q.Table, Look: Look{Columns: []string{}, Rows: []Row{}}}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if node == nil {
		out.Failed = "there is no such node"
	} else if l, err := node.Look(ctx, *q); err != nil {
		out.Failed = w.text(err.Error())
	} else {
		out.Look = l
		if q.Keys = nil; l.Partial {
			for _, row := range l.Rows {
				q.Keys = append(q.Keys, row.Key)
			}
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return []byte("{}") // it has no value that cannot be written
	}
	return b
}
