package integration

import (
	"context"
	"net"
	"sync"
)

// hole is a network that swallows what is sent into it while it is open, as a
// firewall does that has forgotten a connection. Closed again, it lets go on what was held.
type hole struct {
	mu   sync.Mutex
	wait chan struct{} // closed: nothing is swallowed
}

func (h *hole) open() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wait = make(chan struct{})
}

func (h *hole) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.wait)
	h.wait = nil
}

// held is closed when the hole is; nil where there is none.
func (h *hole) held() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wait
}

func (h *hole) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &holeConn{Conn: c, h: h, gone: make(chan struct{})}, nil
}

type holeConn struct {
	net.Conn
	h    *hole
	once sync.Once
	gone chan struct{}
}

// Write holds what is sent while the hole is open, and until the connection is closed.
func (c *holeConn) Write(b []byte) (int, error) {
	if held := c.h.held(); held != nil {
		select {
		case <-held:
		case <-c.gone:
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Write(b)
}

func (c *holeConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}
