//go:build unix

package robust

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pause"
)

// natsProcess is a NATS server in a process of its own.
type natsProcess struct {
	child
	cfg natsConfig
}

func (n *natsProcess) url() string { return "nats://" + n.addr() }

func (n *natsProcess) addr() string { return fmt.Sprintf("127.0.0.1:%d", n.cfg.Port) }

// start starts the server, again and again where somebody else is on its port for a moment.
func (n *natsProcess) start(ctx context.Context, w *world) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for {
		if err := n.launch("", &w.stderr, role{NATS: &n.cfg}); err != nil {
			return err
		}
		err := n.await(ctx, "began")
		if err == nil {
			return nil
		}
		_ = n.kill() // it has ended
		if !pause.For(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// relayProcess is a relay in a process of its own, behind a proxy to Postgres of its own.
type relayProcess struct {
	child
	proxy *toxiproxy.Proxy
	cfg   relayConfig
}

// start starts a life of the relay. It does not wait until it leads.
func (r *relayProcess) start(w *world) error { return r.launch("", &w.stderr, role{Relay: &r.cfg}) }

// startStream starts NATS and the relays, where nodes follow a stream. Each relay is a role of its own in Postgres.
func (w *world) startStream(ctx context.Context) error {
	if w.cfg.Streamed <= 0 {
		return nil
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr, _ := free.Addr().(*net.TCPAddr)
	if err := free.Close(); err != nil {
		return err
	}
	w.nats = &natsProcess{child: child{name: "NATS"}, cfg: natsConfig{Dir: filepath.Join(w.dir, "nats"), Port: addr.Port, Seed: w.cfg.Seed}}
	if err := w.nats.start(ctx, w); err != nil {
		return err
	}
	for i := range 2 {
		name := fmt.Sprintf("relay%d", i)
		if err := w.sql(ctx, "create role "+name+" login superuser password 'relay'"); err != nil {
			return err
		}
		proxy, err := newProxy(name, w.server.Addr())
		if err != nil {
			return err
		}
		dsn, err := by(proxy, w.server.DSNAs("run", name, "relay"))
		if err != nil {
			return err
		}
		r := &relayProcess{child: child{name: name}, proxy: proxy, cfg: relayConfig{DSN: dsn, NATS: w.nats.url()}}
		w.relays = append(w.relays, r)
		if err := r.start(w); err != nil {
			return err
		}
		if err := r.await(ctx, "began"); err != nil {
			return err
		}
	}
	_, err = w.leader(ctx)
	return err
}

// follow makes a node follow the stream: every other one that relays fill, and the rest the crooked one.
func (p *process) follow(w *world) (err error) {
	p.stream = []string{crooked, straight}[p.index%2]
	p.nats, err = newProxy(fmt.Sprintf("nats%d", p.index), w.nats.addr())
	return err
}

// leadLock is the second half of the lock of the relay that leads.
const leadLock = 0x6c656164

// leader waits until a relay leads that is none of those, and returns it.
func (w *world) leader(ctx context.Context, not ...*relayProcess) (*relayProcess, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var name string
		err := w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, `select a.usename from pg_locks l join pg_stat_activity a using (pid)
				where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.objid = $1 and a.usename like 'relay%'`, leadLock).Scan(&name)
		})
		for _, r := range w.relays {
			if err == nil && r.name == name && !slices.Contains(not, r) {
				return r, nil
			}
		}
		if !pause.For(ctx, 20*time.Millisecond) {
			return nil, fmt.Errorf("no relay leads: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

// endStream lets relays and NATS end.
func (w *world) endStream(ctx context.Context) (err error) {
	if w.nats == nil {
		return nil
	}
	for _, r := range w.relays {
		err = errors.Join(err, r.finish(ctx))
	}
	return errors.Join(err, w.nats.finish(ctx))
}

// closeStream ends what still runs of it.
func (w *world) closeStream() {
	for _, r := range w.relays {
		if r.running() {
			_ = r.kill() // an error has come before
		}
		r.proxy.Stop()
	}
	if w.nats != nil && w.nats.running() {
		_ = w.nats.kill() // an error has come before
	}
}
