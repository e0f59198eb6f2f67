package window

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pglockstep/lockstep/internal/line"
	"github.com/pglockstep/lockstep/outbox"
)

// Action is a button. A page can press it whose request the guard in front of
// the window has let through.
type Action struct {
	Name  string // in the address
	Label string
	Hint  string
	Node  bool // there is one for each node
	// Do does it and says what was done; node is "" unless the action is a node's.
	Do func(ctx context.Context, node string) (string, error)
}

// Config is what a window shows. The zero value of a field means its default.
type Config struct {
	// Title is over the page.
	Title string
	// Outbox looks at the outbox and the register of nodes. It is called only
	// while a page is open, every OutboxEvery. Default: neither is shown.
	Outbox func(context.Context) (*outbox.Overview, error)
	// Actions are the buttons. Default: none.
	Actions []Action
	// Question is what Sample.Answer answers. Default: none is asked.
	Question string
	// Scrub takes secrets out of texts. Default: none are.
	Scrub func(string) string

	// Told says that whoever has made the window tells of the nodes with Say.
	// Default: the window tells of their states itself.
	Told bool

	// Every is the time from one sample to the next. Default 1 s.
	Every time.Duration
	// OutboxEvery is the same for Outbox. Default 3 s.
	OutboxEvery time.Duration
	// MaxPages is how many pages may be open. Default 16.
	MaxPages int
	// Patience is how long a page may take to read one push. Default 10 s.
	Patience time.Duration
}

// Window is the page, and what it shows. Nodes are sampled all the time, so that
// who opens the page after something has happened sees it; everything else is
// done only while a page is open.
type Window struct {
	cfg    Config
	mux    *http.ServeMux
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	looking sync.WaitGroup // at the outbox

	mu    sync.Mutex
	nodes []*watched // those that are asked, in the order in which they were added
	seen  seen
	log   []logLine
	pages int
	dark  [2]int        // open pages by theme
	frame [2][]byte     // the newest, by theme; nil where no page is open
	next  chan struct{} // closed with the next frame
}

// watched is a node with its past.
type watched struct {
	node   Node
	name   string
	past   history
	sample Sample
	failed error // why it could not be asked; nil: sample is new
}

// seen is what the outbox and the register said last.
type seen struct {
	overview *outbox.Overview // nil: nothing yet
	at       time.Time
	failed   error
	busy     bool                // it is being asked
	past     map[string]*history // of registered nodes that are not asked: staleness is the age of their beat
}

// logLine is something that happened.
type logLine struct {
	At   time.Time `json:"at"`
	Tone string    `json:"tone"`
	Text string    `json:"text"`
}

// maxLog is how many lines are kept of what happened.
const maxLog = 60

// The tones of what is said: "" is plain.
const (
	Good  = "good"
	Watch = "watch"
	Bad   = "bad"
)

// New makes a window. End ends it.
func New(cfg Config) *Window {
	w := &Window{cfg: cfg, done: make(chan struct{}), next: make(chan struct{})}
	c := &w.cfg
	c.Every, c.OutboxEvery = cmp.Or(c.Every, time.Second), cmp.Or(c.OutboxEvery, 3*time.Second)
	c.MaxPages, c.Patience = cmp.Or(c.MaxPages, 16), cmp.Or(c.Patience, 10*time.Second)
	if c.Scrub == nil {
		c.Scrub = func(s string) string { return s }
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.mux = w.routes()
	go w.run()
	return w
}

// Add adds a node that is asked from now on.
func (w *Window) Add(n Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, &watched{node: n, name: n.Name()})
}

// Say tells whoever looks that something has happened.
func (w *Window) Say(tone, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(tone, fmt.Sprintf(format, args...))
}

// tell is Say for who holds mu.
func (w *Window) tell(tone, text string) {
	w.log = append(w.log, logLine{time.Now(), tone, shorten(w.cfg.Scrub(line.One(text)), 240)})
	w.log = w.log[max(0, len(w.log)-maxLog):]
}

// End closes all pages, and returns when nothing runs any more but requests.
func (w *Window) End() {
	w.cancel()
	<-w.done
}

func (w *Window) run() {
	defer close(w.done)
	defer w.looking.Wait()
	tick := time.NewTicker(w.cfg.Every)
	defer tick.Stop()
	for {
		w.sample()
		w.show()
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return
		}
	}
}

// sample asks every node. One that does not answer in time has no point.
func (w *Window) sample() {
	w.mu.Lock()
	nodes := slices.Clone(w.nodes)
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(w.ctx, w.cfg.Every)
	defer cancel()
	var asking sync.WaitGroup
	for _, n := range nodes {
		asking.Go(func() {
			s, err := n.node.Sample(ctx)
			w.mu.Lock()
			defer w.mu.Unlock()
			n.take(w, s, err, time.Now())
		})
	}
	asking.Wait()
	w.lookAtOutbox()
}

// take remembers a sample. Caller holds w.mu.
func (n *watched) take(w *Window, s Sample, err error, now time.Time) {
	if n.failed = err; err != nil {
		n.past.push(point{at: now})
		return
	}
	if s.StateName != n.sample.StateName && !w.cfg.Told {
		text := n.name + " is " + s.StateName
		if s.Reason != "" {
			text += ": " + s.Reason
		}
		w.tell(toneOf(s.StateName), text)
	}
	n.sample = s
	n.past.add(now, &s)
}

// lookAtOutbox asks Postgres, if somebody wants to know and it is time.
func (w *Window) lookAtOutbox() {
	w.mu.Lock()
	due := w.cfg.Outbox != nil && w.pages > 0 && !w.seen.busy && time.Since(w.seen.at) >= w.cfg.OutboxEvery
	w.seen.busy = w.seen.busy || due
	w.mu.Unlock()
	if due {
		w.looking.Go(w.ask) // a server that is slow must not hold up the samples
	}
}

// ask asks Postgres once.
func (w *Window) ask() {
	ctx, cancel := context.WithTimeout(w.ctx, 15*time.Second)
	defer cancel()
	o, err := w.cfg.Outbox(ctx)
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.seen.at) > 5*w.cfg.OutboxEvery { // nobody has looked for a while
		w.seen.past = nil
	}
	w.seen.at, w.seen.failed, w.seen.busy = now, err, false
	if err == nil {
		w.seen.overview = o
		w.remember(now)
	}
}

// remember adds a point for every registered node that is shown and not asked.
func (w *Window) remember(now time.Time) {
	past := make(map[string]*history)
	for _, n := range w.others() {
		h := w.seen.past[n.Name]
		if h == nil {
			h = &history{}
		}
		// As many points as if it were asked, or the charts' times would differ.
		for range max(1, int(w.cfg.OutboxEvery/w.cfg.Every)) {
			h.push(point{at: now, known: true, stale: n.Age})
		}
		past[n.Name] = h
	}
	w.seen.past = past
}

// maxOthers is how many registered nodes are shown that are not asked.
const maxOthers = 24

// others are the registered nodes that are not asked and were seen within the
// last hour, the ones seen last first where there are too many. Caller holds mu.
func (w *Window) others() []outbox.NodeSeen {
	if w.seen.overview == nil {
		return nil
	}
	var out []outbox.NodeSeen
	for _, n := range w.seen.overview.Nodes {
		asked := slices.ContainsFunc(w.nodes, func(x *watched) bool { return x.name == n.Name })
		if !asked && n.Age < 3600 && n.State != "closed" {
			out = append(out, n)
		}
	}
	if len(out) > maxOthers {
		slices.SortFunc(out, func(a, b outbox.NodeSeen) int { return cmp.Compare(a.Age, b.Age) })
		out = out[:maxOthers]
		slices.SortFunc(out, func(a, b outbox.NodeSeen) int { return cmp.Compare(a.Name, b.Name) })
	}
	return out
}
