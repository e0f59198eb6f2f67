package serve

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pglockstep/lockstep"
)

// What ends a stream, as the metric names it.
var (
	errClosing = errors.New("closing")
	errBehind  = errors.New("behind")
)

// maxResets is how often in a row a stream may get the current rows without
// reaching what follows them.
const maxResets = 3

// changes streams the changes of some or all tables as server-sent events.
func (h *Handler) changes(w http.ResponseWriter, r *http.Request, node *lockstep.Node) {
	s := &stream{h: h, node: node, ctx: r.Context(), all: true}
	for _, name := range r.URL.Query()["table"] {
		t := h.tables.find(name)
		if t == nil {
			h.fail(w, notFound, "table %s is not served here: /v1/status lists those that are", name)
			return
		}
		if s.all {
			s.all, s.want = false, make([]bool, len(h.tables.list))
		}
		s.want[h.teller.tables[t.Name()]] = true
	}
	if h.teller.ctx.Err() != nil {
		h.fail(w, unavailable, "the node is closing")
		return
	}
	if n := h.streams.Add(1); n > int64(h.MaxStreams) {
		h.streams.Add(-1)
		h.meters.ended.WithLabelValues("refused").Inc()
		h.fail(w, unavailable, "there are %d streams, and there may be no more", h.MaxStreams)
		return
	}
	defer h.streams.Add(-1)
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // a proxy that collects would hold up everything
	if r.Method == http.MethodHead {
		return
	}
	h.teller.follow(r.Context(), node)
	s.answer(w, r.Header.Get("Last-Event-ID"))
}

// stream is one client's.
type stream struct {
	h    *Handler
	node *lockstep.Node
	ctx  context.Context
	all  bool
	want []bool // by place, unless all
	name string // the part of ids that says whose they are

	out    *bufio.Writer
	last   *deadlined
	at     uint64 // everything up to this revision has been given
	resets int    // in a row
	beat   *time.Ticker
}

// answer streams until the client, the node or the patience ends.
func (s *stream) answer(w http.ResponseWriter, lastID string) {
	s.last = &deadlined{w: w, to: http.NewResponseController(w), limit: s.h.StreamWait}
	// The deadline of the request's body would end the connection under the stream.
	_ = s.last.to.SetReadDeadline(time.Time{}) // not every writer can
	s.out = bufio.NewWriterSize(s.last, 32<<10)
	s.beat = time.NewTicker(s.h.Heartbeat)
	defer s.beat.Stop()
	s.identify()
	err := s.run(lastID)
	why := "left"
	switch {
	case errors.Is(err, errClosing):
		why = "closing"
		s.goodbye(err)
	case errors.Is(err, errBehind):
		why = "behind"
		s.goodbye(err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		why = "slow"
	}
	s.h.meters.ended.WithLabelValues(why).Inc()
}

// goodbye says why the stream ends, for people.
func (s *stream) goodbye(why error) {
	fmt.Fprintf(s.out, ": %v\n\n", why)
	_ = s.flush() // the stream ends anyway
}

// identify makes the part of the ids that is the same for all of this node's
// life and this choice of tables: with another choice a client lacks rows.
func (s *stream) identify() {
	sum := sha256.Sum256(fmt.Append(nil, s.h.life, s.all, s.want))
	s.name = hex.EncodeToString(sum[:8])
}

func (s *stream) id(rev uint64) string { return s.name + "-" + strconv.FormatUint(rev, 10) }

// resumed takes the place that a client says it has.
func (s *stream) resumed(id string) bool {
	name, number, _ := strings.Cut(id, "-")
	rev, err := strconv.ParseUint(number, 10, 64)
	s.at = rev
	return err == nil && name == s.name
}

func (s *stream) run(lastID string) error {
	fmt.Fprint(s.out, "retry: 2000\n\n")
	if !s.resumed(lastID) {
		if err := s.reset(); err != nil {
			return err
		}
	}
	for {
		cut, found, news := s.h.teller.window.after(s.at)
		var err error
		switch found {
		case someCut:
			err = s.give(&cut)
		case gone:
			err = s.reset()
		case over:
			err = errClosing
		default:
			err = s.wait(news)
		}
		if err != nil {
			return err
		}
	}
}

// give writes what a cut changed in the tables that are wanted. Only its last
// event has an id: who loses the stream in its middle gets it whole again.
func (s *stream) give(cut *toldCut) error {
	s.at, s.resets = cut.rev, 0
	last := -1
	for i := range cut.list {
		if s.wants(cut.list[i].table) {
			last = i
		}
	}
	for i := range cut.list[:last+1] {
		if !s.wants(cut.list[i].table) {
			continue
		}
		id := ""
		if i == last {
			id = s.id(cut.rev)
		}
		if err := s.event(cut.list[i].lines, id); err != nil {
			return err
		}
	}
	return s.stopped()
}

func (s *stream) wants(table int) bool { return s.all || s.want[table] }

// event writes one, with its id if it has one.
func (s *stream) event(lines []byte, id string) error {
	_, err := s.out.Write(lines)
	if err == nil && id != "" {
		_, err = s.out.WriteString("id: " + id + "\n")
	}
	if err == nil {
		err = s.out.WriteByte('\n')
	}
	return err
}

// reset tells the client to forget everything, and gives the current rows.
func (s *stream) reset() error {
	if s.resets++; s.resets > maxResets {
		return errBehind
	}
	v := s.node.OpenView()
	defer v.Close()
	if err := s.event([]byte("event: reset\ndata: {}\n"), ""); err != nil {
		return err
	}
	n := 0
	for i, t := range s.h.tables.list {
		if !s.wants(i) {
			continue
		}
		for key, doc := range t.At(v).All() {
			if n++; n%1000 == 0 && s.stopped() != nil {
				return s.stopped()
			}
			if err := s.event(lines("row", t.Name(), key, doc, 0), ""); err != nil {
				return err
			}
		}
	}
	s.at = v.Revision()
	position := lockstep.CutOf(v).Position.String()
	return s.event([]byte(`event: live
data: {"position":"`+position+`"}
`), s.id(s.at))
}

// wait sends what there is and returns when there is more, or nothing to be had any more.
func (s *stream) wait(news <-chan struct{}) error {
	if s.out.Buffered() > 0 { // what was written ends in it: the silence begins now
		s.beat.Reset(s.h.Heartbeat)
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.resets = 0
	select {
	case <-news:
	case <-s.ctx.Done():
	case <-s.beat.C:
		// The id moves on with the tables that are not wanted: there is nothing to tell of them.
		fmt.Fprintf(s.out, ": beat\nid: %s\n\n", s.id(s.at))
	}
	return s.stopped()
}

// stopped is why the stream ends now, or nil.
func (s *stream) stopped() error {
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	if s.h.teller.ctx.Err() != nil {
		return errClosing
	}
	return nil
}

func (s *stream) flush() error {
	if err := s.out.Flush(); err != nil {
		return err
	}
	return s.last.flush()
}

// deadlined gives each piece of what is written its time: a client that does
// not read is cut off, and nothing is kept for it meanwhile but one buffer.
type deadlined struct {
	w     http.ResponseWriter
	to    *http.ResponseController
	limit time.Duration
}

func (d *deadlined) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		piece := b[:min(len(b), 64<<10)]
		_ = d.to.SetWriteDeadline(time.Now().Add(d.limit)) // not every writer can
		var m int
		m, err = d.w.Write(piece)
		n, b = n+m, b[m:]
	}
	return n, err
}

func (d *deadlined) flush() error {
	_ = d.to.SetWriteDeadline(time.Now().Add(d.limit)) // not every writer can
	return d.to.Flush()
}
