package wal

import (
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/psql"
	"github.com/pglockstep/lockstep/outbox"
)

//go:embed sql/*.sql
var files embed.FS

// Bell is the WAL bell: the value of Config.WAL.
type Bell struct {
	within time.Duration // instead of answersWithin, for tests; 0: not
}

var _ outbox.Doorbell = Bell{}

// Hang opens a replication connection as the pool would connect (its
// AfterConnect is left out: such a connection knows only the simple protocol),
// makes a temporary slot and reads it. It blocks until the transactions that
// are writing have ended; a server that does not answer is given up after answersWithin.
func (b Bell) Hang(ctx context.Context, d outbox.Door) (outbox.Ringer, error) {
	cc, err := d.Config(ctx)
	if err != nil {
		return nil, err
	}
	cc.RuntimeParams["replication"] = "database"
	s, err := connect(ctx, cmp.Or(b.within, answersWithin), cc, d)
	if err != nil {
		return nil, refusal(err, cc.User)
	}
	if err := s.begin(ctx, psql.Publication(d.Schema)); err != nil {
		s.end()
		return nil, refusal(err, cc.User)
	}
	reading, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.run(reading)
	return s, nil
}

// answersWithin bounds what needs nothing but a server that is there.
const answersWithin = 10 * time.Second

// connect makes the connection and asks whether it is of use.
func connect(ctx context.Context, within time.Duration, cc *pgx.ConnConfig, d outbox.Door) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, &cc.Config)
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, rings: make(chan struct{}, 1), lost: make(chan struct{}), log: d.Logger}
	if err := s.admit(ctx, d); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// begin makes the slot and returns once it is read.
func (s *stream) begin(ctx context.Context, publication string) error {
	slot := "lockstep_" + strings.ToLower(rand.Text())
	_, err := pglogrepl.CreateReplicationSlot(ctx, s.conn, slot, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Temporary: true, SnapshotAction: "NOEXPORT_SNAPSHOT", Mode: pglogrepl.LogicalReplication})
	if err != nil {
		return fmt.Errorf("make a slot: %w", err)
	}
	// Version 1 has no streaming: what is not committed is not sent.
	err = pglogrepl.StartReplication(ctx, s.conn, slot, 0, pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "publication_names " + strings.TrimSpace(psql.Literal(pgx.Identifier{publication}.Sanitize()))}})
	if err != nil {
		return fmt.Errorf("read the slot: %w", err)
	}
	return s.prove(ctx)
}

// admit asks for what would only show when the first commit is not heard of.
func (s *stream) admit(ctx context.Context, d outbox.Door) error {
	publication := psql.Publication(d.Schema)
	sql, err := psql.Render(files, "sql/published.sql", map[string]string{"schema": d.Schema, "publication": publication})
	if err != nil {
		return err
	}
	// No timeout of the server's defaults may cut the wait for the slot short.
	results, err := s.conn.Exec(ctx, "set statement_timeout = 0; set lock_timeout = 0; "+sql).ReadAll()
	if err != nil {
		return fmt.Errorf("ask for the publication: %w", err)
	}
	row := results[len(results)-1].Rows[0]
	standbys, own := string(row[2]), string(row[3])
	switch level, slots, published, cluster, standby := string(row[0]), string(row[1]), string(row[4]), string(row[5]), string(row[6]); {
	case cluster != d.Cluster || standby == "t":
		return errElsewhere
	case level != "logical":
		return refused("wal_level is %s, and must be logical (which takes a restart of Postgres)", level)
	case slots == "0":
		return refused("max_replication_slots is 0")
	case standsIn(standbys, own):
		return refused("synchronous_standby_names = %s would take it for a standby: name the standbys", standbys)
	case published != "t":
		return refused("publication %s of the outbox is not there: run lockstep install --bell wal", publication)
	}
	return nil
}

// standsIn reports whether commits would wait for the bell as for a standby, and
// take its word that they are safe: Postgres takes for one whoever reads the log
// under a listed application_name, and * lists all.
func standsIn(standbys, own string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(standbys, func(r rune) bool { return strings.ContainsRune(`,()"`, r) }), func(name string) bool {
		name = strings.TrimSpace(name)
		return name == "*" || strings.EqualFold(name, own)
	})
}

// prove waits for the server's first answer.
func (s *stream) prove(ctx context.Context) error {
	s.heard = time.Now()
	for !s.answered {
		if err := s.step(ctx); err != nil {
			return fmt.Errorf("read the slot: %w", err)
		}
	}
	return nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{outbox.ErrBellRefused}, args...)...)
}

// errElsewhere: the name leads to another server by now than the one that the session fetches from, which it will lose, or
// has. A standby's commits are others', too.
var errElsewhere = errors.New("the way to the server leads to another one now")

// refusal is an error of the server's as what it means for the bell. Those that say
// that the server goes down or comes up, and those of the network, are none.
func refusal(err error, role string) error {
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, outbox.ErrBellRefused):
		return err
	case !errors.As(err, &pgErr) || strings.HasPrefix(pgErr.Code, "57"):
		return fmt.Errorf("hang the WAL bell: %w", err)
	case pgErr.Code == "42501":
		return refused("role %s needs REPLICATION (%s)", role, pgErr.Message)
	case pgErr.Code == "53400":
		return refused("no slot is free: raise max_replication_slots (%s)", pgErr.Message)
	case pgErr.Code == "53300":
		return refused("no walsender is free: raise max_wal_senders (%s)", pgErr.Message)
	case pgErr.Code == "08P01":
		return refused("a replication connection does not pass: is there a pooler in front? (%s)", pgErr.Message)
	}
	return refused("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
}
