package outbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// The fetch is one pipeline, so one round trip (two where the catalogue has changed):
//
//	header            the snapshot is taken here
//	draw              if asked for
//	fingerprints      if asked for
//	events
//
// What is sent before the pipeline's one Sync is one transaction (PostgreSQL
// manual, "Pipelining"). Its isolation is the session's default, REPEATABLE READ,
// so it has one snapshot without BEGIN and COMMIT, which BenchmarkFetch shows. The
// header says whether it was so. Not SERIALIZABLE: that would make writers fail.

const beginSQL = "begin isolation level repeatable read, read only"

const drawSQL = "select pg_current_xact_id()::text::bigint"

// fetcher runs pipelines on one connection. Its statements are prepared once,
// unless the connection is a pooler's: a name would be known to one server process only.
type fetcher struct {
	pg *pgconn.PgConn

	header, draw, fingerprints, plainFingerprints, events, eventsAfter, last statement

	plain map[uint32]string // the fingerprints, by oid, of tables that have no partitions and no types but Postgres' own

	byHand bool // transactions are begun by hand: the session's default does not reach them
}

type statement struct {
	name, sql string
	params    []uint32 // types, all sent in binary
	sd        *pgconn.StatementDescription
}

var binaryFormats = []int16{1}

func newFetcher(conn *pgx.Conn, sql statements) *fetcher {
	return &fetcher{
		pg:                conn.PgConn(),
		plain:             make(map[uint32]string),
		header:            statement{name: "lockstep_header", sql: sql.header},
		draw:              statement{name: "lockstep_draw", sql: drawSQL},
		fingerprints:      statement{name: "lockstep_fingerprints", sql: sql.fingerprints, params: []uint32{pgtype.OIDArrayOID}},
		plainFingerprints: statement{name: "lockstep_fingerprints_plain", sql: sql.plainFingerprints, params: []uint32{pgtype.OIDArrayOID}},
		last:              statement{name: "lockstep_last", sql: sql.last},
		events:            statement{name: "lockstep_events", sql: sql.events, params: []uint32{pgtype.XID8OID, pgtype.XID8ArrayOID}},
		eventsAfter:       statement{name: "lockstep_events_after", sql: sql.eventsAfter, params: []uint32{pgtype.XID8OID}},
	}
}

// prepare parses the statements, at the first fetch of a connection.
func (f *fetcher) prepare(ctx context.Context) (err error) {
	for _, s := range []*statement{&f.header, &f.draw, &f.fingerprints, &f.plainFingerprints, &f.last, &f.events, &f.eventsAfter} {
		if s.sd != nil {
			continue
		}
		if s.sd, err = f.pg.Prepare(ctx, s.name, s.sql, s.params); err != nil {
			return fmt.Errorf("outbox: prepare the fetch: %w", err)
		}
	}
	return nil
}

// allPlain reports whether all of these relations, by oid, are known to be plain.
func (f *fetcher) allPlain(oids []uint32) bool {
	for _, oid := range oids {
		if _, ok := f.plain[oid]; !ok {
			return false
		}
	}
	return true
}

// learn notes the fingerprint of a relation that is plain, or that it is not.
func (f *fetcher) learn(oid uint32, fingerprint string, plain bool) {
	delete(f.plain, oid)
	if plain {
		f.plain[oid] = fingerprint
	}
}

// send queues the statement.
func (s *statement) send(p *pgconn.Pipeline, params [][]byte, results []int16) {
	if s.sd == nil {
		p.SendQueryParams(s.sql, params, s.params, binaryFormats[:min(1, len(params))], results)
		return
	}
	p.SendQueryStatement(s.sd, params, binaryFormats[:min(1, len(params))], results)
}

// next is the next result of a pipeline, which must be one with rows.
func next(p *pgconn.Pipeline) (*pgconn.ResultReader, error) {
	r, err := p.GetResults()
	if err != nil {
		return nil, err
	}
	rr, ok := r.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("outbox: a pipeline answered %T", r)
	}
	return rr, nil
}

// skip passes over n results without rows.
func skip(p *pgconn.Pipeline, n int) error {
	for range n {
		rr, err := next(p)
		if err != nil {
			return err
		}
		if _, err = rr.Close(); err != nil {
			return err
		}
	}
	return nil
}

// errCatalogue means that a table's fingerprint has changed, or what it is made of: it is to be read from everything again.
var errCatalogue = errors.New("the catalogue has changed")

// errNotOneSnapshot means that the statements of a fetch did not share one.
var errNotOneSnapshot = errors.New("its transaction was not REPEATABLE READ")

// one calls fn with the only row of the next result.
func one(p *pgconn.Pipeline, fn func(values [][]byte) error) error {
	rr, err := next(p)
	if err != nil {
		return err
	}
	found := false
	for rr.NextRow() {
		found = true
		if err = fn(rr.Values()); err != nil {
			break
		}
	}
	if _, closeErr := rr.Close(); err == nil {
		err = closeErr
	}
	if err == nil && !found {
		return errors.New("outbox: the schema's own rows are gone: run lockstep install")
	}
	return err
}

// headerFormats are those in which header.sql is asked for: numbers and times in binary.
var headerFormats = []int16{0, 1, 1, 0, 0, 1, 1, 1, 0, 0}

// readHeader reads the head of a fetch. Who has put another bell in place since the
// session began has switched the one off that it hears; and among other standbys the
// WAL bell may not be wanted any more.
func (f *fetch) readHeader(v [][]byte) error {
	if err := readHeader(v, &f.header); err != nil {
		return err
	}
	switch now := (installed{bell: string(v[8]), standbys: string(v[9])}); {
	case now.bell != f.installed.bell:
		return fmt.Errorf("%w from %s to %s", ErrBellChanged, f.installed.bell, now.bell)
	case now != f.installed:
		return fmt.Errorf("%w: synchronous_standby_names was %q and is %q", ErrBellChanged, f.installed.standbys, now.standbys)
	}
	return nil
}

func readHeader(v [][]byte, h *Header) (err error) {
	if len(v) != len(headerFormats) || len(v[1]) != 8 || len(v[2]) != 8 || len(v[5]) != 4 || len(v[6]) != 4 || len(v[7]) != 8 {
		return errors.New("outbox: the header has another shape")
	}
	if string(v[4]) != "repeatable read" {
		return errNotOneSnapshot
	}
	if err := readable(int(binary.BigEndian.Uint32(v[5])), int(binary.BigEndian.Uint32(v[6]))); err != nil {
		return err
	}
	if h.Snapshot, err = ParsePosition(string(v[0])); err != nil {
		return err
	}
	h.MinNode = int(binary.BigEndian.Uint32(v[6]))
	h.LastSeq = int64(binary.BigEndian.Uint64(v[1]))
	h.Horizon = binary.BigEndian.Uint64(v[2])
	h.Clock = readTime(v[7])
	if h.History, err = uuid.ParseBytes(v[3]); err != nil {
		return fmt.Errorf("outbox: the history id %q: %w", v[3], err)
	}
	return nil
}

// readable says whether this package can read a schema of a version, which
// needs nodes of minNode and later.
func readable(version, minNode int) error {
	if minNode <= NodeVersion {
		return nil
	}
	return fmt.Errorf("%w: it is of version %d and needs nodes of version %d, this one is %d: deploy a newer node", ErrSchema, version, minNode, NodeVersion)
}

// epoch is Postgres' time zero, in microseconds since 1970.
const epoch = 946684800_000_000

// eventColumns is how many columns an event has.
const eventColumns = 7

func readEvent(v [][]byte, ev *Event, names map[string]string) error {
	if len(v) != eventColumns || len(v[0]) != 8 || len(v[1]) != 8 || len(v[3]) != 1 || len(v[4]) != 1 || len(v[6]) != 8 {
		return errors.New("outbox: a row of the outbox has another shape")
	}
	ev.Seq = int64(binary.BigEndian.Uint64(v[0]))
	ev.Xid = binary.BigEndian.Uint64(v[1])
	name, ok := names[string(v[2])] // no allocation for a name seen before
	if !ok {
		name = string(v[2])
		names[name] = name
	}
	ev.Table = name
	ev.Op = Op(v[3][0])
	ev.Lead = v[4][0] != 0
	ev.Row = v[5]
	ev.At = readTime(v[6])
	return nil
}

// readTime reads a timestamptz of 8 bytes.
func readTime(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + epoch)
}
