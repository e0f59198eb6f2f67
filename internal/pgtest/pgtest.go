// Package pgtest gives tests a real Postgres: one private cluster for each package run, a
// fresh database for each test.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgserver"
)

// Option changes the cluster that Main or Own starts.
type Option func(*pgserver.Config)

// With sets a line of postgresql.conf.
func With(name, value string) Option {
	return func(c *pgserver.Config) {
		if c.Settings == nil {
			c.Settings = map[string]string{}
		}
		c.Settings[name] = value
	}
}

// startLimit bounds the start of a cluster, a fetch of its programs included.
const startLimit = 5 * time.Minute

// shared is the cluster of this package run.
var shared struct {
	once   sync.Once
	opts   []Option
	server *pgserver.Server
	err    error
}

// Main runs a package's tests and stops the shared cluster at the end; it does not return.
//
//	func TestMain(m *testing.M) { pgtest.Main(m, pgtest.With("wal_level", "logical")) }
//
// The cluster starts when the first test asks for it.
func Main(m *testing.M, opts ...Option) {
	shared.opts = opts
	code := m.Run()
	err := dropPrograms()
	if shared.server != nil {
		err = errors.Join(err, shared.server.Stop(pgserver.Immediate))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Server returns the shared cluster and starts it on the first call. The test fails where
// no server can be had. Without Main the cluster ends a moment after the test process.
func Server(tb testing.TB) *pgserver.Server {
	tb.Helper()
	shared.once.Do(func() { shared.server, shared.err = start(shared.opts) })
	if shared.err != nil {
		tb.Fatalf("pgtest: %v", shared.err)
	}
	return shared.server
}

func start(opts []Option) (*pgserver.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var c pgserver.Config
	for _, o := range opts {
		o(&c)
	}
	return pgserver.Start(ctx, c)
}

// Cluster is a private cluster, for a test that kills or restarts it.
type Cluster struct{ *pgserver.Server }

// Own starts a cluster for one test and stops it at the test's end. A test that only
// needs a database takes New, which is quicker.
func Own(tb testing.TB, opts ...Option) *Cluster {
	tb.Helper()
	s, err := start(opts)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(pgserver.Immediate); err != nil {
			tb.Errorf("pgtest: stop: %v", err)
		}
	})
	return &Cluster{Server: s}
}

// New creates a database in the private cluster; it goes with the cluster.
func (c *Cluster) New(tb testing.TB) *DB {
	tb.Helper()
	return newDB(tb, c.Server)
}

// New creates an empty database in the shared cluster, and drops it, whoever is still
// connected, and the roles made by its Role, at the test's end.
func New(tb testing.TB) *DB {
	tb.Helper()
	db := newDB(tb, Server(tb))
	tb.Cleanup(func() {
		if err := db.drop(); err != nil {
			tb.Errorf("pgtest: drop %s: %v", db.Name, err)
		}
	})
	return db
}

func newDB(tb testing.TB, s *pgserver.Server) *DB {
	tb.Helper()
	db := &DB{Name: unique("test"), server: s}
	err := admin(s, "CREATE DATABASE "+db.Name+" TEMPLATE template0")
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	return db
}

// unique names something that is visible in the whole cluster. Such a name needs no quotes.
func unique(kind string) string { return kind + "_" + strings.ToLower(rand.Text()[:16]) }

// adminLimit bounds each statement of the harness itself.
const adminLimit = time.Minute

// admin runs statements in the postgres database, each in a transaction of its own.
func admin(s *pgserver.Server, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), adminLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
