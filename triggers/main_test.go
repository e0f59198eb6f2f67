package triggers_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

func TestMain(m *testing.M) {
	pgtest.Main(m, pgtest.With("max_prepared_transactions", "10"), pgtest.With("wal_level", "logical"))
}

var quiet = slog.New(slog.DiscardHandler)

// rig is a database with some tables captured.
type rig struct {
	*pgtest.DB
	pool *pgxpool.Pool
}

func newRig(t *testing.T, sql string, tables ...string) *rig {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, sql)
	r := &rig{db, db.Pool(t)}
	r.install(t, tables...)
	return r
}

func (r *rig) install(t *testing.T, tables ...string) {
	t.Helper()
	if err := triggers.Install(t.Context(), r.pool, triggers.Options{Bell: triggers.BellOff, Logger: quiet}, tables...); err != nil {
		t.Fatal(err)
	}
}

type event struct {
	Seq   int64
	Xid   uint64
	Table string
	Op    string
	Lead  bool
	Row   string
}

// events are what the outbox holds, the documents of a list one by one.
func (r *rig) events(t *testing.T) []event {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), "select seq, xid, table_name, op::text, lead, coalesce(row::text, '') from lockstep.outbox order by seq")
	if err != nil {
		t.Fatal(err)
	}
	var got []event
	var e event
	if _, err := pgx.ForEachRow(rows, []any{&e.Seq, &e.Xid, &e.Table, &e.Op, &e.Lead, &e.Row}, func() error {
		if !strings.HasPrefix(e.Row, "[") {
			got = append(got, e)
			return nil
		}
		var docs []json.RawMessage
		if err := json.Unmarshal([]byte(e.Row), &docs); err != nil {
			return err
		}
		for _, doc := range docs {
			one := e
			one.Row = string(doc)
			got = append(got, one)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// change replaces a function by what becomes of its definition, until back is called.
func (r *rig) change(t *testing.T, function string, becomes ...string) (back func()) {
	t.Helper()
	var def string
	if err := r.pool.QueryRow(t.Context(), "select pg_get_functiondef(('lockstep.' || $1)::regprocedure)", function).Scan(&def); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(becomes); i += 2 {
		if !strings.Contains(def, becomes[i]) {
			t.Fatalf("%q is not where this test looks for it:\n%s", becomes[i], def)
		}
	}
	r.Exec(t, strings.NewReplacer(becomes...).Replace(def))
	return func() { r.Exec(t, def) }
}

// list are the texts that a query finds.
func (r *rig) list(t *testing.T, sql string) []string {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// short are the events as "U {...}", without white space.
func (r *rig) short(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, e := range r.events(t) {
		out = append(out, strings.TrimSpace(e.Op+" "+strings.ReplaceAll(e.Row, " ", "")))
	}
	return out
}

// wantFold folds the outbox and compares the result with the tables as they are.
func (r *rig) wantFold(t *testing.T, what string) {
	t.Helper()
	if wrong := r.folded(t); wrong != "" {
		t.Errorf("%s: %s", what, wrong)
	}
}

// folded is what the outbox says wrongly of the tables.
func (r *rig) folded(t *testing.T) string {
	t.Helper()
	tracked, err := triggers.Tables(t.Context(), r.pool, triggers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tab := range tracked {
		now, folded := r.rows(t, tab), map[string]string{}
		for _, e := range r.events(t) {
			if e.Table != tab.Name {
				continue
			}
			key := keyOf(t, tab, e.Row)
			switch {
			case e.Op == "T":
				clear(folded)
			case e.Op == "R" && e.Row == "":
				folded = maps.Clone(now)
			case e.Op == "R":
				// A node reads the row in its own snapshot; here nobody writes any more.
				if doc, ok := now[key]; ok {
					folded[key] = doc
				} else {
					delete(folded, key)
				}
			case e.Op == "D":
				delete(folded, key)
			default:
				folded[key] = e.Row
			}
		}
		if !maps.Equal(folded, now) {
			return fmt.Sprintf("table %s folds to\n  %v\nand is\n  %v\nby %v", tab.Name, folded, now, r.short(t))
		}
	}
	return ""
}

func (r *rig) rows(t *testing.T, tab triggers.Table) map[string]string {
	t.Helper()
	var kept string // all columns but those that are left out
	err := r.pool.QueryRow(t.Context(), "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped and attname <> all ($2)", tab.OID, tab.Excluded).Scan(&kept)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := r.pool.Query(t.Context(), "select row_to_json(t.*)::text from (select "+kept+" from "+tab.Name+") t")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, d := range docs {
		out[keyOf(t, tab, d)] = d
	}
	return out
}

func keyOf(t *testing.T, tab triggers.Table, doc string) string {
	t.Helper()
	if doc == "" {
		return ""
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(doc), &members); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	key := ""
	for _, k := range tab.Key {
		key += string(members[k]) + ","
	}
	return key
}
