package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// ackQuiet is how often the server is told how far the log is read, and
	// asked for a sign of life, while nothing happens.
	ackQuiet = 3 * time.Second
	// ackBusy is how soon after a ring it is told: the log before it can go.
	ackBusy = time.Second
	// deaf is how long a server may be silent. In the middle of the commit of a
	// very large transaction it answers at half of wal_sender_timeout, 30 s.
	deaf = 90 * time.Second
)

// errGone ends a stream whose server does not answer.
var errGone = errors.New("the server does not answer")

// stream is a slot being read. All but rings and lost belongs to one goroutine.
type stream struct {
	conn   *pgconn.PgConn
	rings  chan struct{}
	lost   chan struct{}
	cancel context.CancelFunc
	log    *slog.Logger

	read     pglogrepl.LSN // the log before it is not needed any more
	due      time.Time     // when to acknowledge
	heard    time.Time     // when something last came
	answered bool          // the server has answered a question
	touched  bool          // the transaction being sent wrote the outbox
}

// run turns commits into rings until the connection ends. The first ring is for
// what was committed before the slot began.
func (s *stream) run(ctx context.Context) {
	defer close(s.lost)
	s.ring()
	for {
		if err := s.step(ctx); err != nil {
			if ctx.Err() == nil {
				s.log.Warn("the WAL bell has lost its connection", "error", err)
			}
			return
		}
	}
}

// step takes a message, or acknowledges what was read when that is due.
func (s *stream) step(ctx context.Context) error {
	if !time.Now().Before(s.due) {
		return s.acknowledge()
	}
	return s.receive(ctx)
}

// receive takes one message, if one comes before the next acknowledgement is due.
func (s *stream) receive(ctx context.Context) error {
	waiting, cancel := context.WithDeadline(ctx, s.due)
	defer cancel()
	msg, err := s.conn.ReceiveMessage(waiting)
	now := time.Now()
	switch {
	case err == nil:
		s.heard = now
		return s.take(msg)
	case ctx.Err() != nil || !pgconn.Timeout(err):
		return err
	case now.Sub(s.heard) > deaf:
		return errGone
	}
	return nil
}

// take takes a message of the server's. Of what is published only two things
// matter: that there was something, and that it was committed.
func (s *stream) take(msg pgproto3.BackendMessage) error {
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return s.takeCopy(msg.Data)
	case *pgproto3.ErrorResponse:
		return pgconn.ErrorResponseToPgError(msg)
	case *pgproto3.CopyDone:
		return errors.New("the server has ended the replication")
	}
	return nil // notices and settings
}

func (s *stream) takeCopy(data []byte) error {
	if len(data) == 0 {
		return errors.New("an empty message in the log")
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("a keepalive: %w", err)
		}
		s.answered = true
		s.read = max(s.read, k.ServerWALEnd)
		if k.ReplyRequested {
			s.due = time.Now()
		}
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil || len(x.WALData) == 0 {
			return fmt.Errorf("a message of %d bytes in the log: %w", len(data), err)
		}
		s.read = max(s.read, x.WALStart) // of a commit: the end of its record
		s.change(pglogrepl.MessageType(x.WALData[0]))
	}
	return nil
}

// change takes what stands in the log. A transaction's messages come together,
// after its commit. Before version 15 those without a change come as well.
func (s *stream) change(kind pglogrepl.MessageType) {
	switch kind {
	case pglogrepl.MessageTypeBegin:
		s.touched = false
	case pglogrepl.MessageTypeInsert:
		s.touched = true
	case pglogrepl.MessageTypeCommit:
		if !s.touched {
			return
		}
		s.ring()
		if soon := time.Now().Add(ackBusy); soon.Before(s.due) {
			s.due = soon
		}
	}
}

func (s *stream) ring() {
	select {
	case s.rings <- struct{}{}:
	default:
	}
}

// acknowledge tells the server that whatever was read is not needed any more:
// a ring that is lost costs a beat. It asks for an answer, since a half-open
// connection would be silent.
func (s *stream) acknowledge() error {
	s.due = time.Now().Add(ackQuiet)
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn,
		pglogrepl.StandbyStatusUpdate{WALWritePosition: s.read, ReplyRequested: true})
	if err != nil {
		return fmt.Errorf("acknowledge the log: %w", err)
	}
	return nil
}

// Rings implements outbox.Ringer.
func (s *stream) Rings() <-chan struct{} { return s.rings }

// Lost implements outbox.Ringer.
func (s *stream) Lost() <-chan struct{} { return s.lost }

// Close implements outbox.Ringer. A server that is well has dropped the slot when it returns.
func (s *stream) Close() {
	s.cancel()
	<-s.lost
	s.end()
}

// end ends the connection, and does not wait long for a server that is gone. One
// that is well closes its side once it has dropped the slot.
func (s *stream) end() {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if socket := s.conn.Conn(); !s.conn.IsClosed() && socket.SetDeadline(time.Now().Add(patience)) == nil {
		s.conn.Frontend().Send(&pgproto3.Terminate{})
		if s.conn.Frontend().Flush() == nil {
			_, _ = io.Copy(io.Discard, socket) // until it is closed, or patience ends
		}
	}
	_ = s.conn.Close(ctx) // it is over either way
	select {
	case <-s.conn.CleanupDone(): // what a cancelled call has left to do
	case <-ctx.Done():
	}
}
