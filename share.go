package lockstep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// SharedCut is one instant of a node and of Postgres: what View shows is what a
// transaction sees that imports the snapshot (SET TRANSACTION SNAPSHOT). The
// tables that it was made for are locked (ACCESS SHARE), so that they can
// neither be emptied nor altered, and Postgres keeps the rows of its instant, until Close.
type SharedCut struct {
	View     *View
	Position Position // of the node
	Snapshot Position // the snapshot that both show
	Name     string   // under which the snapshot is exported

	problems map[int]error
	reading  *outbox.Reading
	session  *outbox.Session // the cut's own; nil where it is the auditor's
}

// shareWait is how long a cut may be waited for while its tables are locked.
const shareWait = 5 * time.Second

var errNoCut = fmt.Errorf("the node has made no cut for %v: its status says why", shareWait)

// ShareCut makes an instant of this node and of Postgres that both show
// exactly, however much is written meanwhile: to hold the one against the
// other, row by row. tables are those that will be read, all of them where none
// is named. It has a connection of its own until Close, and holds up the node for one
// round trip. Where the node has to read a table just then it tries again, until ctx
// ends; where it makes no cut for 5 s, while Postgres is away for it say, that is the error. ErrTable names a table that is not kept right.
func (n *Node) ShareCut(ctx context.Context, tables ...AnyTable) (*SharedCut, error) {
	if n.pool == nil {
		return nil, errors.New("lockstep: share a cut: there is no Postgres behind this node")
	}
	var which []int
	for i := range n.tables {
		which = append(which, i)
	}
	if len(tables) > 0 {
		which = which[:0]
	}
	for _, t := range tables {
		i, err := n.indexOf(t)
		if err != nil {
			return nil, err
		}
		which = append(which, i)
	}
	var cut *SharedCut
	err := replay.UntilShared(ctx, func() (err error) {
		cut, err = n.shareOnce(ctx, which)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lockstep: share a cut: %w", err)
	}
	return cut, nil
}

func (n *Node) shareOnce(ctx context.Context, which []int) (*SharedCut, error) {
	src, err := n.readingSource()
	if err != nil {
		return nil, err
	}
	session, err := src.Open(ctx)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller does
	}
	cut, err := n.share(ctx, session, which)
	if err == nil {
		for _, i := range which {
			err = errors.Join(err, cut.problem(i))
		}
		if err == nil {
			cut.session = session
			return cut, nil
		}
		cut.View.Close()
	}
	session.Close()
	return nil, err
}

// problem says why a table cannot be compared at the cut, or nil.
func (c *SharedCut) problem(table int) error {
	if p := errors.Join(c.problems[table], c.reading.Problem(table)); p != nil {
		return fmt.Errorf("%w: %w", ErrTable, p)
	}
	return nil
}

// Close ends it. The view is closed as well.
func (c *SharedCut) Close() {
	c.View.Close()
	if c.session != nil {
		c.session.Close() // which ends the transaction
	}
}

// readingSource opens sessions on which tables are read beside the node's own.
func (n *Node) readingSource() (*outbox.Source, error) {
	cfg := n.sourceConfig(n.tables)
	cfg.Bell = outbox.BellPoll // nobody listens
	for i, t := range n.tables {
		cfg.Tables[i].Columns = t.pick // what the node knows of its columns is for its own loads to tell
	}
	return outbox.NewSource(cfg) //nolint:wrapcheck // the caller does
}

// share makes a cut with a transaction on the session. Where it fails the
// session is good for Close only, unless it is in no transaction any more.
func (n *Node) share(ctx context.Context, session *outbox.Session, which []int) (*SharedCut, error) {
	reading, err := session.Read(ctx, "", which...)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller does
	}
	shared, name, err := n.engine.ShareReading(ctx, reading, shareWait, errNoCut)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller does
	}
	return &SharedCut{
		View: shared.View, Position: shared.Position, Snapshot: shared.Snapshot, Name: name, problems: shared.Problems, reading: reading,
	}, nil
}
