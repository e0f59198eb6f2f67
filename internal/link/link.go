// Package link is a way to Postgres that can be cut: for tests, and for benchmarks, where what a proxy does with the
// bytes would be counted as a node's work.
package link

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Link is whole until Cut. Its zero value is ready.
type Link struct {
	mu    sync.Mutex
	off   bool
	conns []net.Conn
}

// Through makes the connections of a pool, and of the node that uses it, go by the link.
func (l *Link) Through(cfg *pgxpool.Config) {
	dial := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.off {
			return nil, errors.Join(errors.New("the link is cut"), conn.Close())
		}
		l.conns = append(l.conns, conn)
		return conn, nil
	}
}

// Cut closes every connection, and those that are made until Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close() // some are closed already
	}
	l.off, l.conns = true, nil
}

// Heal lets connections be made again.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = false
}
