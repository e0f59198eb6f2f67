package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Server is a private cluster. Its methods may be called by many goroutines.
type Server struct {
	bin      Binaries
	acct     account
	paths    paths
	keep     bool
	trust    bool
	password string
	port     int
	lock     *os.File // held, not read: see claim
	guard    *guard

	mu      sync.Mutex
	pm      *postmaster // nil while it does not run
	stopped bool
}

// portTries bounds how often Start draws another port when somebody took the one it drew.
const portTries = 10

// Start makes a cluster and runs it until Stop. It returns once the server takes
// connections; the context bounds Start only. It first sweeps what dead processes left.
// Where no server programs are found, the error wraps ErrNoServer; where Config.Port is
// somebody else's, ErrPortTaken.
func Start(ctx context.Context, c Config) (*Server, error) {
	_ = Sweep() // somebody else's remains are no reason not to start
	if c.Binaries.Dir == "" {
		b, err := Find(ctx, c.Options)
		if err != nil {
			return nil, err
		}
		c.Binaries = b
	}
	acct, err := serverAccount()
	if err != nil {
		return nil, err
	}
	if err := acct.canReach(c.Binaries.Dir); err != nil {
		return nil, fmt.Errorf("server programs: %w", err)
	}
	p, lock, err := makeDir(c.Dir, acct)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: c.Binaries, acct: acct, paths: p, keep: c.Dir != "", trust: c.Trust,
		password: rand.Text(), lock: lock}
	if s.guard, err = startGuard(acct, p, !s.keep); err == nil {
		err = s.create(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop(Immediate))
	}
	return s, nil
}

func (s *Server) create(ctx context.Context, c Config) error {
	settings, err := c.configFile(s.paths)
	if err != nil {
		return err
	}
	if err := runInitdb(ctx, s.bin, s.acct, s.paths, c, s.password); err != nil {
		return err
	}
	if err := appendTo(filepath.Join(s.paths.data, "postgresql.conf"), settings); err != nil {
		return err
	}
	if c.Port != 0 {
		s.port = c.Port
		return s.run(ctx)
	}
	draw := freePort
	if c.drawPort != nil {
		draw = c.drawPort
	}
	for range portTries {
		if s.port, err = draw(); err != nil {
			return err
		}
		if err = s.run(ctx); !errors.Is(err, ErrPortTaken) {
			return err
		}
	}
	return err
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// ErrPortTaken is returned when another program listens on the server's port.
var ErrPortTaken = errors.New("the port is taken")

// run starts the postmaster and waits until it takes connections.
func (s *Server) run(ctx context.Context) error {
	logged := s.logSize()
	pm, err := startPostmaster(s.bin, s.acct, s.paths, s.port)
	if err != nil {
		return err
	}
	s.guard.tell(pm.pid())
	if err := s.awaitReady(ctx, pm); err != nil {
		err = errors.Join(err, pm.kill())
		s.guard.tell(0)
		said := s.logFrom(logged)
		if strings.Contains(said, "could not create any TCP/IP sockets") {
			return fmt.Errorf("postgres on port %d: %w", s.port, ErrPortTaken)
		}
		return fmt.Errorf("%w; its log: %s", err, tail(said, 5))
	}
	s.pm = pm
	return nil
}

// awaitReady connects until the server answers, or has ended. Another program on our port
// cannot deceive it, by silence or by being a Postgres too: an attempt is bounded, and the
// data directory is compared.
func (s *Server) awaitReady(ctx context.Context, pm *postmaster) error {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-pm.gone:
			cancel()
		case <-running.Done():
		}
	}()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		err := s.probe(running)
		if err == nil {
			return nil
		}
		select {
		case <-pm.gone:
			return fmt.Errorf("postgres ended before it was ready: %w", pm.exit)
		case <-ctx.Done():
			return fmt.Errorf("postgres is not ready: %w (%s)", ctx.Err(), oneLine(err))
		case <-retry.C:
		}
	}
}

func (s *Server) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Exec(ctx, "SHOW data_directory").ReadAll()
	if err != nil {
		return err
	}
	if got := string(rows[0].Rows[0][0]); got != s.paths.data {
		return fmt.Errorf("another server answers on port %d", s.port)
	}
	return nil
}

// DSN is the address of a database as a URL, over TCP, for the superuser. It holds the
// password: do not print it.
func (s *Server) DSN(database string) string {
	return s.DSNAs(database, Superuser, s.password)
}

// DSNAs is the address of a database for another role. With an empty password the URL
// has none.
func (s *Server) DSNAs(database, role, password string) string {
	who := url.User(role)
	if password != "" && !s.trust {
		who = url.UserPassword(role, password)
	}
	u := url.URL{Scheme: "postgres", User: who, Host: s.Addr(), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Addr is host:port, for a proxy in front of the server.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Port is the TCP port on 127.0.0.1. It stays the same over restarts.
func (s *Server) Port() int { return s.port }

// SocketDir is the directory of the unix socket, for host=; "" where the path of the
// given Dir is too long for a socket. Only the server's user and root can enter it.
func (s *Server) SocketDir() string { return s.paths.socket }

// DataDir is the cluster's data directory.
func (s *Server) DataDir() string { return s.paths.data }

// Binaries are the programs that the server runs.
func (s *Server) Binaries() Binaries { return s.bin }

// Version is the server's version as server_version_num has it.
func (s *Server) Version() int { return s.bin.Version }

// PID is the postmaster's process id, 0 while it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pm == nil {
		return 0
	}
	return s.pm.pid()
}

// String describes the server without its password.
func (s *Server) String() string { return "postgres on " + s.Addr() }

// GoString does as String, so that no format verb shows the password.
func (s *Server) GoString() string { return s.String() }
