package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
)

// cut are TCP proxies between one node and all that it follows, which can be cut.
type cut struct {
	proxies []*toxiproxy.Proxy // to Postgres, and to NATS
	isOff   atomic.Bool
}

// upstream is where Postgres really answers, whichever of several hosts or
// addresses the connection string leads to.
func upstream(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	addr := conn.Conn().PgConn().Conn().RemoteAddr()
	if _, ok := addr.(*net.TCPAddr); !ok {
		return "", fmt.Errorf("the demo cuts nodes off by a TCP proxy: name the server by host and port, not by the socket %s", pool.Config().ConnConfig.Host)
	}
	return addr.String(), nil
}

// newCut puts a proxy in front of each server.
func newCut(upstreams ...string) (*cut, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	c := &cut{}
	for _, u := range upstreams {
		p := toxiproxy.NewProxy(server, "demo", "127.0.0.1:0", u)
		if err := p.Start(); err != nil {
			c.off()
			return nil, fmt.Errorf("start a proxy: %w", err)
		}
		c.proxies = append(c.proxies, p)
	}
	return c, nil
}

// addr is where the i-th proxy listens; it stays the same over off and on.
func (c *cut) addr(i int) string { return c.proxies[i].Listen }

// off drops every connection and takes no new ones, until on.
func (c *cut) off() {
	c.isOff.Store(true)
	for _, p := range c.proxies {
		p.Stop()
	}
}

func (c *cut) on() error {
	c.isOff.Store(false)
	for _, p := range c.proxies {
		if err := p.Start(); err != nil {
			return fmt.Errorf("heal the connection: %w", err)
		}
	}
	return nil
}

// through lets a pool reach its server by way of a proxy only. The connection
// string stays as it is, and with it whatever TLS has to verify.
func through(cfg *pgxpool.Config, proxy string) {
	var d net.Dialer
	cfg.ConnConfig.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	cfg.ConnConfig.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", proxy)
	}
}
