package demo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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
	Duration time.Duration // of a round of traffic; the outage takes its second third
	Once     bool          // end after one round; else go on until interrupted
	Fanout   bool          // the nodes follow a stream of NATS, which has an outage too
	DSN      string        // the caller's own server; "": a private one
	Page     string        // loopback address of the page, or off
	Out      io.Writer
}

// Err is the demo's verdict where a node was not what Postgres is, or loaded
// again where it should have replayed.
var Err = errors.New("the demo found a difference: see the account above")

// cluster is a running demo.
type cluster struct {
	Options
	*voice
	names
	server  *pgserver.Server // nil with a DSN
	claim   *pgx.Conn        // nil without one: holds the names
	pool    *pgxpool.Pool
	traffic *traffic
	nodes   []*child
	cuts    []*cut
	fanout  *fanout // nil: the nodes ask Postgres
	book    *book
	site    *site                        // nil: there is no page
	ready   atomic.Pointer[pgxpool.Pool] // pool, once everything has begun
	stage   *stage                       // guards what follows
	boss    int                          // the Archive's manager
	frozen  []string                     // what each node that is cut off must answer
	wrong   []string                     // what should not have been, beside rows that differ
}

// names are the schemas that a demo makes.
type names struct{ company, schema string }

func newNames(tag uint32) names {
	return names{fmt.Sprintf("lockstep_demo_%08x", tag), fmt.Sprintf("lockstep_demo_log_%08x", tag)}
}

// Run is the whole demo. What it made is gone when it returns.
func Run(ctx context.Context, o Options) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &cluster{Options: o, voice: newVoice(o.Out, cancel), book: newBook(), stage: newStage(), boss: firstArchivist, frozen: make([]string, o.Nodes)}
	l, err := o.listen()
	if err != nil {
		return err
	}
	defer func() { err = outcome(err, c.clean()) }()
	if l != nil {
		c.open(ctx, l)
	}
	if err := c.begin(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx) // and not what somebody says who was broken off
		}
		if interrupted(err) {
			return context.Canceled // the signal has reached the child before us
		}
		return err
	}
	for round := 0; ; round++ {
		if err := c.act(ctx, round); err != nil && ctx.Err() == nil {
			return err
		}
		if c.Once || ctx.Err() != nil {
			break
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, errUnheard) {
		return cause
	}
	return c.end(context.WithoutCancel(ctx))
}

// end takes the stage for good, heals what somebody has left cut off, and gives the account.
func (c *cluster) end(ctx context.Context) error {
	taking, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.stage.take(taking); err != nil {
		return err
	}
	for i, wire := range c.cuts {
		if !wire.isOff.Load() {
			continue
		}
		if _, err := c.heal(taking, i); err != nil {
			return err
		}
	}
	return c.account(ctx)
}

// outcome is the error of a demo that ended with err and left something. That
// is told in any case: whoever interrupts knows so, but not what is left.
func outcome(err, left error) error {
	if left == nil {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return left
	}
	return errors.Join(err, left)
}

func (c *cluster) begin(ctx context.Context) error {
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if c.Fanout {
		if err := c.startFanout(ctx); err != nil {
			return err
		}
	}
	if err := c.startNodes(ctx); err != nil {
		return err
	}
	if c.ready.Store(c.pool); c.site != nil {
		c.say(plain, "look at it in a browser: http://%s/", c.site.addr)
	}
	return nil
}

// prepare finds or starts Postgres, makes the company and captures it.
func (c *cluster) prepare(ctx context.Context) error {
	dsn := c.DSN
	if dsn == "" {
		server, err := pgserver.Start(ctx, pgserver.Config{})
		if err != nil {
			return fmt.Errorf("start a private Postgres: %w", err)
		}
		c.server = server
		dsn = server.DSN("postgres")
		c.say(plain, "a private PostgreSQL %d runs on %s", server.Version()/10000, server.Addr())
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("the connection string cannot be read: %w", err)
	}
	cfg.MaxConns = max(cfg.MaxConns, 2*writers+4) // a burst has as many as the traffic
	if c.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return err
	}
	tag := rand.Uint32()
	c.names = newNames(tag)
	if c.server == nil {
		if err := c.take(ctx, tag); err != nil {
			return err
		}
	}
	sql, err := psql.Render(files, "company.sql", map[string]string{"company": c.company})
	if err != nil {
		return err
	}
	if err := execute(ctx, c.pool, sql); err != nil {
		return fmt.Errorf("make the company: %w", err)
	}
	name := func(t string) string { return pgx.Identifier{c.company, t}.Sanitize() }
	if err := triggers.Install(ctx, c.pool, c.install(), name("departments"), name("employees")); err != nil {
		return err
	}
	c.say(plain, "departments and employees are there, and captured")
	c.traffic = newTraffic(c.pool, c.company, c.book)
	return nil
}

// install is quiet: the demo tells its own story.
func (n names) install() triggers.Options {
	return triggers.Options{Schema: n.schema, Logger: slog.New(slog.DiscardHandler)}
}

func execute(ctx context.Context, pool *pgxpool.Pool, sql string) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// startNodes starts the node processes, each behind proxies of its own.
func (c *cluster) startNodes(ctx context.Context) error {
	addr, err := upstream(ctx, c.pool)
	if err != nil {
		return err
	}
	upstreams := []string{addr}
	if c.fanout != nil {
		upstreams = append(upstreams, c.fanout.addr)
	}
	for i := range c.Nodes {
		proxy, err := newCut(upstreams...)
		if err != nil {
			return err
		}
		c.cuts = append(c.cuts, proxy)
		name := fmt.Sprintf("node-%d", i+1)
		args := []string{"demo-node", "--name", name, "--company", c.company, "--log-schema", c.schema, "--proxy", proxy.addr(0)}
		if c.fanout != nil {
			args = append(args, "--nats", proxy.addr(1))
		}
		n, err := startChild(ctx, name, []string{"LOCKSTEP_DSN=" + c.pool.Config().ConnString()}, c.heed, args...)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
		if c.site != nil {
			c.site.window.Add(asked{n, proxy})
		}
	}
	return nil
}

// heed is what a node process says by itself.
func (c *cluster) heed(n *child, m message) {
	switch m.Kind {
	case "ready":
		c.say(plain, "%s has loaded %s", n.name, m.Text)
	case "state":
		text, s := m.State, watch
		if m.Text != "" {
			text += ": " + firstLine(m.Text)
		}
		if m.State == "live" {
			c.book.live(n.name, m.At)
			s = good
		}
		c.say(s, "%s is %s", n.name, text)
	case "source":
		n.source.Store(m.State)
		if m.State == onStream {
			c.say(good, "%s follows the stream", n.name)
		} else {
			c.say(watch, "%s follows Postgres directly: %s", n.name, firstLine(m.Text))
		}
	case "visible":
		c.book.visible(n.name, m.Stamp, m.At)
	case "failed":
		c.say(bad, "%s failed: %s", n.name, m.Text)
	}
}

// clean takes away everything that the demo has made.
func (c *cluster) clean() error {
	if c.site != nil {
		c.site.close()
	}
	var ending sync.WaitGroup
	for _, n := range c.nodes {
		ending.Go(n.stop)
	}
	ending.Wait()
	for _, p := range c.cuts {
		p.off()
	}
	var errs []error
	if c.fanout != nil {
		errs = append(errs, c.fanout.end())
	}
	if c.claim != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := c.drop(ctx, c.pool); err != nil {
			errs = append(errs, fmt.Errorf("the schemas %s and %s may be left, which the next demo on this server drops: %w", c.company, c.schema, err))
		}
		_ = c.claim.Close(ctx) // it ends with this process
	}
	if c.pool != nil {
		c.pool.Close()
	}
	if c.server != nil {
		errs = append(errs, c.server.Stop(pgserver.Fast))
	}
	return errors.Join(errs...)
}
