package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/psql"
)

// checkListener is how often a silent listener's connection is asked whether
// it still lives: a half-open one hears nothing and says nothing. Until that is
// found out, whoever drives the session polls; beside twenty beats the question
// costs nothing.
const checkListener = 5 * time.Second

// listener is the NOTIFY bell.
type listener struct {
	conn   *pgx.Conn
	rings  chan struct{}
	lost   chan struct{}
	cancel context.CancelFunc
}

// listen hangs the NOTIFY bell, and proves it by ringing itself. Behind a
// pooler in transaction mode LISTEN succeeds and hears nothing; such a session
// polls, unless the bell was asked for by name.
func (s *Session) listen(ctx context.Context) error {
	cfg, channel := s.src.cfg, fmt.Sprintf("lockstep_%d", s.at.outbox)
	l, err := s.src.listen(ctx, channel)
	if err != nil {
		return err
	}
	heard, err := l.prove(ctx, s.conn, channel, cfg.ProveWithin)
	if err != nil {
		closeConn(l.conn)
		return err
	}
	if !heard {
		// What a pooler has made of LISTEN is not to stay on a connection of others.
		_, err := l.conn.Exec(ctx, "unlisten *")
		closeConn(l.conn)
		if err != nil {
			return fmt.Errorf("outbox: unlisten: %w", err)
		}
		if cfg.Bell == BellNotify {
			return fmt.Errorf("outbox: LISTEN heard nothing of a ring of our own within %s: is there a pooler in transaction mode in front? Use bell %q", cfg.ProveWithin, BellPoll)
		}
		s.polls(slog.LevelWarn, fmt.Sprintf("LISTEN heard nothing within %s: is there a pooler in transaction mode in front?", cfg.ProveWithin))
		return nil
	}
	listening, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go l.run(listening)
	_ = s.belfry.hang(listening, BellNotify, l) // nothing rests yet
	return nil
}

func (s *Source) listen(ctx context.Context, channel string) (*listener, error) {
	conn, _, err := s.connect(ctx, "bell")
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("outbox: listen: %w", err)
	}
	return &listener{conn: conn, rings: make(chan struct{}, 1), lost: make(chan struct{})}, nil
}

// prove rings from the other connection and waits to hear it. Any notification will
// do: it came through.
func (l *listener) prove(ctx context.Context, from *pgx.Conn, channel string, within time.Duration) (bool, error) {
	if _, err := from.Exec(ctx, "select pg_notify("+psql.Literal(channel)+", '')"); err != nil {
		return false, fmt.Errorf("outbox: ring: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := l.conn.WaitForNotification(waiting)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, fmt.Errorf("outbox: wait for our own ring: %w", ctx.Err())
	case errors.Is(waiting.Err(), context.DeadlineExceeded):
		return false, nil
	}
	return false, fmt.Errorf("outbox: wait for our own ring: %w", err)
}

// run turns notifications into rings until the connection ends. What they say
// is not read: any role can send one. Rings that nobody has taken yet are one.
func (l *listener) run(ctx context.Context) {
	defer close(l.lost)
	for {
		waiting, cancel := context.WithTimeout(ctx, checkListener)
		_, err := l.conn.WaitForNotification(waiting)
		quiet := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			l.ring()
		case quiet && l.alive(ctx):
		default:
			return
		}
	}
}

func (l *listener) ring() {
	select {
	case l.rings <- struct{}{}:
	default:
	}
}

// alive asks the server for a sign of life. Notifications that come with the
// answer wait in the connection for the next WaitForNotification.
func (l *listener) alive(ctx context.Context) bool {
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return l.conn.Ping(asking) == nil
}

// Rings implements Ringer.
func (l *listener) Rings() <-chan struct{} { return l.rings }

// Lost implements Ringer.
func (l *listener) Lost() <-chan struct{} { return l.lost }

// Close implements Ringer.
func (l *listener) Close() {
	l.cancel()
	<-l.lost
	closeConn(l.conn)
}
