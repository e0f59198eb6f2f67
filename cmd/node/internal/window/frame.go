package window

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pglockstep/lockstep/internal/human"
	"github.com/pglockstep/lockstep/outbox"
)

// The JSON of a frame: texts as they are shown, so that the page need not know what they mean.
type (
	frameJSON struct {
		Title    string       `json:"title"`
		At       time.Time    `json:"at"`
		Question string       `json:"question,omitempty"`
		Facts    []fact       `json:"facts"` // of the cluster
		Nodes    []nodeJSON   `json:"nodes"`
		More     string       `json:"more,omitempty"` // of nodes that are not shown
		Tables   []fact       `json:"tables"`
		Actions  []actionJSON `json:"actions"`
		Log      []logLine    `json:"log"` // newest last
	}
	fact struct {
		Name string `json:"name"`
		Text string `json:"text"`
		Tone string `json:"tone,omitempty"`
	}
	nodeJSON struct {
		Name    string       `json:"name"`
		Asked   bool         `json:"asked"`
		State   string       `json:"state"`
		Tone    string       `json:"tone"`
		Stale   string       `json:"stale"`
		Of      string       `json:"of"` // what Stale is
		Reason  string       `json:"reason,omitempty"`
		Answer  string       `json:"answer,omitempty"`
		Facts   []fact       `json:"facts"`
		Charts  []chartJSON  `json:"charts"`
		Actions []actionJSON `json:"actions"`
	}
	chartJSON struct {
		Title string `json:"title"`
		Alt   string `json:"alt"`
		SVG   string `json:"svg"`
	}
	actionJSON struct {
		Name  string `json:"name"`
		Label string `json:"label"`
		Hint  string `json:"hint"`
		On    bool   `json:"on"`
	}
)

// show makes the next frames, for the themes that pages have now.
func (w *Window) show() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for dark, pages := range w.dark {
		if w.frame[dark] = nil; pages > 0 {
			w.frame[dark] = w.make(dark == 1)
		}
	}
	close(w.next)
	w.next = make(chan struct{})
}

// make makes a frame, as JSON: everything that all pages of one theme show at one moment. Caller holds mu.
func (w *Window) make(dark bool) []byte {
	f := frameJSON{Title: w.cfg.Title, At: time.Now(), Question: w.cfg.Question, Nodes: []nodeJSON{}, Tables: []fact{}, Actions: w.actions(nil), Log: w.log}
	live := 0
	worst := 0.0
	for _, n := range w.nodes {
		j := w.asked(n, dark)
		if j.Tone == Good {
			live++
		}
		worst = max(worst, n.sample.Staleness)
		f.Nodes = append(f.Nodes, j)
		if len(f.Tables) == 0 {
			f.Tables = tableFacts(n.sample.Tables)
		}
	}
	others := w.others()
	for i := range others {
		j := w.registered(&others[i], dark)
		if j.Tone == Good {
			live++
		}
		f.Nodes = append(f.Nodes, j)
	}
	f.Facts = w.facts(live, len(f.Nodes), worst)
	if o := w.seen.overview; o != nil {
		if hidden := len(o.Nodes) - len(f.Nodes); hidden > 0 {
			f.More = fmt.Sprintf("%d more have registered that were closed, were not seen for an hour or find no room here: lockstep status lists them.", hidden)
		}
	}
	b, err := json.Marshal(f)
	if err != nil {
		return []byte("{}") // it has no value that cannot be written
	}
	return b
}

// asked is a node that answers for itself. Caller holds mu.
func (w *Window) asked(n *watched, dark bool) nodeJSON {
	s := &n.sample
	j := nodeJSON{
		Name: n.name, Asked: true, State: s.StateName, Tone: toneOf(s.StateName), Reason: w.text(s.Reason), Answer: s.Answer,
		Stale: seconds(s.Staleness), Of: "staleness", Actions: w.actions(s),
	}
	switch {
	case n.failed != nil:
		j.State, j.Tone, j.Reason = "no answer", Bad, w.text(n.failed.Error())
	case s.StateName == "":
		j.State = "loading"
	}
	p := n.past.newest()
	j.Facts = []fact{
		{"events/s", count(p.rate), ""}, {"events", count(float64(s.Events)), ""},
		{"gaps closed", count(float64(s.Gaps)), ""}, {"gaps open", count(float64(s.OpenGaps)), ""},
		{"replays", count(float64(s.Replays)), ""}, {"replayed", count(float64(s.EventsReplayed)), ""},
		{"loads", count(float64(s.Loads)), ""}, {"bell", s.Bell, ""},
	}
	if s.Loads > 0 {
		j.Facts[6].Tone = Watch
	}
	if s.BellWhy != "" {
		j.Facts = append(j.Facts, fact{"why this bell", w.text(s.BellWhy), Watch})
	}
	for _, t := range s.Tables {
		if t.Problem != "" {
			j.Facts = append(j.Facts, fact{t.Name, w.text(t.Problem), Bad})
		}
	}
	j.Facts = append(j.Facts, fact{"position", shorten(s.Position, 40), ""})
	j.Charts = chartsOf(n.name, &n.past, true, dark)
	return j
}

// registered is a node of which the register tells.
func (w *Window) registered(n *outbox.NodeSeen, dark bool) nodeJSON {
	j := nodeJSON{Name: n.Name, State: n.State, Tone: toneOf(n.State), Stale: seconds(n.Age), Of: "since its last beat", Actions: []actionJSON{}}
	silent := 30.0
	if n.Bell == "stream" { // such a node beats every ten minutes
		silent = 15 * 60
	}
	if n.Age > silent {
		j.State, j.Tone, j.Reason = "silent", Bad, "it has ended, cannot reach Postgres, or beats seldom"
	}
	behind := count(float64(n.Behind))
	if n.Behind > 100_000 {
		behind = "over 100,000"
	}
	j.Facts = []fact{
		{"behind, at its beat", behind + " events", ""}, {"for", seconds(n.BehindSeconds), ""},
		{"host", shorten(n.Host, 40), ""}, {"version", fmt.Sprint(n.Version), ""}, {"position", shorten(n.Position, 40), ""},
	}
	if h := w.seen.past[n.Name]; h != nil {
		j.Charts = chartsOf(n.Name, h, false, dark)
	}
	return j
}

func chartsOf(name string, h *history, asked, dark bool) []chartJSON {
	points := h.points()
	span := spanOf(len(points))
	highest := 0.0
	for _, p := range points {
		highest = max(highest, p.stale)
	}
	gaps, replays, loads := marks(points)
	out := []chartJSON{}
	if !asked {
		if svg, err := staleChart(points, dark); err == nil {
			out = append(out, chartJSON{"age of its last beat", fmt.Sprintf("How old the last beat of %s was over %s: %s at most.", name, span, seconds(highest)), svg})
		}
		return out
	}
	if svg, err := staleChart(points, dark); err == nil {
		alt := fmt.Sprintf("Staleness of %s over %s: %s at most. Marks: %s, %s, %s.", name, span, seconds(highest), several(gaps, "second with gaps", "seconds with gaps"), several(replays, "replay", "replays"), several(loads, "load", "loads"))
		out = append(out, chartJSON{"staleness", alt, svg})
	}
	if svg, err := rateChart(points, dark); err == nil {
		most := 0.0
		for _, p := range points {
			most = max(most, p.rate)
		}
		out = append(out, chartJSON{"events a second", fmt.Sprintf("Events a second that %s applied over %s: %s at most.", name, span, count(most)), svg})
	}
	return out
}

// spanOf is how long so many samples took, where they are a second apart.
func spanOf(points int) string {
	if points < 120 {
		return "the last minute"
	}
	return fmt.Sprintf("the last %d minutes", points/60)
}

// facts are about the cluster and its outbox. Caller holds mu.
func (w *Window) facts(live, all int, worst float64) []fact {
	tone := Good
	if live < all {
		tone = Watch
	}
	out := []fact{{"nodes live", fmt.Sprintf("%d of %d", live, all), tone}, {"stalest", seconds(worst), ""}}
	o := w.seen.overview
	if w.seen.failed != nil {
		out = append(out, fact{"the outbox cannot be read", w.text(w.seen.failed.Error()), Bad})
	}
	if o == nil {
		return out
	}
	oldest := "none"
	if !o.Oldest.IsZero() {
		oldest = seconds(time.Since(o.Oldest).Seconds())
	}
	out = append(out,
		fact{"events/s", count(o.Rate), ""}, fact{"outbox", size(o.Bytes), ""},
		fact{"oldest event", oldest, ""}, fact{"horizon moved", seconds(time.Since(o.Trimmed).Seconds()) + " ago", ""}, fact{"bell", o.Bell, ""})
	if o.Rows > 0 { // else the server has not counted them yet
		out = append(out, fact{"rows in it, about", count(float64(o.Rows)), ""})
	}
	for _, who := range []string{o.OldestWriter, o.OldestPrepared} {
		if who != "" {
			out = append(out, fact{"holds up trimming", w.text(who), Watch})
		}
	}
	return out
}

// actions are the buttons of a node, or of the cluster for nil.
func (w *Window) actions(s *Sample) []actionJSON {
	out := []actionJSON{}
	for _, a := range w.cfg.Actions {
		if a.Node != (s != nil) {
			continue
		}
		on := !a.Node
		if s != nil {
			for _, name := range s.Offers {
				on = on || name == a.Name
			}
		}
		out = append(out, actionJSON{a.Name, a.Label, a.Hint, on})
	}
	return out
}

func tableFacts(tables []TableSample) []fact {
	out := []fact{}
	for _, t := range tables {
		f := fact{t.Name, fmt.Sprintf("%s rows, %s", count(float64(t.Rows)), size(t.Bytes)), ""}
		if t.Problem != "" {
			f.Tone = Bad
		}
		out = append(out, f)
	}
	return out
}

func toneOf(state string) string {
	switch state {
	case "live":
		return Good
	case "closed", "stale":
		return Bad
	case "":
		return ""
	}
	return Watch
}

// text is a text of somebody else's as the page shows it.
func (w *Window) text(s string) string {
	return shorten(w.cfg.Scrub(strings.Join(strings.Fields(s), " ")), 200)
}

func several(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// seconds is a time as people read it.
func seconds(s float64) string {
	switch {
	case s < 10:
		return fmt.Sprintf("%.2f s", s)
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	}
	return (time.Duration(s) * time.Second).String()
}

// count is a number as people read it.
func count(v float64) string {
	return human.Digits(fmt.Sprintf("%.0f", v))
}

func size(bytes int64) string {
	switch {
	case bytes < 1<<20:
		return fmt.Sprintf("%d kB", (bytes+1023)>>10)
	case bytes < 1<<30:
		return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/(1<<30))
}
