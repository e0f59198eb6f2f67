package outbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/psql"
	"github.com/pglockstep/lockstep/outbox/rowjson"
)

// Fetch brings one cut to the sink, in one round trip; one that loads or
// rereads, or finds that the catalogue has changed, takes more. After an error the session can only be closed.
func (s *Session) Fetch(ctx context.Context, req Request, sink Sink) error {
	if !s.pooled {
		if err := s.fast.prepare(ctx); err != nil {
			return err
		}
	}
	f := &fetch{Session: s, req: req, sink: sink, names: map[string]string{}}
	f.header.Began = time.Now()
	f.index()
	var err error
	if len(req.Reload) == 0 && len(req.Reread) == 0 && !req.From.IsZero() {
		err = f.follow(ctx)
	} else {
		err = f.load(ctx)
	}
	return err
}

// Still reports whether no sequence number has been handed out since lastSeq was the highest. Sequences know no
// transactions: whoever has captured a change, and committed it before the call or not, has drawn a
// number that is seen. It costs the server a fraction of a fetch. Behind a pooler it always says no.
func (s *Session) Still(ctx context.Context, lastSeq int64) (still bool, err error) {
	if s.pooled || s.fast.last.sd == nil {
		return false, nil
	}
	r := s.fast.pg.ExecStatement(ctx, s.fast.last.sd, nil, nil, binaryFormats).Read()
	if err = r.Err; err == nil && len(r.Rows) != 1 {
		err = fmt.Errorf("the sequence has %d rows", len(r.Rows))
	}
	var last uint64
	if err == nil {
		last, err = pgtypeUint64(r.Rows[0])
	}
	if err != nil {
		return false, fmt.Errorf("outbox: look for new numbers: %w", err)
	}
	return last == uint64(lastSeq), nil
}

// fetch is one call of Fetch.
type fetch struct {
	*Session
	req    Request
	sink   Sink
	header Header
	names  map[string]string // interned table names
	byName map[string]int    // registered name to index
	reread map[int][][]byte  // key documents by table
}

// Relations are the followed tables by oid, as their last load saw them; 0 for
// one that has not been loaded.
func (s *Session) Relations() []uint32 {
	oids := make([]uint32, len(s.src.tables))
	for i, d := range s.src.tables {
		if d != nil {
			oids[i] = d.relid
		}
	}
	return oids
}

// Hand gives the sink a cut that came another way, as Fetch gives what it reads:
// rows are decoded along what the last load saw of their table. Events come in order of
// Seq. It asks nothing of the server, and may be called after Close; Request.Reread
// and Reload are not for it.
func (s *Session) Hand(h *Header, events []Event, sink Sink) error {
	f := &fetch{Session: s, sink: sink}
	f.index()
	if err := sink.Begin(h); err != nil {
		return err
	}
	for i := range events {
		if err := f.event(&events[i]); err != nil {
			return err
		}
	}
	return nil
}

// index maps registered names to the tables that can be decoded.
func (f *fetch) index() {
	f.byName = make(map[string]int, len(f.src.tables))
	for i, d := range f.src.tables {
		if d != nil {
			f.byName[d.registered] = i
		}
	}
}

// follow is the fetch of a cut from the log alone. Where the session's own
// settings do not reach the transaction (a pooler hands out others' connections),
// it says so in the header, and is begun by hand from then on.
func (f *fetch) follow(ctx context.Context) error {
	byHand := f.pooled || f.fast.byHand || f.req.Snapshot != ""
	err := f.pipeline(ctx, byHand)
	if errors.Is(err, errNotOneSnapshot) && !byHand {
		f.fast.byHand, byHand = true, true
		err = f.pipeline(ctx, byHand)
	}
	if errors.Is(err, errCatalogue) {
		err = f.pipeline(ctx, byHand)
	}
	if err != nil {
		return fmt.Errorf("outbox: fetch: %w", err)
	}
	return nil
}

func (f *fetch) pipeline(ctx context.Context, byHand bool) error {
	var before, after []string
	if byHand {
		before, after = append(before, beginSQL), append(after, "commit")
	}
	if f.pooled { // many settings: they are not worth a message each
		if _, err := f.conn.Exec(ctx, f.begin()); err != nil {
			return err
		}
		before = nil
	}
	p := f.fast.pg.StartPipeline(ctx)
	if f.req.Snapshot != "" {
		before = append(before, "set transaction snapshot "+psql.Literal(f.req.Snapshot))
	}
	send := func(commands []string) {
		for _, sql := range commands {
			p.SendQueryParams(sql, nil, nil, nil, nil)
		}
	}
	send(before)
	if err := f.sendCut(p); err != nil {
		return errors.Join(err, p.Close())
	}
	send(after)
	err := p.Sync()
	if err == nil {
		err = skip(p, len(before))
	}
	if err == nil {
		err = f.readCut(p)
	}
	if err == nil {
		err = skip(p, len(after))
	}
	if closeErr := p.Close(); err == nil || closeErr != nil && errors.Is(err, errCatalogue) { // it is not to be tried again then
		err = closeErr
	}
	return err
}

// sendCut queues the statements of a cut after the transaction has begun.
func (f *fetch) sendCut(p *pgconn.Pipeline) error {
	f.fast.header.send(p, nil, headerFormats)
	if f.req.DrawXid {
		f.fast.draw.send(p, nil, binaryFormats)
	}
	if f.req.Catalogue {
		fingerprints := &f.fast.fingerprints
		if f.fast.allPlain(f.relations()) {
			fingerprints = &f.fast.plainFingerprints
		}
		if err := f.sendFingerprints(p, fingerprints); err != nil {
			return err
		}
	}
	return f.sendEvents(p)
}

func (f *fetch) sendEvents(p *pgconn.Pipeline) error {
	from := f.req.From
	xmax := binary.BigEndian.AppendUint64(nil, from.xmax)
	if len(from.xip) == 0 {
		f.fast.eventsAfter.send(p, [][]byte{xmax}, binaryFormats)
		return nil
	}
	xip, err := f.conn.TypeMap().Encode(pgtype.XID8ArrayOID, pgtype.BinaryFormatCode, from.xip, nil)
	if err != nil {
		return fmt.Errorf("outbox: encode the position: %w", err)
	}
	f.fast.events.send(p, [][]byte{xmax, xip}, binaryFormats)
	return nil
}

// relations are those whose fingerprints are read, by oid.
func (f *fetch) relations() []uint32 {
	if f.req.Relations != nil {
		return f.req.Relations
	}
	return f.Relations()
}

func (f *fetch) sendFingerprints(p *pgconn.Pipeline, s *statement) error {
	oids, err := f.conn.TypeMap().Encode(pgtype.OIDArrayOID, pgtype.BinaryFormatCode, f.relations(), nil)
	if err != nil {
		return fmt.Errorf("outbox: encode table oids: %w", err)
	}
	s.send(p, [][]byte{oids}, []int16{0})
	return nil
}

// readCut reads what sendCut queued, up to the last event.
func (f *fetch) readCut(p *pgconn.Pipeline) error {
	if err := one(p, f.readHeader); err != nil {
		return err
	}
	if f.req.DrawXid {
		if err := one(p, f.readDrawn); err != nil {
			return err
		}
	}
	if f.req.Catalogue {
		if err := f.readFingerprints(p); err != nil {
			return err
		}
	}
	if err := f.sink.Begin(&f.header); err != nil {
		return err
	}
	return f.readEvents(p)
}

func (f *fetch) readDrawn(v [][]byte) error {
	xid, err := pgtypeUint64(v)
	f.header.Drawn = xid
	return err
}

func (f *fetch) readFingerprints(p *pgconn.Pipeline) error {
	oids := f.relations()
	f.header.Fingerprints = make([]string, len(oids))
	rr, err := next(p)
	if err != nil {
		return err
	}
	changed := false
	for rr.NextRow() {
		v := rr.Values()
		n, err := strconv.Atoi(string(v[0]))
		if err != nil || n < 1 || n > len(oids) {
			_, closeErr := rr.Close()
			return errors.Join(fmt.Errorf("outbox: fingerprint of table %q", v[0]), closeErr)
		}
		oid, fingerprint := oids[n-1], string(v[1])
		f.header.Fingerprints[n-1] = fingerprint
		if len(v) == 3 { // of fingerprints.sql
			f.fast.learn(oid, fingerprint, string(v[2]) == "t")
		} else if fingerprint != f.fast.plain[oid] {
			changed = true
		}
	}
	if _, err = rr.Close(); err == nil && changed {
		clear(f.fast.plain)
		return errCatalogue
	}
	return err
}

// readEvents streams the events to the sink. An error of the sink's ends the
// connection's use: the rest of the result is not worth reading.
func (f *fetch) readEvents(p *pgconn.Pipeline) error {
	rr, err := next(p)
	if err != nil {
		return err
	}
	var ev Event
	for rr.NextRow() {
		if err := readEvent(rr.Values(), &ev, f.names); err != nil {
			return f.abandon(rr, err)
		}
		if err := f.event(&ev); err != nil {
			return f.abandon(rr, err)
		}
	}
	_, err = rr.Close()
	return err
}

// abandon gives up a result that has been read in part; what is left of it is
// read and dropped, so that the session can be asked again.
func (f *fetch) abandon(rr *pgconn.ResultReader, cause error) error {
	_, err := rr.Close()
	return errors.Join(cause, err)
}

func (f *fetch) event(ev *Event) error {
	table, ok := f.byName[ev.Table]
	if !ok {
		return f.sink.Event(-1, ev, nil)
	}
	if ev.Row == nil {
		return f.sink.Event(table, ev, nil)
	}
	if packed(ev.Row) && ev.Op != Reload {
		return f.list(table, ev)
	}
	if ev.Op == Reload && slices.Contains(f.req.Reread, table) && !slices.Contains(f.req.Reload, table) {
		f.reread[table] = append(f.reread[table], slices.Clone(ev.Row))
	}
	row, err := f.decode(table, ev.Row)
	return f.decoded(table, ev, row, err)
}

// decoded gives the sink the event's row, or why there is none.
func (f *fetch) decoded(table int, ev *Event, row pgx.CollectableRow, err error) error {
	if r, ok := row.(*rowjson.Row); ok && err == nil {
		err = f.src.tables[table].whole(ev.Op, r)
	}
	if err != nil {
		row = badRow{err}
	}
	return f.sink.Event(table, ev, row)
}

// list gives the sink the changes that one row of the outbox holds, one by one. Where it is no list any more it ends:
// the table is no longer what the events say, and what came after would be of no use.
func (f *fetch) list(table int, ev *Event) error {
	var dec *rowjson.Decoder
	if !f.src.tables[table].document {
		var err error
		if dec, err = f.decoder(table); err != nil {
			return f.sink.Event(table, ev, badRow{err})
		}
	}
	one := *ev
	for list := rowjson.ListOf(ev.Row); ; one.Part++ {
		more, err := list.More()
		if err == nil && !more {
			return nil
		}
		var row pgx.CollectableRow
		switch {
		case err != nil:
		case dec == nil:
			if one.Row, err = list.Skip(); err == nil {
				row = f.document(one.Row)
			}
		default:
			one.Row, row, err = list.Decode(dec)
		}
		if gave := f.decoded(table, &one, row, err); gave != nil || err != nil {
			return gave
		}
	}
}

// decode makes a row of a document. It is good until the table's next one.
func (s *Session) decode(table int, doc []byte) (pgx.CollectableRow, error) {
	d := s.src.tables[table]
	if d.document {
		return s.document(doc), nil
	}
	dec, err := s.decoder(table)
	if err != nil {
		return nil, err
	}
	return dec.Decode(doc)
}

func (s *Session) document(doc []byte) pgx.CollectableRow {
	return &documentRow{raw: [1][]byte{doc}, tm: s.conn.TypeMap()}
}

// decoder is the table's decoder on this session's connection.
func (s *Session) decoder(table int) (*rowjson.Decoder, error) {
	if s.decoders == nil {
		s.decoders = make([]*rowjson.Decoder, len(s.src.tables))
	}
	if s.decoders[table] == nil {
		dec, err := rowjson.NewDecoder(s.conn.TypeMap(), s.src.tables[table].columns)
		if err != nil {
			return nil, fmt.Errorf("outbox: table %s: %w", s.src.tables[table].registered, err)
		}
		s.decoders[table] = dec
	}
	return s.decoders[table], nil
}

// formats are those in which a SELECT of the table must bring its columns.
func (s *Session) formats(table int) (pgx.QueryResultFormats, error) {
	if s.src.tables[table].document {
		return pgx.QueryResultFormats{pgx.TextFormatCode}, nil
	}
	dec, err := s.decoder(table)
	if err != nil {
		return nil, err
	}
	return dec.Formats(), nil
}

// badRow is a document that could not be read: whoever scans it gets the reason.
type badRow struct{ err error }

func (r badRow) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r badRow) RawValues() [][]byte                          { return nil }
func (r badRow) Values() ([]any, error)                       { return nil, r.err }
func (r badRow) Scan(...any) error                            { return r.err }
