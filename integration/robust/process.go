//go:build unix

package robust

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// process is a node in a process of its own, behind proxies of its own.
type process struct {
	child
	index   int
	life    int              // how often this node has been started
	proxy   *toxiproxy.Proxy // to Postgres
	nats    *toxiproxy.Proxy // to NATS; nil: it does not follow the stream
	stream  string           // that it follows
	lived   []string         // names of earlier lives, each of which was killed
	history string
	clock   string // the file by which its clock is shifted
}

// newProxy makes a proxy that listens.
func newProxy(name, to string) (*toxiproxy.Proxy, error) {
	metrics := toxiproxy.NewMetricsContainer(nil)
	p := toxiproxy.NewProxy(toxiproxy.NewServer(metrics, zerolog.New(io.Discard)), name, "127.0.0.1:0", to)
	return p, p.Start()
}

// newProcess makes the node's proxy; start makes the node.
func newProcess(index int, server string) (*process, error) {
	proxy, err := newProxy(fmt.Sprintf("node%d", index), server)
	return &process{index: index, proxy: proxy}, err
}

// by is a server's address by way of a proxy.
func by(proxy *toxiproxy.Proxy, direct string) (string, error) {
	u, err := url.Parse(direct)
	if err != nil {
		return "", err
	}
	if _, err := netip.ParseAddrPort(proxy.Listen); err != nil {
		return "", err
	}
	u.Host = proxy.Listen
	return u.String(), nil
}

// start starts a life of the node. It does not wait until it is live.
func (p *process) start(w *world) error {
	p.life++
	p.name = fmt.Sprintf("node%d.%d", p.index, p.life)
	p.history = filepath.Join(w.dir, p.name+".ndjson")
	dsn, err := by(p.proxy, w.dsn)
	if err != nil {
		return err
	}
	cfg := &nodeConfig{Name: p.name, DSN: dsn, History: p.history, Seed: w.cfg.Seed, Index: p.index*10 + p.life}
	if p.nats != nil {
		cfg.NATS, cfg.Stream = "nats://"+p.nats.Listen, p.stream
	}
	p.clock = filepath.Join(w.dir, p.name+".clock")
	if err := os.WriteFile(p.clock, make([]byte, 16), 0o600); err != nil {
		return err
	}
	return p.launch(w.cfg.Program, &w.stderr, role{Node: cfg}, "CLOCK_SHIFT="+p.clock)
}

// shift puts the node's clock forward, or back. The file is mapped, so it is written in place.
func (p *process) shift(d time.Duration) error {
	f, err := os.OpenFile(p.clock, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(d)), 0)
	return errors.Join(err, f.Close())
}

// kill ends this life of the node at once.
func (p *process) kill() error {
	p.lived = append(p.lived, p.name)
	return p.child.kill()
}

// poison adds a toxic to a proxy in both directions.
func poison(proxy *toxiproxy.Proxy, kind, attributes string) error {
	for _, stream := range []string{"upstream", "downstream"} {
		spec := fmt.Sprintf(`{"name": %q, "type": %q, "stream": %q, "attributes": {%s}}`, stream, kind, stream, attributes)
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(spec)); err != nil {
			return err
		}
	}
	return nil
}

// cure takes every toxic away, and makes the proxy listen.
func cure(ctx context.Context, proxy *toxiproxy.Proxy) error {
	proxy.Toxics.ResetToxics(ctx)
	if err := proxy.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		return err
	}
	return nil
}

// proxies are those that the node is behind.
func (p *process) proxies() []*toxiproxy.Proxy {
	if p.nats == nil {
		return []*toxiproxy.Proxy{p.proxy}
	}
	return []*toxiproxy.Proxy{p.proxy, p.nats}
}
