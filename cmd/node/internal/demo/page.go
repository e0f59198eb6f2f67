package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
	"github.com/pglockstep/lockstep/cmd/node/internal/window"
	"github.com/pglockstep/lockstep/outbox"
)

// listen opens the page's address, unless there is to be none.
func (o *Options) listen() (net.Listener, error) {
	if o.Page == "off" {
		return nil, nil
	}
	addr, err := net.ResolveTCPAddr("tcp", o.Page)
	if err != nil {
		return nil, fmt.Errorf("--page %s: %w (want host:port, or off)", o.Page, err)
	}
	if !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("--page %s is not loopback: the demo's page asks for no token, so it is for this machine only", o.Page)
	}
	l, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--page: cannot listen on %s: %w (choose another address, or off)", addr, err)
	}
	return l, nil
}

// site is the demo's page over HTTP.
type site struct {
	window *window.Window
	server *http.Server
	addr   string
	ended  chan struct{}
}

// open serves the page, which tells what the voice says.
func (c *cluster) open(life context.Context, l net.Listener) {
	w := window.New(window.Config{
		Title: "demo", Told: true, Question: "Whom does Archivist 420 report to?",
		Actions: c.buttons(life),
		Outbox: func(ctx context.Context) (*outbox.Overview, error) {
			if pool := c.ready.Load(); pool != nil {
				return outbox.Look(ctx, pool, c.schema)
			}
			return nil, errors.New("the server is being made ready")
		},
	})
	c.also = func(s style, text string) {
		w.Say(map[style]string{bad: window.Bad, good: window.Good, watch: window.Watch}[s], "%s", strings.TrimSpace(text))
	}
	s := &site{window: w, addr: l.Addr().String(), ended: make(chan struct{})}
	s.server = &http.Server{Handler: serve.Guard(w, serve.Options{}), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	go func() {
		defer close(s.ended)
		_ = s.server.Serve(l) // until it is closed
	}()
	c.site = s
}

func (s *site) close() {
	s.window.End()
	_ = s.server.Close() // there is nothing to wait for
	<-s.ended
}

// asked is a node process as the page asks it.
type asked struct {
	*child
	wire *cut
}

func (a asked) Name() string { return a.name }

func (a asked) Sample(ctx context.Context) (window.Sample, error) {
	m, err := a.ask(ctx, request{Do: "sample", Who: lastArchivist})
	if err != nil || m.Sample == nil {
		return window.Sample{}, err
	}
	m.Sample.Offers = []string{"cut"}
	if a.wire.isOff.Load() {
		m.Sample.Offers = []string{"heal"}
	}
	return *m.Sample, nil
}

func (a asked) Look(ctx context.Context, q window.Query) (window.Look, error) {
	m, err := a.ask(ctx, request{Do: "look", Query: &q})
	if err != nil || m.Look == nil {
		return window.Look{}, err
	}
	return *m.Look, nil
}
