package outbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/psql"
)

// newestEvents is how many events are looked at for Header.Newest, and
// newestTransactions how many transactions it holds at the most.
const (
	newestEvents       = 4096
	newestTransactions = 1000
)

// load is the fetch that reads tables: lock them, then take the snapshot, then
// everything else in it. A TRUNCATE or a rewrite that committed between the
// snapshot and the lock would read as an empty table (PostgreSQL manual,
// "Caveats" of MVCC).
func (f *fetch) load(ctx context.Context) error {
	problems, err := f.lock(ctx)
	if err != nil {
		return err
	}
	if err := f.loadHeader(ctx, problems); err != nil {
		return fmt.Errorf("outbox: load: %w", err)
	}
	if f.req.MaxLoads > 0 {
		if err := f.turn(ctx); err != nil {
			return f.rollback(ctx, err)
		}
	}
	if err := f.sink.Begin(&f.header); err != nil {
		return f.rollback(ctx, err)
	}
	for _, i := range f.concerned() {
		if p := problems[i]; p != nil {
			if err := f.sink.Problem(i, p); err != nil {
				return f.rollback(ctx, err)
			}
		}
	}
	if err := f.loadRows(ctx, problems); err != nil {
		return f.rollback(ctx, err)
	}
	if _, err := f.conn.Exec(ctx, "commit"); err != nil {
		return fmt.Errorf("outbox: load: %w", err)
	}
	return nil
}

// concerned are the tables that are read, in ascending order so that two
// nodes never wait for each other's locks.
func (f *fetch) concerned() []int {
	all := slices.Concat(f.req.Reload, f.req.Reread)
	slices.Sort(all)
	return slices.Compact(all)
}

// lock begins the transaction with every table locked that can be. A table
// that is gone, or whose lock is not to be had in time, is a problem; the
// transaction is then begun again without it.
func (f *fetch) lock(ctx context.Context) (problems map[int]error, err error) {
	problems = make(map[int]error)
	for {
		failed, err := f.tryLock(ctx, problems)
		if err != nil || failed < 0 {
			return problems, err
		}
		if _, err := f.conn.Exec(ctx, "rollback"); err != nil {
			return nil, fmt.Errorf("outbox: load: %w", err)
		}
	}
}

// tryLock returns the table that failed, or -1.
func (f *fetch) tryLock(ctx context.Context, problems map[int]error) (int, error) {
	begin := fmt.Sprintf("%s; set local lock_timeout = %d", f.begin(), max(1, f.src.cfg.LockTimeout.Milliseconds())) // 0 would mean: for ever
	if f.req.Snapshot != "" {
		begin += "; set transaction snapshot " + psql.Literal(f.req.Snapshot)
	}
	targets, err := f.targets(ctx, problems)
	if err != nil {
		return -1, err
	}
	if _, err := f.conn.Exec(ctx, begin); err != nil {
		return -1, fmt.Errorf("outbox: load: %w", err)
	}
	for _, i := range f.concerned() {
		if problems[i] != nil {
			continue
		}
		// The simple protocol: nothing but the lock may happen here, no
		// statement may take the snapshot.
		_, err := f.conn.PgConn().Exec(ctx, "lock table "+targets[i].Sanitize()+" in access share mode").ReadAll()
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) {
			problems[i] = lockProblem(f.src.cfg.Tables[i].Name, pgErr)
			return i, nil
		}
		if err != nil {
			return -1, fmt.Errorf("outbox: load: %w", err)
		}
	}
	return -1, nil
}

// targets are the tables to lock. Those that are not there are problems.
func (f *fetch) targets(ctx context.Context, problems map[int]error) (map[int]pgx.Identifier, error) {
	targets := map[int]pgx.Identifier{}
	for _, i := range f.concerned() {
		if problems[i] != nil {
			continue
		}
		err := f.within(ctx, func() (err error) {
			targets[i], err = f.target(ctx, i)
			return err
		})
		switch {
		case errors.Is(err, ErrTable):
			problems[i] = err
		case err != nil:
			return nil, err
		}
	}
	return targets, nil
}

func lockProblem(table string, pgErr *pgconn.PgError) error {
	e := &TableError{Table: table, Why: "it cannot be locked for reading", Err: pgErr}
	switch pgErr.Code {
	case "55P03":
		e.Why, e.Err = "another transaction holds it locked (a migration?)", nil
	case "42501":
		e.Why, e.Err, e.Hint = "the role may not read it", nil, "GRANT SELECT ON "+table
	}
	return e
}

// loadHeader takes the snapshot and reads everything that Begin gets.
func (f *fetch) loadHeader(ctx context.Context, problems map[int]error) error {
	p := f.fast.pg.StartPipeline(ctx)
	f.fast.header.send(p, nil, headerFormats)
	if f.req.DrawXid {
		f.fast.draw.send(p, nil, binaryFormats)
	}
	err := p.Sync()
	if err == nil {
		err = one(p, f.readHeader)
	}
	if err == nil && f.req.DrawXid {
		err = one(p, f.readDrawn)
	}
	if closeErr := p.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if f.req.From.IsZero() {
		if err := f.newest(ctx); err != nil {
			return err
		}
	}
	for _, i := range f.concerned() {
		if problems[i] != nil {
			continue
		}
		d, err := f.describe(ctx, i)
		if errors.Is(err, ErrTable) {
			problems[i] = err
			continue
		}
		if err != nil {
			return err
		}
		f.src.tables[i] = d
		if f.decoders != nil {
			f.decoders[i] = nil
		}
		if _, err := f.formats(i); err != nil {
			problems[i] = &TableError{Table: f.src.cfg.Tables[i].Name, Why: "its rows cannot be read", Err: err}
		}
	}
	f.index()
	return f.fingerprintNow(ctx)
}

func (f *fetch) newest(ctx context.Context) error {
	rows, err := f.conn.Query(ctx, f.src.sql.newest, newestEvents)
	if err != nil {
		return err
	}
	f.header.Newest = nil
	var a Anchor
	_, err = pgx.ForEachRow(rows, []any{&a.Xid, &a.Seq, &a.At, &f.header.Older}, func() error {
		f.header.Newest = append(f.header.Newest, a)
		return nil
	})
	if err != nil {
		return err
	}
	if len(f.header.Newest) > 0 {
		f.header.HighestXid = f.header.Newest[0].Xid
	}
	if n := len(f.header.Newest); n > newestTransactions {
		f.header.Newest, f.header.Older = f.header.Newest[:newestTransactions], true
	}
	return nil
}

func (f *fetch) fingerprintNow(ctx context.Context) error {
	p := f.fast.pg.StartPipeline(ctx)
	err := f.sendFingerprints(p, &f.fast.fingerprints)
	if err == nil {
		err = p.Sync()
	}
	if err == nil {
		err = f.readFingerprints(p)
	}
	if closeErr := p.Close(); err == nil {
		err = closeErr
	}
	return err
}

// loadRows brings events, then the tables, then the rows to be reread.
func (f *fetch) loadRows(ctx context.Context, problems map[int]error) error {
	f.reread = make(map[int][][]byte)
	if !f.req.From.IsZero() {
		p := f.fast.pg.StartPipeline(ctx)
		err := f.sendEvents(p)
		if err == nil {
			err = p.Sync()
		}
		if err == nil {
			err = f.readEvents(p)
		}
		if closeErr := p.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("outbox: load: %w", err)
		}
	}
	// Tables are read in the order in which their rows lie. Not so the log, ever: the session keeps the plans of what it has
	// prepared, so none of that may run after this and be planned by it.
	if len(f.req.Reload) > 0 {
		if _, err := f.conn.PgConn().Exec(ctx, "set local enable_seqscan = on").ReadAll(); err != nil {
			return fmt.Errorf("outbox: load: %w", err)
		}
	}
	for _, i := range f.req.Reload {
		if problems[i] == nil {
			if err := f.loadTable(ctx, i); err != nil {
				return err
			}
		}
	}
	for _, i := range f.req.Reread {
		if problems[i] == nil && len(f.reread[i]) > 0 {
			if err := f.rereadKeys(ctx, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadTable streams a whole table, in the formats that its events are decoded to.
func (f *fetch) loadTable(ctx context.Context, i int) error {
	d := f.src.tables[i]
	formats, err := f.formats(i)
	if err != nil {
		return err
	}
	rows, err := f.conn.Query(ctx, "select "+d.list()+" from "+d.from(), pgx.QueryExecModeDescribeExec, formats)
	if err != nil {
		return fmt.Errorf("outbox: load table %s: %w", d.registered, err)
	}
	defer rows.Close()
	row := &loadRow{Rows: rows}
	for rows.Next() {
		if err := f.sink.Load(i, row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil && !row.unread {
		return fmt.Errorf("outbox: load table %s: %w", d.registered, err)
	}
	return nil
}

// loadRow is the row that the sink gets. pgx makes an error of Scan's that of
// the whole query; here it is the sink's, which has let the fetch go on: the other
// tables are not to suffer for one whose rows do not fit.
type loadRow struct {
	pgx.Rows
	unread bool
}

func (r *loadRow) Scan(dest ...any) error {
	err := r.Rows.Scan(dest...)
	r.unread = r.unread || err != nil
	return err //nolint:wrapcheck // pgx's own names the column
}

func (r *loadRow) Values() ([]any, error) {
	values, err := r.Rows.Values()
	r.unread = r.unread || err != nil
	return values, err //nolint:wrapcheck // pgx's own names the column
}

// rollback ends the transaction so that the session can be asked again.
func (f *fetch) rollback(ctx context.Context, cause error) error {
	if f.conn.PgConn().IsClosed() {
		return cause
	}
	if _, err := f.conn.Exec(ctx, "rollback"); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

func pgtypeUint64(v [][]byte) (uint64, error) {
	if len(v) != 1 || len(v[0]) != 8 {
		return 0, errors.New("outbox: a number has another shape")
	}
	return binary.BigEndian.Uint64(v[0]), nil
}
