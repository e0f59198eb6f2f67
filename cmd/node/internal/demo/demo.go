package demo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/psql"
	"github.com/pglockstep/lockstep/triggers"
)

//go:embed company.sql
var files embed.FS

// Options are how the demo runs.
type Options struct {
	Nodes    int           // node processes
	Rate     int           // transactions a second
	Duration time.Duration // of the traffic; the outage takes its second third
	Once     bool          // end with the account; else go on until interrupted
	DSN      string        // the caller's own server; "": a private one
	Out      io.Writer
}

// Err is the demo's verdict where a node was not what Postgres is, or loaded
// again where it should have replayed.
var Err = errors.New("the demo found a difference: see the table above")

// cluster is a running demo.
type cluster struct {
	Options
	began   time.Time
	sayMu   sync.Mutex
	company string
	schema  string
	server  *pgserver.Server // nil with --dsn
	pool    *pgxpool.Pool
	traffic *traffic
	nodes   []*child
	proxies []*cut
	heard   observations
}

// Run is the whole demo. What it made is gone when it returns.
func Run(ctx context.Context, o Options) (err error) {
	tag := fmt.Sprintf("%08x", rand.Uint32())
	c := &cluster{Options: o, began: time.Now(), company: "lockstep_demo_" + tag, schema: "lockstep_demo_log_" + tag}
	c.heard.init()
	defer func() {
		if cleanErr := c.clean(); err == nil {
			err = cleanErr
		}
	}()
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if err := c.startNodes(ctx); err != nil {
		return err
	}
	for {
		if err := c.act(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		if c.Once || ctx.Err() != nil {
			break
		}
		c.say("once more; Ctrl-C ends with the account")
	}
	return c.account(context.WithoutCancel(ctx))
}

func (c *cluster) say(format string, args ...any) {
	c.sayMu.Lock()
	defer c.sayMu.Unlock()
	fmt.Fprintf(c.Out, "%6.1f s  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// prepare starts Postgres, makes the company and captures it.
func (c *cluster) prepare(ctx context.Context) error {
	dsn := c.DSN
	if dsn == "" {
		server, err := pgserver.Start(ctx, pgserver.Config{})
		if err != nil {
			return err
		}
		c.server = server
		dsn = server.DSN("postgres")
		c.say("a private PostgreSQL %d runs on %s", server.Version()/10000, server.Addr())
	}
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	c.pool = pool
	sql, err := psql.Render(files, "company.sql", map[string]string{"company": c.company})
	if err != nil {
		return err
	}
	if err := c.exec(ctx, sql); err != nil {
		return fmt.Errorf("make the company: %w", err)
	}
	options := triggers.Options{Schema: c.schema, Logger: slog.New(slog.DiscardHandler)}
	name := func(t string) string { return pgx.Identifier{c.company, t}.Sanitize() }
	if err := triggers.Install(ctx, pool, options, name("departments"), name("employees")); err != nil {
		return err
	}
	c.say("departments and employees are there, and captured")
	c.traffic = newTraffic(pool, c.company, c.say)
	return nil
}

func (c *cluster) exec(ctx context.Context, sql string) error {
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// startNodes starts the node processes, each behind a proxy of its own.
func (c *cluster) startNodes(ctx context.Context) error {
	for i := range c.Nodes {
		proxy, dsn, err := newCut(c.pool.Config().ConnConfig)
		if err != nil {
			return err
		}
		c.proxies = append(c.proxies, proxy)
		// A node ends by its input, in clean; the context must not end it before its last answer.
		n, err := startChild(context.WithoutCancel(ctx), fmt.Sprintf("node-%d", i+1), dsn, c.company, c.schema, c.heed)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	return nil
}

// heed is what a node process says by itself.
func (c *cluster) heed(n *child, m message) {
	switch m.Kind {
	case "ready":
		c.say("%s has loaded %s", n.name, m.Text)
	case "state":
		text := m.State
		if m.Text != "" {
			text += ": " + firstLine(m.Text)
		}
		c.say("%s is %s", n.name, text)
		c.heard.state(n.name, m.State)
	case "visible":
		c.heard.visible(n.name, m.Stamp, m.At)
	case "failed":
		c.say("%s failed: %s", n.name, m.Text)
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 110 {
		s = s[:110] + "..."
	}
	return s
}

// act is one round: traffic, and an outage of the last node in the middle of it.
func (c *cluster) act(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	wrote := make(chan error, 1)
	go func() { wrote <- c.traffic.run(ctx, c.Rate) }()
	c.say("traffic: %d transactions a second of hires, transfers, dismissals, new managers, raises", c.Rate)
	err := c.script(ctx)
	if e := <-wrote; err == nil {
		err = e
	}
	return err
}

// script is what happens while the traffic runs. It ends early when the context does.
func (c *cluster) script(ctx context.Context) error {
	third := c.Duration / 3
	victim, proxy := c.nodes[len(c.nodes)-1], c.proxies[len(c.proxies)-1]
	if !pause(ctx, third/2) {
		return nil
	}
	if err := c.traffic.whole(ctx, c.traffic.bulkRaise); err != nil {
		return err
	}
	if !pause(ctx, third/2) {
		return nil
	}
	c.heard.cut(victim.name)
	if err := proxy.off(); err != nil {
		return err
	}
	c.say("cut: %s has lost its way to Postgres; writes go on", victim.name)
	if !pause(ctx, third/2) {
		return proxy.on()
	}
	who := 1 + rand.IntN(400)
	if m, err := victim.ask(ctx, request{Do: "ask", Who: who}); err == nil {
		c.say("%s still answers, from memory %.1f s old: %s", victim.name, m.Status.Staleness, m.Text)
	}
	if err := c.traffic.whole(ctx, c.traffic.bulkRaise); err != nil {
		return errors.Join(err, proxy.on())
	}
	pause(ctx, third/2)
	c.say("healed: %s can reach Postgres again", victim.name)
	if err := proxy.on(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// pause waits for a while; false: the context has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// clean takes away everything that the demo has made.
func (c *cluster) clean() error {
	var errs []error
	for _, n := range c.nodes {
		n.stop()
	}
	for _, p := range c.proxies {
		p.close()
	}
	if c.pool != nil && c.server == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err := triggers.Uninstall(ctx, c.pool, triggers.Options{Schema: c.schema, Logger: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, triggers.ErrNotInstalled) {
			errs = append(errs, err)
		}
		errs = append(errs, c.exec(ctx, "drop schema if exists "+pgx.Identifier{c.company}.Sanitize()+" cascade"))
	}
	if c.pool != nil {
		c.pool.Close()
	}
	if c.server != nil {
		errs = append(errs, c.server.Stop(pgserver.Fast))
	}
	return errors.Join(errs...)
}
