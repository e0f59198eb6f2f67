package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/outbox/rowjson"
)

// described is a followed table as its last load saw it. It is immutable.
type described struct {
	relid       uint32
	schema      string
	name        string
	partitioned bool
	registered  string // the name that events carry
	columns     []rowjson.Column
	key         []rowjson.Column
	keyAt       []int // where the key's columns are among columns
	document    bool
	partial     bool // some columns are left out of capture
}

// from is the FROM item: a plain table without whatever might inherit from it.
func (d *described) from() string {
	quoted := pgx.Identifier{d.schema, d.name}.Sanitize()
	if d.partitioned {
		return quoted + " t"
	}
	return "only " + quoted + " t"
}

// list is the select list: what events can carry of the columns, or the document.
func (d *described) list() string {
	switch {
	case d.document && d.partial: // as capture makes it, column by column
		names := make([]string, len(d.columns))
		for i, c := range d.columns {
			names[i] = "t." + pgx.Identifier{c.Name}.Sanitize()
		}
		return "(select row_to_json(r.*) from (select " + strings.Join(names, ", ") + " offset 0) r)::text"
	case d.document:
		return "row_to_json(t.*)::text"
	}
	exprs := make([]string, len(d.columns))
	for i, c := range d.columns {
		exprs[i] = c.Select("t")
	}
	return strings.Join(exprs, ", ")
}

// target finds what a name stands for, so that it can be locked.
func (s *Session) target(ctx context.Context, table int) (pgx.Identifier, error) {
	spec := s.src.cfg.Tables[table]
	var schema, name string
	err := s.conn.QueryRow(ctx, `select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.oid = to_regclass($1)`, spec.Name).Scan(&schema, &name)
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, &TableError{Table: spec.Name, Why: "it is not there", Hint: "name the schema, and quote what SQL needs quoted"}
	case errors.As(err, &pgErr):
		return nil, &TableError{Table: spec.Name, Why: "its name cannot be read: " + pgErr.Message}
	case err != nil:
		return nil, fmt.Errorf("outbox: look up table %s: %w", spec.Name, err)
	}
	return pgx.Identifier{schema, name}, nil
}

// describe reads a table from the catalogue, in the snapshot of the fetch, and
// says with a *TableError why it cannot be followed.
func (s *Session) describe(ctx context.Context, table int) (*described, error) {
	spec := s.src.cfg.Tables[table]
	d := &described{document: spec.Document}
	var registered *string
	var key, names, typeNames []string
	var oids []uint32
	var notNull, generated, identity, required, excluded []bool
	var mayRead, policy bool
	err := s.conn.QueryRow(ctx, s.src.sql.describe, spec.Name).Scan(&d.relid, &d.schema, &d.name, &d.partitioned, &registered,
		&key, &names, &oids, &notNull, &generated, &identity, &required, &typeNames, &mayRead, &policy, &excluded)
	refuse := func(why, hint string) (*described, error) {
		return nil, &TableError{Table: spec.Name, Why: why, Hint: hint}
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return refuse("it is not there", "name the schema, and quote what SQL needs quoted")
	case err != nil:
		return nil, fmt.Errorf("outbox: describe table %s: %w", spec.Name, err)
	case registered == nil:
		return refuse("its changes are not captured", "run lockstep install --table "+spec.Name)
	case len(key) == 0:
		return refuse("it has no primary key", "give it one, then run lockstep install --table "+spec.Name)
	case !mayRead:
		return refuse("the role may not read it", "GRANT SELECT ON "+pgx.Identifier{d.schema, d.name}.Sanitize())
	case policy:
		return refuse("row-level security would hide rows from this role", "give the node's role BYPASSRLS")
	}
	if twin := s.src.twin(table, d.relid); twin != "" {
		return refuse("it is declared twice, the other time as "+twin, "declare it once")
	}
	d.registered = *registered
	if s.src.cfg.Check != nil {
		if err := s.src.cfg.Check(ctx, s.conn, d.registered); err != nil {
			if s.conn.PgConn().TxStatus() == 'E' {
				return nil, fmt.Errorf("outbox: check capture of %s: %w", spec.Name, err)
			}
			return nil, &TableError{Table: spec.Name, Why: "its capture cannot be trusted", Err: err}
		}
	}
	types, err := rowjson.LoadTypes(ctx, s.conn, oids)
	if err != nil {
		return nil, fmt.Errorf("outbox: table %s: %w", spec.Name, err)
	}
	have := make([]ColumnInfo, len(names))
	for i, n := range names {
		format, _ := types[oids[i]].Format(s.conn.TypeMap()) // a column that cannot be read is refused where it is wanted
		have[i] = ColumnInfo{
			Name: n, OID: types[oids[i]].RowOID(), Type: typeNames[i], Format: format, KeyPlace: slices.Index(key, n) + 1,
			Generated: generated[i], Identity: identity[i], Excluded: excluded[i], Required: required[i],
		}
	}
	d.partial = slices.Contains(excluded, true)
	want, err := pick(spec, have, key)
	if err != nil {
		return nil, err
	}
	column := func(name string) rowjson.Column {
		i := slices.Index(names, name)
		return rowjson.Column{Name: name, Type: types[oids[i]], NotNull: notNull[i]}
	}
	for _, name := range key {
		d.key = append(d.key, column(name))
	}
	for _, name := range want {
		c := column(name)
		if err := c.Type.Refused(); err != nil && !d.document {
			return nil, &TableError{Table: spec.Name, Why: "column " + name, Err: err}
		}
		d.columns = append(d.columns, c)
	}
	for _, name := range key {
		d.keyAt = append(d.keyAt, slices.Index(want, name))
	}
	return d, nil
}

// twin is the name under which the table was declared before; "" where it was not.
func (s *Source) twin(table int, relid uint32) string {
	for i, other := range s.tables[:table] {
		if other != nil && other.relid == relid {
			return s.cfg.Tables[i].Name
		}
	}
	return ""
}

// whole says what a document lacks of what its event must bring: all columns
// for a row as it stands, the key for the others. A column that was dropped or
// renamed since the load is missing, and would otherwise read as a zero.
func (d *described) whole(op Op, row *rowjson.Row) error {
	if op == Insert || op == Update {
		for i, c := range d.columns {
			if row.Absent(i) {
				return fmt.Errorf("outbox: the document has no column %s", c.Name)
			}
		}
	}
	for _, i := range d.keyAt {
		if row.RawValues()[i] == nil {
			return fmt.Errorf("outbox: the document has no key column %s", d.columns[i].Name)
		}
	}
	return nil
}

// pick asks the spec which columns to read. Every key column must be among
// them: a deletion may bring nothing else.
func pick(spec TableSpec, have []ColumnInfo, key []string) ([]string, error) {
	var want, captured []string
	for _, c := range have {
		switch {
		case !c.Excluded:
			captured = append(captured, c.Name)
		case slices.Contains(key, c.Name):
			return nil, &TableError{Table: spec.Name, Why: "column " + c.Name + ", which is left out of capture, is part of its primary key by now",
				Hint: "give it another key, or have the column captured (lockstep install --help)"}
		}
	}
	if spec.Columns == nil {
		return captured, nil
	}
	want, err := spec.Columns(have)
	if err != nil {
		return nil, &TableError{Table: spec.Name, Why: "its columns do not fit", Err: err}
	}
	if spec.Document {
		return captured, nil
	}
	for _, w := range want {
		i := slices.IndexFunc(have, func(c ColumnInfo) bool { return c.Name == w })
		switch {
		case i < 0:
			return nil, &TableError{Table: spec.Name, Why: "it has no column " + w}
		case have[i].Excluded:
			return nil, &TableError{Table: spec.Name, Why: "column " + w + " is left out of capture, and the table's Go type or list of columns has it",
				Hint: "take it out there; were every node to see it, lockstep install --help says how it is captured again"}
		}
	}
	for _, k := range key {
		if !slices.Contains(want, k) {
			return nil, &TableError{Table: spec.Name, Why: "column " + k + " is part of its primary key and is not among the columns read",
				Hint: "map it: a deletion brings the key only"}
		}
	}
	return want, nil
}

// documentRow is a row of a table that is followed as documents: its one raw
// value is the JSON text.
type documentRow struct {
	raw [1][]byte
	tm  *pgtype.Map
}

var documentField = []pgconn.FieldDescription{{Name: "row", DataTypeOID: pgtype.JSONOID, Format: pgx.TextFormatCode}}

func (r *documentRow) FieldDescriptions() []pgconn.FieldDescription { return documentField }
func (r *documentRow) RawValues() [][]byte                          { return r.raw[:] }
func (r *documentRow) Values() ([]any, error)                       { return []any{string(r.raw[0])}, nil }
func (r *documentRow) Scan(dest ...any) error {
	return pgx.ScanRow(r.tm, documentField, r.raw[:], dest...)
}
