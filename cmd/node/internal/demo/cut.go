package demo

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// cut is a TCP proxy between one node and Postgres, which can be cut.
type cut struct{ proxy *toxiproxy.Proxy }

// newCut puts a proxy in front of a server and returns the connection string
// that goes through it.
func newCut(to *pgx.ConnConfig) (*cut, string, error) {
	upstream := net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port)))
	if to.Host == "" || to.Host[0] == '/' {
		return nil, "", fmt.Errorf("the demo cuts nodes off by a TCP proxy: name the server by host and port, not by the socket %s", to.Host)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard))
	p := toxiproxy.NewProxy(server, "demo", "127.0.0.1:0", upstream)
	if err := p.Start(); err != nil {
		return nil, "", fmt.Errorf("start a proxy: %w", err)
	}
	mode := "disable"
	if to.TLSConfig != nil {
		mode = "require"
	}
	dsn := url.URL{Scheme: "postgres", User: url.UserPassword(to.User, to.Password), Host: p.Listen, Path: "/" + to.Database, RawQuery: "sslmode=" + mode}
	return &cut{p}, dsn.String(), nil
}

// off drops every connection and takes no new ones; on heals it. The address stays.
func (c *cut) off() error {
	c.proxy.Stop()
	return nil
}

func (c *cut) on() error {
	if c.proxy.Enabled {
		return nil
	}
	if err := c.proxy.Start(); err != nil {
		return fmt.Errorf("heal the connection: %w", err)
	}
	return nil
}

func (c *cut) close() { c.proxy.Stop() }
