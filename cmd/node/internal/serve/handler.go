package serve

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/metrics"
)

// Options are how a node is served. The zero value of a field means its default.
type Options struct {
	// MaxStale, above 0, makes /readyz fail for a node that is staler than
	// that. Default: staleness does not count, so that an outage of Postgres
	// does not empty a load balancer.
	MaxStale time.Duration
	// Scrub takes secrets out of texts that come from errors. Default: none are.
	Scrub func(string) string

	// Token is asked of whoever wants more than /healthz and /readyz, as a
	// bearer token. Default: nobody is asked.
	Token string
	// Hosts are names and addresses, besides localhost and the loopback
	// addresses, under which clients may know the node. Default: none.
	Hosts []string
	// AnyIP adds all addresses to Hosts, for a node that listens on all. Default off.
	AnyIP bool

	// Writes lets clients write rows. Default off.
	Writes bool
	// MaxBody is the size of a row that a client sends, in bytes. Default 1 MiB.
	MaxBody int64
	// WriteWait bounds a write, from its statement until this node shows it. Default 10 s.
	WriteWait time.Duration
	// ReadWait bounds how long a read waits for its token. Default 5 s.
	ReadWait time.Duration

	// MaxStreams is how many streams of changes there may be. Default 100.
	MaxStreams int
	// Window is the memory, in bytes, of the recent changes from which a stream
	// can be resumed. Default 8 MiB.
	Window int
	// StreamWait is how long a client of a stream may take to read 64 KiB. Default 30 s.
	StreamWait time.Duration
	// Heartbeat is the longest silence of a stream, ended by a comment. Default 15 s.
	Heartbeat time.Duration

	// CutIdle is how long a cut that is compared may go without a request. Default 30 s.
	CutIdle time.Duration
	// Page answers for / and whatever is below /window/. Default: there is no page.
	Page http.Handler
	// Static reports which paths of Page are files that tell nothing: a browser
	// gets them without the token, which it can send from the page only. Default: none.
	Static func(path string) bool
}

// Handler serves a node. Until it is given one it answers that it loads.
type Handler struct {
	Options
	guard  guard
	meters *meters
	tables *Tables
	node   atomic.Pointer[lockstep.Node]

	life    string // tells this process' ids from those of others
	teller  *teller
	streams atomic.Int64
	cuts    cuts
}

// New makes the pages of a node on these tables.
func New(tables *Tables, o Options) *Handler {
	h := &Handler{Options: o, guard: newGuard(&o), tables: tables, life: rand.Text()}
	h.MaxBody = cmp.Or(h.MaxBody, 1<<20)
	h.WriteWait, h.ReadWait = cmp.Or(h.WriteWait, 10*time.Second), cmp.Or(h.ReadWait, 5*time.Second)
	h.MaxStreams, h.Window = cmp.Or(h.MaxStreams, 100), cmp.Or(h.Window, 8<<20)
	h.StreamWait, h.Heartbeat = cmp.Or(h.StreamWait, 30*time.Second), cmp.Or(h.Heartbeat, 15*time.Second)
	h.CutIdle = cmp.Or(h.CutIdle, 30*time.Second)
	h.teller = newTeller(tables, h.Window)
	h.meters = newMeters(h)
	if h.Scrub == nil {
		h.Scrub = func(s string) string { return s }
	}
	return h
}

// Ready gives the handler its node, whose tables are loaded. It has one only.
func (h *Handler) Ready(node *lockstep.Node) {
	if h.node.CompareAndSwap(nil, node) {
		h.meters.registry.MustRegister(metrics.New(node))
	}
}

// End ends the streams and the cut that is compared, and returns when nothing runs any more but requests.
func (h *Handler) End() {
	h.teller.end()
	h.cuts.endAll()
}

// page answers one request from a node.
type page func(http.ResponseWriter, *http.Request, *lockstep.Node)

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &counted{ResponseWriter: w}
	h.answer(c, r)
	h.meters.answered(r.Method, cmp.Or(c.code, http.StatusOK))
}

// answer finds the page. The path is taken apart before it is decoded: names
// and keys may hold slashes.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !h.admit(w, r) {
		return
	}
	path := r.URL.EscapedPath()
	switch {
	case path == "/healthz":
		h.only(w, r, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	case path == "/readyz":
		h.only(w, r, h.loaded(h.ready))
	case path == "/v1/changes":
		h.only(w, r, h.loaded(h.awaited("", h.changes)))
	case path == "/metrics":
		h.only(w, r, h.meters.page.ServeHTTP)
	case path == "/v1/status":
		h.only(w, r, h.loaded(h.awaited("", h.status)))
	case path == "/v1/cuts" || strings.HasPrefix(path, "/v1/cuts/"):
		h.loaded(h.cutPage)(w, r)
	case strings.HasPrefix(path, "/v1/tables/"):
		h.loaded(h.table)(w, r)
	case h.Page != nil && (path == "/" || strings.HasPrefix(path, "/window/")):
		h.Page.ServeHTTP(w, r)
	default:
		h.fail(w, notFound, "there is no page %s", path)
	}
}

// only answers those who read.
func (h *Handler) only(w http.ResponseWriter, r *http.Request, read http.HandlerFunc) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		read(w, r)
		return
	}
	w.Header().Set("Allow", "GET, HEAD")
	h.fail(w, notAllowed, "%s is not allowed here, only GET and HEAD are", r.Method)
}

// loaded answers for the node while there is none.
func (h *Handler) loaded(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if node := h.node.Load(); node != nil {
			p(w, r, node)
			return
		}
		h.fail(w, unavailable, "loading")
	}
}

// ready says that the tables are loaded and, if asked to, whether they are
// fresh. Why they are not is for those who may know it.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request, node *lockstep.Node) {
	s := node.Status()
	if h.MaxStale == 0 || s.Staleness <= h.MaxStale {
		fmt.Fprintln(w, "ready:", s.State)
		return
	}
	why := "stale"
	if h.guard.trusts(r) {
		why = fmt.Sprintf("stale for %s: %s", s.Staleness.Round(time.Millisecond), cmp.Or(s.Reason, s.State.String()))
	}
	h.fail(w, unavailable, "%s", why)
}

// status is the node's own account.
func (h *Handler) status(w http.ResponseWriter, _ *http.Request, node *lockstep.Node) {
	b, err := json.MarshalIndent(node.Status(), "", "  ")
	if err != nil {
		h.fail(w, failed, "%v", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(h.Scrub(string(b)) + "\n")) // the client has gone, if it fails
}
