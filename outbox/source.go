package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/outbox/rowjson"
)

// Source opens sessions on the outbox of one database. It is safe for one user
// at a time.
type Source struct {
	cfg Config
	sql statements
	// tables is what the last load saw of each table; nil before it.
	tables []*described
	// untimed: connections ask for newTimeout to be off, since one was found with it.
	untimed bool
}

// NewSource checks the configuration; it does not connect.
func NewSource(cfg Config) (*Source, error) {
	cfg = cfg.withDefaults()
	if cfg.Pool == nil {
		return nil, errors.New("outbox: Config.Pool is nil")
	}
	switch cfg.Bell {
	case BellAuto, BellNotify, BellPoll:
	case BellWAL:
		if cfg.WAL == nil {
			return nil, fmt.Errorf("outbox: bell %q needs Config.WAL: wal.Bell{} of package outbox/wal", BellWAL)
		}
	default:
		return nil, fmt.Errorf("outbox: bell %q: want %q, %q, %q or %q", cfg.Bell, BellAuto, BellNotify, BellWAL, BellPoll)
	}
	sql, err := loadStatements(cfg.Schema)
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, sql: sql, tables: make([]*described, len(cfg.Tables))}, nil
}

// Session is one life of the connections: one that fetches and, unless it
// polls, one on which the bell rings.
type Session struct {
	src       *Source
	conn      *pgx.Conn
	installed installed
	belfry    belfry
	fast      *fetcher
	// pooled: the connection does not keep our settings (connect).
	pooled   bool
	identity string
	at       place
	// decoders by table; made at first use, dropped when a load describes the table anew.
	decoders []*rowjson.Decoder
}

// installed is what decides which bell can hang. A session ends when it changes.
type installed struct {
	bell     string // that the database was installed with
	standbys string // synchronous_standby_names, where the bell is wal
}

// place is where the log lies.
type place struct {
	cluster        int64 // the system identifier
	schema, outbox int64 // oids
}

// Open connects, refuses what cannot be followed (ErrStandby, ErrNotInstalled,
// ErrSchema, ErrForeignCluster), and listens before it returns: nothing that
// commits afterwards goes unheard.
func (s *Source) Open(ctx context.Context) (*Session, error) {
	session, err := s.OpenSilent(ctx)
	if err != nil {
		return nil, err
	}
	if err := session.Hang(ctx); err != nil {
		closeConn(session.conn)
		return nil, err
	}
	return session, nil
}

// OpenSilent is Open for a session without a bell: what commits is heard of in
// another way, or at the next fetch.
func (s *Source) OpenSilent(ctx context.Context) (*Session, error) {
	conn, pooled, err := s.connect(ctx, "fetch")
	if err != nil {
		return nil, err
	}
	if pooled {
		s.cfg.Logger.Info("the connection does not keep its settings (a pooler in front, or AfterConnect changes them): they are made in each transaction")
	}
	session := &Session{src: s, conn: conn, pooled: pooled, fast: newFetcher(conn, s.sql)}
	var at place
	err = session.within(ctx, func() (err error) {
		at, session.installed, session.identity, err = s.admit(ctx, conn)
		return err
	})
	if err != nil {
		closeConn(conn)
		return nil, err
	}
	session.at = at
	return session, nil
}

// admit asks what only needs to be asked once a connection.
func (s *Source) admit(ctx context.Context, conn *pgx.Conn) (at place, has installed, identity string, err error) {
	var standby bool
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
		return at, has, "", fmt.Errorf("outbox: ask for recovery: %w", err)
	}
	if standby {
		return at, has, "", fmt.Errorf("outbox: %w", ErrStandby)
	}
	var version, minNode int
	var made, here, database int64
	err = conn.QueryRow(ctx, s.sql.open).Scan(&standby, &version, &minNode, &made, &here, &at.schema, &at.outbox, &has.bell, &database, &has.standbys)
	var pgErr *pgconn.PgError
	if absent := notInstalled(err, s.cfg.Schema); errors.Is(absent, ErrNotInstalled) {
		return at, has, "", fmt.Errorf("outbox: %w", absent)
	}
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "42501":
		return at, has, "", fmt.Errorf("outbox: the role may not read schema %s: give it the reader's grants, triggers/sql/grants_reader.sql (lockstep doctor prints the command): %w", s.cfg.Schema, err)
	case err != nil:
		return at, has, "", fmt.Errorf("outbox: read schema %s: %w", s.cfg.Schema, err)
	case readable(version, minNode) != nil:
		return at, has, "", fmt.Errorf("outbox: schema %s: %w", s.cfg.Schema, readable(version, minNode))
	case made != here:
		return at, has, "", fmt.Errorf("outbox: %w (%d, this is %d): if this copy is the one to use, run lockstep install --new-history", ErrForeignCluster, made, here)
	}
	at.cluster = here
	return at, has, fmt.Sprintf("cluster %d, database %d, schema %d", uint64(here), database, at.schema), nil
}

// notInstalled is an error of reading the schema's own tables, as
// ErrNotInstalled where it means that.
func notInstalled(err error, schema string) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000") || errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w (schema %s): run lockstep install", ErrNotInstalled, schema)
	}
	return err
}

// Missing returns those of the anchors that the outbox does not hold with the
// same transaction id, sequence number and time.
func (s *Session) Missing(ctx context.Context, anchors []Anchor) ([]Anchor, error) {
	if len(anchors) == 0 {
		return nil, nil
	}
	var places []int
	err := s.within(ctx, func() error {
		rows, err := s.conn.Query(ctx, s.src.sql.missing, xids(anchors), seqs(anchors), times(anchors))
		if err != nil {
			return err
		}
		places, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: look for the anchor: %w", err)
	}
	missing := make([]Anchor, len(places))
	for i, n := range places {
		missing[i] = anchors[n-1]
	}
	return missing, nil
}

// Beat returns the time of the node's last row in the register, zero if there is none.
func (s *Session) Beat(ctx context.Context) (at time.Time, err error) {
	err = s.within(ctx, func() error {
		return s.conn.QueryRow(ctx, "select n.beat from "+pgx.Identifier{s.src.cfg.Schema, "nodes"}.Sanitize()+" n where n.name = $1", s.src.cfg.Node).Scan(&at)
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, fmt.Errorf("outbox: look for the node's row: %w", err)
	}
	return at, nil // zero if there is no row
}

// Identity names the cluster by its system identifier, and the database and the
// schema by their oids: a position of another one says nothing about this server.
func (s *Session) Identity() string { return s.identity }

// Close ends both connections and waits until whatever rings has stopped.
func (s *Session) Close() {
	s.belfry.close()
	closeConn(s.conn)
}
