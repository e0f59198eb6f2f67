package replay

import (
	"context"
	"log/slog"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// Source opens sessions on the log. The engine does no I/O but through it, so
// that order, gaps and failures are tested against a fake. One that is an io.Closer is closed
// after the last session.
type Source interface {
	// Open connects: first the bell, then the fetches, so that nothing that
	// commits after Open has returned goes unheard. It refuses what cannot be
	// followed at all (a standby, a schema of another version, another cluster
	// than the outbox was installed in).
	Open(ctx context.Context) (Session, error)
}

// Registrar is a Source that has a way of its own to the register of nodes.
type Registrar interface {
	// Enroll writes the node's row, as outbox.Enroll does, in the life of the server that the session at the time of the
	// call follows. It returns when ctx ends, at the latest. An error says that it may not have been written, or may be yet:
	// whoever wants it written does that directly. It may be called by any goroutine, between and beside sessions.
	Enroll(ctx context.Context, row outbox.NodeRow) (beat time.Time, err error)
}

// Direct is the outbox itself as a Source.
func Direct(src *outbox.Source) Source { return direct{src} }

type direct struct{ src *outbox.Source }

func (d direct) Open(ctx context.Context) (Session, error) {
	s, err := d.src.Open(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Feed is another way to follow than to ask Postgres each time; only those
// programs link one that name it: stream.Source.
type Feed interface {
	// Over makes a Source that follows the feed, and asks Postgres, through direct, for
	// what it does not bring. The logger hears of switches between the two.
	Over(direct *outbox.Source, log *slog.Logger) (Source, error)
}

// Session is one life of the connections to the log. Its methods are called
// by one goroutine, and never again after one of them has failed, but for Close,
// or where the failure was an *outbox.BusyError.
type Session interface {
	// Rings tells that there may be something to fetch. It is a hint: it may
	// come late, twice, forged or not at all. It is never closed.
	Rings() <-chan struct{}
	// Lost is closed when the bell's connection has ended.
	Lost() <-chan struct{}
	// Bell names the doorbell in use: "wal", "notify", "poll", "stream". It may change
	// while the session lives.
	Bell() string
	// WhyBell says why it is not a better one, "" where there is nothing to say.
	WhyBell() string
	// Identity names the server's cluster, database and schema: a position of
	// another one says nothing about this one.
	Identity() string
	// Missing returns those of the anchors that the outbox does not hold with
	// the same transaction id, sequence number and time.
	Missing(ctx context.Context, anchors []outbox.Anchor) ([]outbox.Anchor, error)
	// Beat returns the time that the last row attested by this node (Engine.Attest)
	// has on this server; zero: there is none.
	Beat(ctx context.Context) (time.Time, error)
	// Still reports whether no sequence number has been handed out since lastSeq was the
	// highest, as of after the call began. It may say no where it does not know.
	Still(ctx context.Context, lastSeq int64) (bool, error)
	// Fetch brings one cut to the sink. An error that wraps outbox.ErrMoved says that
	// nothing has failed and another session is to go on.
	Fetch(ctx context.Context, req outbox.Request, sink outbox.Sink) error
	// Close ends the connections and waits for whatever the session runs.
	Close()
}

// Rester is a Session whose bell may rest.
type Rester interface {
	// Rest takes the bell down while whoever drives the session fetches all the time anyway, if it has a price for
	// the server with each transaction, or hangs it again. It reports whether it is down, and does not block.
	Rest(rest bool) bool
}
