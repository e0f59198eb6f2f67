package lockstep_test

import (
	"bytes"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// proxy stands between a pool and the server.
type proxy struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	down  bool
	lose  []byte // see loseAnswerTo
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

func newProxy(t *testing.T, db *pgtest.DB) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: db.Server().Addr(), conns: map[net.Conn]bool{}}
	p.all.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.all.Wait()
	})
	return p
}

// pool connects through the proxy.
func (p *proxy) pool(t *testing.T, db *pgtest.DB) *pgxpool.Pool {
	t.Helper()
	host, port, _ := net.SplitHostPort(p.listener.Addr().String())
	n, _ := strconv.ParseUint(port, 10, 16)
	return db.Pool(t, func(c *pgxpool.Config) {
		c.ConnConfig.Host, c.ConnConfig.Port, c.ConnConfig.Fallbacks = host, uint16(n), nil
		c.ConnConfig.TLSConfig = nil
	})
}

// cut ends all connections, and refuses new ones until heal.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// loseAnswerTo ends a connection on which the client has sent this text, once
// the server is done with it: the answer gets lost. It does so once.
func (p *proxy) loseAnswerTo(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = []byte(text)
}

func (p *proxy) loses(sent []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lose == nil || !bytes.Contains(sent, p.lose) {
		return false
	}
	p.lose = nil
	return true
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = c.Close()
			continue
		}
		p.mu.Lock()
		if p.down {
			_ = c.Close()
			_ = s.Close()
		}
		p.conns[c], p.conns[s] = true, true
		p.mu.Unlock()
		p.all.Go(func() { p.serve(c, s) })
	}
}

// serve carries one connection.
func (p *proxy) serve(client, server net.Conn) {
	var lost sync.WaitGroup
	losing := make(chan struct{})
	lost.Go(func() { p.answers(client, server, losing) })
	defer lost.Wait()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, client)
		delete(p.conns, server)
		_ = client.Close()
		_ = server.Close()
	}()
	buf := make([]byte, 1<<16)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if p.loses(buf[:n]) {
			close(losing) // the answer to what follows is not passed on
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// readyIdle is the server's word that it is done and in no transaction.
var readyIdle = []byte{'Z', 0, 0, 0, 5, 'I'}

func (p *proxy) answers(client, server net.Conn, losing <-chan struct{}) {
	defer func() { _ = client.Close() }()
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-losing:
			if bytes.Contains(buf[:n], readyIdle) {
				return
			}
			continue
		default:
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
