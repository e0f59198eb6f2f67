package outbox

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/outbox/rowjson"
)

// rereadBatch is how many keys are asked for in one round trip.
const rereadBatch = 128

// rereadKeys reads the rows of a table that events named by key only.
func (f *fetch) rereadKeys(ctx context.Context, i int) error {
	d := f.src.tables[i]
	where := make([]string, len(d.key))
	for n, k := range d.key {
		where[n] = fmt.Sprintf("t.%s = $%d::%s", pgx.Identifier{k.Name}.Sanitize(), n+1, k.Type)
	}
	sql := "select " + d.list() + " from " + d.from() + " where " + strings.Join(where, " and ")
	keys, err := rowjson.NewDecoder(f.conn.TypeMap(), d.key)
	if err != nil {
		return fmt.Errorf("outbox: the key of %s: %w", d.registered, err)
	}
	formats, err := f.formats(i)
	if err != nil {
		return err
	}
	for docs := f.reread[i]; len(docs) > 0; {
		n := min(len(docs), rereadBatch)
		if err := f.rereadSome(ctx, i, sql, keys, formats, docs[:n]); err != nil {
			return fmt.Errorf("outbox: reread rows of %s: %w", d.registered, err)
		}
		docs = docs[n:]
	}
	return nil
}

func (f *fetch) rereadSome(ctx context.Context, i int, sql string, keys *rowjson.Decoder, formats pgx.QueryResultFormats, docs [][]byte) error {
	p := f.fast.pg.StartPipeline(ctx)
	asked := make([][]byte, 0, len(docs))
	for _, doc := range docs {
		key, err := keyOf(keys, doc)
		if err != nil {
			// Nobody can say which row it means: whoever scans the key learns why.
			if err := f.sink.Reread(i, badRow{err}, nil); err != nil {
				return closing(p, err)
			}
			continue
		}
		asked = append(asked, doc)
		fds := key.FieldDescriptions()
		oids, codes := make([]uint32, len(fds)), make([]int16, len(fds))
		for n, fd := range fds {
			oids[n], codes[n] = fd.DataTypeOID, fd.Format
		}
		p.SendQueryParams(sql, cloneAll(key.RawValues()), oids, codes, formats)
	}
	if err := p.Sync(); err != nil {
		return closing(p, err)
	}
	for _, doc := range asked {
		if err := f.rereadOne(p, i, doc); err != nil {
			return closing(p, err)
		}
	}
	return p.Close()
}

// keyOf reads the key columns of a document, all of which must be there.
func keyOf(keys *rowjson.Decoder, doc []byte) (*rowjson.Row, error) {
	key, err := keys.Decode(doc)
	if err != nil {
		return nil, fmt.Errorf("outbox: the key of a row to be read again: %w", err)
	}
	for i, v := range key.RawValues() {
		if v == nil {
			return nil, fmt.Errorf("outbox: the document has no key column %s", key.FieldDescriptions()[i].Name)
		}
	}
	return key, nil
}

// rereadOne gives the sink the row of one key, or none.
func (f *fetch) rereadOne(p *pgconn.Pipeline, i int, doc []byte) error {
	rr, err := next(p)
	if err != nil {
		return err
	}
	key, err := f.decode(i, doc)
	if err != nil {
		return f.abandon(rr, err)
	}
	found := false
	for rr.NextRow() {
		found = true
		if err := f.sink.Reread(i, key, &wireRow{conn: f.conn, fields: rr.FieldDescriptions(), raw: rr.Values()}); err != nil {
			return f.abandon(rr, err)
		}
	}
	if _, err := rr.Close(); err != nil {
		return err
	}
	if !found {
		return f.sink.Reread(i, key, nil)
	}
	return nil
}

func closing(p *pgconn.Pipeline, cause error) error {
	if err := p.Close(); err != nil {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return cause
}

func cloneAll(values [][]byte) [][]byte {
	out := make([][]byte, len(values))
	for i, v := range values {
		if v != nil {
			out[i] = append([]byte{}, v...)
		}
	}
	return out
}

// wireRow is a row as it came over the wire.
type wireRow struct {
	conn   *pgx.Conn
	fields []pgconn.FieldDescription
	raw    [][]byte
}

func (r *wireRow) FieldDescriptions() []pgconn.FieldDescription { return r.fields }
func (r *wireRow) RawValues() [][]byte                          { return r.raw }
func (r *wireRow) Scan(dest ...any) error {
	return pgx.ScanRow(r.conn.TypeMap(), r.fields, r.raw, dest...)
}

// Values decodes each column as pgx does by default.
func (r *wireRow) Values() ([]any, error) {
	out := make([]any, len(r.raw))
	for i, b := range r.raw {
		if b == nil {
			continue
		}
		fd := r.fields[i]
		if t, ok := r.conn.TypeMap().TypeForOID(fd.DataTypeOID); ok {
			v, err := t.Codec.DecodeValue(r.conn.TypeMap(), fd.DataTypeOID, fd.Format, b)
			if err != nil {
				return nil, fmt.Errorf("outbox: column %s: %w", fd.Name, err)
			}
			out[i] = v
			continue
		}
		out[i] = string(b)
	}
	return out, nil
}
