package lockstep_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// silently changes a table without an event.
func silently(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	db.Exec(t, "begin; "+sql+"; delete from lockstep.outbox where xid = pg_current_xact_id(); commit")
}

// changedBy are the keys of the rows that a reload counts as changed.
func changedBy[K comparable, T any](t *testing.T, node *lockstep.Node, tab *lockstep.Table[K, T]) []string {
	t.Helper()
	before := map[K]uint64{}
	for k := range tab.All() {
		_, before[k], _ = tab.GetRevision(k)
	}
	if err := node.Reload(deadline(t), tab); err != nil {
		t.Fatal(err)
	}
	var changed []string
	for k := range tab.All() {
		if _, rev, _ := tab.GetRevision(k); rev != before[k] {
			changed = append(changed, fmt.Sprint(k))
		}
	}
	slices.Sort(changed)
	return changed
}

func TestReloadCountsRowsAsChangedByTheirEncodedColumns(t *testing.T) {
	type vals struct {
		K string
		F float64
		N pgtype.Numeric
		T time.Time
		J []byte
		A []string
		P *int
	}
	db := database(t, `create table vals (k text primary key, f float8 not null default 0, n numeric not null default 0,
			t timestamptz not null default '2024-03-10 12:00Z', j jsonb, a text[], p int);
		insert into vals (k, f) values ('nan', 'NaN'), ('zero', 0);
		insert into vals (k, n) values ('scale', 1.0), ('n-nan', 'NaN');
		insert into vals (k, j, a, p) values ('refs', '{"a": 1}', '{a,NULL}'::text[] || 'b'::text, 1);
		update vals set a = '{a,b}' where k = 'refs';
		insert into vals (k) values ('zone')`, "public.vals")
	tab := lockstep.NewTable("public.vals", func(v vals) string { return v.K })
	node := start(t, db.Pool(t), tab)
	if got := changedBy(t, node, tab); got != nil {
		t.Errorf("nothing changed, and yet %q", got)
	}
	// The same instant, written under another zone.
	silently(t, db, "set local timezone = 'Asia/Tokyo'; update vals set t = '2024-03-10 21:00' where k = 'zone'")
	if got := changedBy(t, node, tab); got != nil {
		t.Errorf("the same values were written again, and yet %q", got)
	}
	silently(t, db, `update vals set n = 1.00 where k = 'scale'; update vals set f = '-0' where k = 'zero';
		update vals set p = 2 where k = 'refs'; update vals set t = t + interval '1 us' where k = 'zone'`)
	if got, want := changedBy(t, node, tab), []string{"refs", "scale", "zero", "zone"}; !slices.Equal(got, want) {
		t.Errorf("changed are %q, want %q", got, want)
	}
	if v, _ := tab.Get("zero"); !math.Signbit(v.F) {
		t.Error("the sign of zero was not loaded")
	}
}

// opaque can be read and not written.
type opaque struct{ at time.Time }

func (o *opaque) Scan(v any) error {
	at, ok := v.(time.Time)
	if !ok {
		return fmt.Errorf("an opaque of %T", v)
	}
	o.at = at
	return nil
}

func TestRowsThatCannotBeEncodedCountAsChanged(t *testing.T) {
	type holder struct {
		ID int
		D  opaque
	}
	db := database(t, "create table holders (id int primary key, d date not null); insert into holders values (1, '2024-01-01')", "public.holders")
	tab := lockstep.NewTable("public.holders", func(h holder) int { return h.ID })
	node := start(t, db.Pool(t), tab)
	if h, _ := tab.Get(1); h.D.at.IsZero() {
		t.Fatalf("got %+v", h)
	}
	if got := changedBy(t, node, tab); !slices.Equal(got, []string{"1"}) {
		t.Errorf("changed are %q", got)
	}
	_, err := tab.Put(deadline(t), holder{2, opaque{time.Now()}})
	wantWrite(t, err, lockstep.ErrNotCommitted)
}

func TestRowsWithoutAnInverseCountAsChanged(t *testing.T) {
	db := database(t, "create table coins (id int primary key, euros float8 not null, extra text); insert into coins values (1, 0.5)", "public.coins")
	tab := coins()
	node := start(t, db.Pool(t), tab)
	if got := changedBy(t, node, tab); !slices.Equal(got, []string{"1"}) {
		t.Errorf("changed are %q", got)
	}
	same := coins(lockstep.WithEncode[int, coin](func(c coin) []any { return []any{c.id, float64(c.cents) / 100} }))
	if got := changedBy(t, start(t, db.Pool(t), same), same); got != nil {
		t.Errorf("with Encode, changed are %q", got)
	}
}

type point struct{ X, Y int32 }

type mood string

func TestTypesThatThePoolRegistersAreUsedEverywhere(t *testing.T) {
	type spot struct {
		ID   int
		At   point
		Mood mood
		Past []mood
	}
	db := database(t, `create type point2 as (x int, y int); create type mood as enum ('sad', 'glad');
		create table spots (id int primary key, at point2 not null, mood mood not null, past mood[] not null default '{}');
		insert into spots values (1, (1, 2), 'sad')`, "public.spots")
	pool := db.Pool(t, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			types, err := conn.LoadTypes(ctx, []string{"public.point2", "public.mood", "public._mood"})
			conn.TypeMap().RegisterTypes(types)
			return err
		}
	})
	tab := lockstep.NewTable("public.spots", func(s spot) int { return s.ID })
	node, ctx := start(t, pool, tab), deadline(t)
	if s, _ := tab.Get(1); s.At != (point{1, 2}) || s.Mood != "sad" {
		t.Errorf("loaded %+v", s)
	}
	if _, err := tab.Put(ctx, spot{2, point{3, 4}, "glad", []mood{"sad", "glad"}}); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "update spots set at = (5, 6) where id = 1")
	if err := node.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	one, _ := tab.Get(1)
	two, _ := tab.Get(2)
	if one.At != (point{5, 6}) || two.At != (point{3, 4}) || !slices.Equal(two.Past, []mood{"sad", "glad"}) {
		t.Errorf("events brought %+v and %+v", one, two)
	}
	if got := changedBy(t, node, tab); got != nil {
		t.Errorf("nothing changed, and yet %q", got)
	}
}

func TestAMigrationThatAddsAColumnDisturbsNobodyAndOneThatDropsAColumnIsNamed(t *testing.T) {
	db := database(t, itemsSQL+"; insert into items values (1, 'nut')", "public.items")
	tab := items()
	node, ctx := start(t, db.Pool(t), tab), deadline(t)
	db.Exec(t, "alter table items add column extra text not null default 'x'")
	if err := node.Reload(ctx, tab); err != nil {
		t.Fatal(err)
	}
	if _, err := tab.Put(ctx, item{ID: 2, Name: "bolt"}); err != nil || tab.Len() != 2 {
		t.Errorf("%d rows, %v", tab.Len(), err)
	}
	db.Exec(t, "alter table items drop column doubled")
	err := node.Reload(ctx, tab)
	if !errors.Is(err, lockstep.ErrTable) || tab.Len() != 2 || node.Status().State == lockstep.Live {
		t.Errorf("%v, %d rows, %v", err, tab.Len(), node.Status().State)
	}
	db.Exec(t, "alter table items add column doubled int generated always as (qty * 2) stored")
	if err := node.Reload(ctx, tab); err != nil || node.Status().State != lockstep.Live {
		t.Errorf("%v, %v", err, node.Status().State)
	}
}
