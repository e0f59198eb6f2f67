package outbox

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// leadLock is the second half of the advisory lock of the relay that leads:
// "lead" in ASCII. The first half is the schema's oid.
const leadLock = 0x6c656164

var (
	// ErrLed means that another relay leads.
	ErrLed = errors.New("another relay leads")
	// ErrRun means that no run is there in this life of the server.
	ErrRun = errors.New("no relay's connection is to be found on this server")
)

var errPooled = errors.New("outbox: a relay needs a connection of its own: is there a pooler in transaction mode in front?")

// Run is what a relay's connection is known by.
//
// Transaction ids that had not reached the log are given out again after a crash. So what one
// connection has read must never be put together with what another has, unless
// both were connected to the same life of the server. The number of a run is an advisory lock
// that its connection holds for as long as it lives: who sees the lock on a connection of
// its own is in that life.
type Run struct {
	ID  int64
	Key []byte // of the messages of the run: a secret
}

// Lead takes the lead among the relays of the schema and begins a run, both on
// this session's connection and for as long as it lives. ErrLed where another
// one leads; the session may ask again.
func (s *Session) Lead(ctx context.Context) (Run, error) {
	if s.pooled {
		return Run{}, errPooled
	}
	var mine bool
	if err := s.conn.QueryRow(ctx, "select pg_catalog.pg_try_advisory_lock($1, $2)", int32(uint32(s.at.schema)), int32(leadLock)).Scan(&mine); err != nil {
		return Run{}, fmt.Errorf("outbox: take the lead: %w", err)
	}
	if !mine {
		return Run{}, fmt.Errorf("outbox: %w", ErrLed)
	}
	seed := make([]byte, 8+32)
	_, _ = rand.Read(seed) // it never fails
	run := Run{ID: int64(binary.BigEndian.Uint64(seed)), Key: seed[8:]}
	return run, s.register(ctx, run)
}

// register takes the lock of the run, then leaves its key for the nodes, and takes
// away those of runs that are over.
func (s *Session) register(ctx context.Context, run Run) error {
	var mine bool
	if err := s.conn.QueryRow(ctx, "select pg_catalog.pg_try_advisory_lock($1)", run.ID).Scan(&mine); err != nil {
		return fmt.Errorf("outbox: begin a run: %w", err)
	}
	if !mine {
		return errors.New("outbox: begin a run: its number is taken")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is for people only
	}
	relays := pgx.Identifier{s.src.cfg.Schema, "relays"}.Sanitize()
	var b pgx.Batch
	// An old run's row may be read by a node a moment after its end: it does not matter, its lock is gone.
	b.Queue("delete from " + relays)
	b.Queue("insert into "+relays+" (run, key, host) values ($1, $2, $3)", run.ID, run.Key, host)
	if err := s.conn.SendBatch(ctx, &b).Close(); err != nil {
		return s.noRelays("begin a run", err)
	}
	return nil
}

// Running returns the run of the relay that leads if its connection is there, in the life of the
// server that this session is connected to. Else ErrRun.
func (s *Session) Running(ctx context.Context) (run Run, err error) {
	err = s.within(ctx, func() error { return s.conn.QueryRow(ctx, s.src.sql.running).Scan(&run.ID, &run.Key, nil, nil) })
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Run{}, fmt.Errorf("outbox: %w", ErrRun)
	case err != nil:
		return Run{}, s.noRelays("find the run of the relay", err)
	}
	return run, nil
}

// noRelays says what an error of the table of runs asks for.
func (s *Session) noRelays(op string, err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "42P01":
			return fmt.Errorf("outbox: %s: schema %s has no table of relays: run lockstep install: %w", op, s.src.cfg.Schema, ErrRun)
		case "42501":
			return fmt.Errorf("outbox: %s: the role lacks the grants on %s.relays: run triggers/sql/grants_reader.sql for a node, grants_relay.sql for a relay: %w: %w", op, s.src.cfg.Schema, ErrRun, err)
		}
	}
	return fmt.Errorf("outbox: %s: %w", op, err)
}

// Registered are the tables that are captured, by oid.
func (s *Session) Registered(ctx context.Context) (oids []uint32, err error) {
	err = s.within(ctx, func() error {
		rows, err := s.conn.Query(ctx, s.src.sql.registered)
		if err != nil {
			return err
		}
		oids, err = pgx.CollectRows(rows, pgx.RowTo[uint32])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: read the register of tables: %w", err)
	}
	return oids, nil
}

// Leader names who holds the lead, for people; "" where that is not to be seen.
func (s *Session) Leader(ctx context.Context) string {
	var who string
	err := s.conn.QueryRow(ctx, s.src.sql.leader, uint32(s.at.schema), uint32(leadLock)).Scan(&who)
	if err != nil {
		return ""
	}
	return who
}

// Watch makes the server end this session, and with it a relay's locks, within seconds of its client's
// machine vanishing, or once the client has asked nothing for idle. A session behind a pooler is refused.
func (s *Session) Watch(ctx context.Context, idle time.Duration) error {
	if s.pooled {
		return errPooled
	}
	_, err := s.conn.Exec(ctx, fmt.Sprintf("set tcp_keepalives_idle = 1; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 2; set tcp_user_timeout = '2s'; "+
		"set idle_session_timeout = %d", idle.Milliseconds()))
	if err != nil {
		return fmt.Errorf("outbox: watch the connection: %w", err)
	}
	return nil
}
