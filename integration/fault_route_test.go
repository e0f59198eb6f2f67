package integration

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// router passes connections on to a server, and knows which one is whose: by
// the application's name in the packet that begins it.
type router struct {
	upstream string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	links map[*link]struct{}
	ended bool
}

// link is one connection, both ways.
type link struct {
	startup        []byte
	client, server net.Conn

	mu      sync.Mutex
	swallow bool // packets go nowhere, and nobody is told
}

func route(t *testing.T, upstream string) *router {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &router{upstream: upstream, listener: l, links: map[*link]struct{}{}}
	r.running.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

func (r *router) addr() (string, uint16) {
	at := netip.MustParseAddrPort(r.listener.Addr().String())
	return at.Addr().String(), at.Port()
}

func (r *router) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.ended = true
	for l := range r.links {
		l.close()
	}
	r.mu.Unlock()
	r.running.Wait()
}

func (r *router) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.running.Go(func() { r.serve(client) })
	}
}

// serve reads the packet that begins the connection, and then copies both ways.
func (r *router) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	head := make([]byte, 4)
	if _, err := io.ReadFull(client, head); err != nil {
		return
	}
	rest := make([]byte, min(10_000, max(4, binary.BigEndian.Uint32(head))-4))
	if _, err := io.ReadFull(client, rest); err != nil {
		return
	}
	server, err := net.Dial("tcp", r.upstream)
	if err != nil {
		return
	}
	l := &link{startup: append(head, rest...), client: client, server: server}
	r.mu.Lock()
	if r.ended {
		l.close()
	}
	r.links[l] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.links, l)
	}()
	if _, err := server.Write(l.startup); err != nil {
		l.close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(server, client) })
	both.Go(func() { l.copy(client, server) })
	both.Wait()
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// copy passes on what comes. When one end closes so does the other, unless packets go nowhere.
func (l *link) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		swallow := l.swallow
		l.mu.Unlock()
		if !swallow && n > 0 {
			_, _ = to.Write(buf[:n]) // the next read says what is wrong
		}
		if err != nil {
			if !swallow || from == l.client {
				l.close()
			}
			return
		}
	}
}

// swallow makes a black hole of the connections that are open now under an
// application's name, and says how many they are.
func (r *router) swallow(application string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.links {
		if bytes.Contains(l.startup, []byte("application_name\x00"+application+"\x00")) {
			l.mu.Lock()
			l.swallow = true
			l.mu.Unlock()
			n++
		}
	}
	return n
}
