package lockstep

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/outbox"
)

// Wrong says in which way a node's row is wrong.
type Wrong string

// The ways.
const (
	WrongMissing Wrong = "missing"   // Postgres has the row, and the node does not
	WrongExtra   Wrong = "extra"     // the node has the row, and Postgres does not
	WrongRow     Wrong = "different" // both have one, and they differ
)

// errIncomparable is wrapped where rows cannot be held against each other.
var errIncomparable = errors.New("its rows cannot be compared")

// comparison holds one table of a node against Postgres, at one instant of
// both. It is for one goroutine.
type comparison interface {
	// row compares a row of Postgres with the view's and returns its key, and
	// what is wrong with the view's; "" if nothing is.
	row(v *View, row pgx.CollectableRow) (key any, wrong Wrong, err error)
	// keys are some of the keys that the table has now: those of one of so many parts.
	keys(part, of uint64) []any
	// holds reports whether the view has a row of the key.
	holds(v *View, key any) bool
	// exists queues a query that finds one row, where Postgres has a row of the key.
	exists(b *pgx.Batch, key any) error
}

// compare prepares to compare the table.
func (t *Table[K, T]) compare(types *pgtype.Map) (comparison, error) {
	l := t.layout.Load()
	if l == nil {
		return nil, fmt.Errorf("table %s: %w", t.name, ErrNotStarted)
	}
	if t.same == nil && t.values() == nil {
		return nil, fmt.Errorf("lockstep: table %s: %w: give it WithEncode", t.name, errIncomparable)
	}
	return &typed[K, T]{t: t, l: l, types: ownTypes(types, l.oids)}, nil
}

type typed[K comparable, T any] struct {
	t     *Table[K, T]
	l     *layout
	types *pgtype.Map
}

// parts tells into which part of a table a key belongs.
var parts = maphash.MakeSeed()

func (c *typed[K, T]) row(v *View, row pgx.CollectableRow) (any, Wrong, error) {
	var theirs T
	if err := c.t.scan(row, &theirs); err != nil {
		return nil, "", fmt.Errorf("lockstep: table %s: a row cannot be read: %w", c.t.name, err)
	}
	k := c.t.key(theirs)
	ours, ok := c.t.At(v).Get(k)
	if !ok {
		return k, WrongMissing, nil
	}
	same, err := c.same(ours, theirs)
	switch {
	case err != nil:
		return k, "", fmt.Errorf("lockstep: table %s: %w: key %v: %w", c.t.name, errIncomparable, k, err)
	case !same:
		return k, WrongRow, nil
	}
	return k, "", nil
}

// same goes by the encoded columns, as a load does. Unlike there, a value that cannot be
// encoded makes no difference of its own.
func (c *typed[K, T]) same(x, y T) (bool, error) {
	if c.t.same != nil {
		return c.t.same(x, y), nil
	}
	if rowmap.Identical(&x, &y) {
		return true, nil
	}
	values := c.t.values()
	return rowmap.Equal(c.types, c.l.oids, values(x), values(y)) //nolint:wrapcheck // the caller names the table
}

func (c *typed[K, T]) keys(part, of uint64) []any {
	var list []any
	for k := range c.t.All() {
		if of < 2 || maphash.Comparable(parts, k)%of == part {
			list = append(list, k)
		}
	}
	return list
}

func (c *typed[K, T]) holds(v *View, key any) bool {
	k, ok := key.(K)
	if ok {
		_, ok = c.t.At(v).Get(k)
	}
	return ok
}

func (c *typed[K, T]) exists(b *pgx.Batch, key any) error {
	if doc, ok := key.(string); ok && c.t.doc {
		return c.t.existsDocument(b, c.l, doc)
	}
	k, ok := key.(K)
	if !ok {
		return fmt.Errorf("lockstep: table %s: the key is a %T", c.t.name, key)
	}
	where, args, err := c.t.whereKey(k)
	if err != nil {
		return err
	}
	c.t.existsWhere(b, where, args)
	return nil
}

func (d *definition) existsWhere(b *pgx.Batch, where string, args []any) {
	b.Queue("select 1 from "+d.name+" lockstep_t where ("+where+") and "+ownRows("lockstep_t", len(args)+1), append(args, d.name)...)
}

func (d *definition) existsDocument(b *pgx.Batch, l *layout, key string) error {
	object, err := keyObject(l.key, key)
	if err != nil {
		return fmt.Errorf("lockstep: table %s: key %s: %w", d.name, key, err)
	}
	b.Queue("select 1 from "+d.name+" lockstep_t, "+record("lockstep_row", l.key)+" where "+sameKey("lockstep_t", "lockstep_row", l.key)+" and "+ownRows("lockstep_t", 2), object, d.name)
	return nil
}

// ownRows leaves out the rows of whatever inherits from a table, whose name is the parameter: ONLY would leave out those
// of a partitioned one as well.
func ownRows(alias string, param int) string {
	table := "to_regclass($" + itoa(param) + ")"
	return "(" + alias + ".tableoid = " + table + " or exists (select from pg_class where oid = " + table + " and relkind = 'p'))"
}

// keyObject is the key of a document as a JSON object of the key's columns.
// ErrNoRow where no row's key looks like that.
func keyObject(columns []outbox.ColumnInfo, key string) (string, error) {
	doc, err := outbox.KeyMembers(columnNames(columns), key)
	if err != nil {
		return "", ErrNoRow
	}
	for _, c := range columns {
		if !asPostgresWritesIt(c, doc[c.Name]) {
			return "", ErrNoRow
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return "", ErrNoRow
	}
	return string(b), nil
}
