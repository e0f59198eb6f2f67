package lockstep_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
)

const itemsSQL = `
create table items (
	id int primary key, name text not null, qty int not null default 1, note text default 'none',
	doubled int generated always as (qty * 2) stored)`

type item struct {
	ID      int
	Name    string
	Qty     int
	Doubled int
}

func items() *lockstep.Table[int, item] {
	return lockstep.NewTable("public.items", func(i item) int { return i.ID })
}

func TestPutInsertsAndReplacesAndShows(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	tab := items()
	node := start(t, db.Pool(t), tab)
	ctx := deadline(t)

	tok, err := tab.Put(ctx, item{ID: 1, Name: "nut", Qty: 3, Doubled: 99})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := tab.Get(1); got != (item{1, "nut", 3, 6}) {
		t.Errorf("after the insert the node has %+v", got)
	}
	if got := row(t, db, "items", "id = 1"); got != "(1,nut,3,none,6)" {
		t.Errorf("the generated column or the default is wrong: %s", got)
	}
	if want := one[string](t, db, "select xid::text from lockstep.outbox order by xid desc limit 1"); !strings.HasSuffix(tok.String(), ":"+want) {
		t.Errorf("the token is %v, the event's transaction %s", tok, want)
	}
	db.Exec(t, "update items set note = 'kept'")
	if _, err = tab.Put(ctx, item{ID: 1, Name: "bolt", Qty: 4}); err != nil {
		t.Fatal(err)
	}
	if got := row(t, db, "items", "id = 1"); got != "(1,bolt,4,kept,8)" {
		t.Errorf("a column that T lacks is not kept: %s", got)
	}
	if got, _ := tab.Get(1); got.Doubled != 8 || got.Name != "bolt" {
		t.Errorf("after the replacement the node has %+v", got)
	}
	if err := node.WaitFor(ctx, tok); err != nil {
		t.Error(err)
	}
}

func TestUpdateWritesWhatTHasAndDeleteRemoves(t *testing.T) {
	db := database(t, itemsSQL+"; insert into items values (1, 'nut', 2, 'mine')", "public.items")
	tab := items()
	start(t, db.Pool(t), tab)
	ctx := deadline(t)

	if _, err := tab.Update(ctx, 1, func(i item) (item, error) {
		if i != (item{1, "nut", 2, 4}) {
			t.Errorf("fn got %+v", i)
		}
		i.Qty = 5
		return i, nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, _ := tab.Get(1); got != (item{1, "nut", 5, 10}) || row(t, db, "items", "id=1") != "(1,nut,5,mine,10)" {
		t.Errorf("after Update: %+v, %s", got, row(t, db, "items", "id=1"))
	}
	if _, err := tab.Update(ctx, 1, func(i item) (item, error) { i.ID = 2; return i, nil }); err != nil {
		t.Fatal(err)
	}
	if _, ok := tab.Get(1); ok || tab.Len() != 1 {
		t.Error("the row kept its old key")
	}
	if _, err := tab.Delete(ctx, 2); err != nil || tab.Len() != 0 {
		t.Errorf("after Delete: %d rows, %v", tab.Len(), err)
	}
	_, err := tab.Delete(ctx, 2)
	wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrNoRow)
	_, err = tab.Update(ctx, 2, func(i item) (item, error) { t.Error("fn called without a row"); return i, nil })
	wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrNoRow)
}

func TestPutIsRefusedWhereTLacksARequiredColumnAndUpdateIsNot(t *testing.T) {
	type short struct {
		ID  int
		Qty int
	}
	db := database(t, itemsSQL+"; insert into items values (1, 'nut')", "public.items")
	tab := lockstep.NewTable("public.items", func(s short) int { return s.ID })
	start(t, db.Pool(t), tab)
	_, err := tab.Put(deadline(t), short{1, 7})
	wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrRefused)
	if !strings.Contains(err.Error(), "name") || !strings.Contains(err.Error(), "Update") {
		t.Errorf("the error names neither the column nor the way out: %v", err)
	}
	_, err = tab.Update(deadline(t), 1, func(s short) (short, error) { s.Qty = 7; return s, nil })
	if got := row(t, db, "items", "id=1"); err != nil || got != "(1,nut,7,none,14)" {
		t.Errorf("Update: %s %v", got, err)
	}
}

func TestIdentityKeys(t *testing.T) {
	type both struct {
		ID int64
		V  string
	}
	type key struct{ ID int64 }
	db := database(t, `create table ident (id bigint generated always as identity primary key, v text default 'd');
		insert into ident (v) values ('one')`, "public.ident")
	tab := lockstep.NewTable("public.ident", func(b both) int64 { return b.ID })
	start(t, db.Pool(t), tab)
	ctx := deadline(t)
	for _, b := range []both{{1, "uno"}, {50, "fifty"}} {
		if _, err := tab.Put(ctx, b); err != nil {
			t.Fatal(err)
		}
		if got, _ := tab.Get(b.ID); got != b {
			t.Errorf("got %+v, want %+v", got, b)
		}
	}
	if _, err := tab.Update(ctx, 50, func(b both) (both, error) { b.V = "L"; return b, nil }); err != nil {
		t.Error(err)
	}
	keys := lockstep.NewTable("public.ident", func(k key) int64 { return k.ID })
	start(t, db.Pool(t), keys)
	if tok, err := keys.Put(ctx, key{50}); err != nil || tok != (lockstep.Token{}) || row(t, db, "ident", "id=50") != "(50,L)" {
		t.Errorf("Put of a key that is there: %v %v %s", tok, err, row(t, db, "ident", "id=50"))
	}
	if tok, err := keys.Put(ctx, key{51}); err != nil || tok == (lockstep.Token{}) || keys.Len() != 3 {
		t.Errorf("Put of a new key: %v %v, %d rows", tok, err, keys.Len())
	}
}

const pairsSQL = `create table pairs (b int, a int, v text, primary key (a, b)); insert into pairs (a, b, v) values (1, 2, 'x'), (2, 1, 'other')`

type pair struct {
	A, B int
	V    string
}

func TestCompositeKeys(t *testing.T) {
	type byName struct{ B, A int } // not in the order of the primary key
	type tagged struct {
		Second int `db:"b"`
		First  int `db:"a"`
	}
	type mute struct{ X, Y int }
	t.Run("struct by names", func(t *testing.T) {
		pairKeys(t, func(p pair) byName { return byName{p.B, p.A} })
	})
	t.Run("struct by tags", func(t *testing.T) {
		pairKeys(t, func(p pair) tagged { return tagged{p.B, p.A} })
	})
	t.Run("array in the key's order", func(t *testing.T) {
		pairKeys(t, func(p pair) [2]int { return [2]int{p.A, p.B} })
	})
	t.Run("WithKeyArgs", func(t *testing.T) {
		pairKeys(t, func(p pair) mute { return mute{p.B, p.A} },
			lockstep.WithKeyArgs[mute, pair](func(m mute) []any { return []any{m.Y, m.X} }))
	})
	t.Run("a struct of other names is refused", func(t *testing.T) {
		db := database(t, pairsSQL, "public.pairs")
		tab := lockstep.NewTable("public.pairs", func(p pair) mute { return mute{p.A, p.B} })
		start(t, db.Pool(t), tab)
		_, err := tab.Delete(deadline(t), mute{1, 2})
		wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrRefused)
	})
}

func pairKeys[K comparable](t *testing.T, key func(pair) K, opts ...lockstep.TableOption[K, pair]) {
	t.Helper()
	db := database(t, pairsSQL, "public.pairs")
	tab := lockstep.NewTable("public.pairs", key, opts...)
	start(t, db.Pool(t), tab)
	ctx := deadline(t)
	if _, err := tab.Update(ctx, key(pair{A: 1, B: 2}), func(p pair) (pair, error) { p.V = "y"; return p, nil }); err != nil {
		t.Fatal(err)
	}
	if got := row(t, db, "pairs", "a=1 and b=2") + row(t, db, "pairs", "a=2 and b=1"); got != "(2,1,y)(1,2,other)" {
		t.Errorf("Update wrote another row: %s", got)
	}
	if _, err := tab.Put(ctx, pair{1, 2, "z"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := tab.Get(key(pair{A: 1, B: 2})); got.V != "z" {
		t.Errorf("got %+v", got)
	}
	if _, err := tab.Delete(ctx, key(pair{A: 1, B: 2})); err != nil {
		t.Fatal(err)
	}
	if got := row(t, db, "pairs", "true"); got != "(1,2,other)" || tab.Len() != 1 {
		t.Errorf("Delete left %s, the node has %d rows", got, tab.Len())
	}
}

type base struct {
	ID   int `db:"Id"`
	Made time.Time
}

type odd struct {
	base
	Val string  `db:"a \"b\" ü"`
	Sel *string `db:"select"`
}

func TestOddNamesAndEmbeddedStructs(t *testing.T) {
	db := database(t, `create schema "My Schema"; create table "My Schema"."Odd ""T""" (
		"Id" int primary key, made timestamptz not null, "a ""b"" ü" text, "select" text)`, `"My Schema"."Odd ""T"""`)
	tab := lockstep.NewTable(`"My Schema"."Odd ""T"""`, func(o odd) int { return o.ID })
	start(t, db.Pool(t), tab)
	ctx := deadline(t)
	s, when := "s", time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.FixedZone("", 3600))
	if _, err := tab.Put(ctx, odd{base{1, when}, "v", &s}); err != nil {
		t.Fatal(err)
	}
	got, _ := tab.Get(1)
	if !got.Made.Equal(when) || got.Val != "v" || got.Sel == nil || *got.Sel != "s" {
		t.Errorf("got %+v", got)
	}
	if _, err := tab.Update(ctx, 1, func(o odd) (odd, error) { o.Sel = nil; return o, nil }); err != nil {
		t.Fatal(err)
	}
	if got, _ := tab.Get(1); got.Sel != nil {
		t.Error("NULL was not written")
	}
	if _, err := tab.Delete(ctx, 1); err != nil || tab.Len() != 0 {
		t.Error(tab.Len(), err)
	}
}

// coin keeps what the table holds in another shape.
type coin struct{ id, cents int }

func coins(opts ...lockstep.TableOption[int, coin]) *lockstep.Table[int, coin] {
	scan := func(r pgx.CollectableRow) (c coin, err error) {
		var euros float64
		err = r.Scan(&c.id, &euros)
		c.cents = int(euros * 100)
		return c, err
	}
	return lockstep.NewTable("public.coins", func(c coin) int { return c.id }, append(opts, lockstep.WithRow[int, coin](scan, "id", "euros"))...)
}

func TestRowFunctionWritesThroughItsEncode(t *testing.T) {
	const schema = "create table coins (id int primary key, euros float8 not null, extra text); insert into coins values (1, 0.5)"
	ctx := deadline(t)
	t.Run("with Encode", func(t *testing.T) {
		db := database(t, schema, "public.coins")
		tab := coins(lockstep.WithEncode[int, coin](func(c coin) []any { return []any{c.id, float64(c.cents) / 100} }))
		start(t, db.Pool(t), tab)
		if _, err := tab.Put(ctx, coin{2, 25}); err != nil {
			t.Fatal(err)
		}
		if _, err := tab.Update(ctx, 1, func(c coin) (coin, error) { c.cents += 25; return c, nil }); err != nil {
			t.Fatal(err)
		}
		a, _ := tab.Get(1)
		b, _ := tab.Get(2)
		if a.cents != 75 || b.cents != 25 {
			t.Errorf("got %+v and %+v", a, b)
		}
		if _, err := tab.Delete(ctx, 2); err != nil || tab.Len() != 1 {
			t.Error(tab.Len(), err)
		}
	})
	t.Run("without Encode Put is refused", func(t *testing.T) {
		db := database(t, schema, "public.coins")
		tab := coins()
		start(t, db.Pool(t), tab)
		_, err := tab.Put(ctx, coin{2, 25})
		wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrRefused)
		_, err = tab.Update(ctx, 1, func(c coin) (coin, error) { return c, nil })
		wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrRefused)
		if _, err := tab.Delete(ctx, 1); err != nil {
			t.Error("Delete needs no inverse:", err)
		}
	})
	t.Run("an Encode of another length is refused", func(t *testing.T) {
		db := database(t, schema, "public.coins")
		tab := coins(lockstep.WithEncode[int, coin](func(c coin) []any { return []any{c.id} }))
		start(t, db.Pool(t), tab)
		_, err := tab.Put(ctx, coin{2, 25})
		wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrRefused)
	})
}

func TestTriggersThatChangeOrKeepTheRow(t *testing.T) {
	db := database(t, itemsSQL+`;
		create table graves (id int primary key);
		create function meddle() returns trigger language plpgsql as $$ begin
			if new.name = 'never' then return null; end if;
			new.name := upper(new.name);
			return new;
		end $$;
		create trigger meddle before insert or update on items for each row execute function meddle();
		create function bury() returns trigger language plpgsql as $$ begin
			insert into graves values (old.id);
			return null;
		end $$;
		create trigger bury before delete on items for each row execute function bury();
		insert into items values (1, 'nut')`, "public.items", "public.graves")
	tab, graves := items(), lockstep.NewTable("public.graves", func(g struct{ ID int }) int { return g.ID })
	start(t, db.Pool(t), tab, graves)
	ctx := deadline(t)

	if _, err := tab.Put(ctx, item{ID: 2, Name: "bolt"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := tab.Get(2); got.Name != "BOLT" {
		t.Errorf("the node has %+v, not what the trigger made of it", got)
	}
	for _, id := range []int{1, 3} {
		_, err := tab.Put(ctx, item{ID: id, Name: "never"})
		wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrSuppressed)
	}
	_, err := tab.Update(ctx, 1, func(i item) (item, error) { i.Name = "never"; return i, nil })
	wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrSuppressed)

	_, err = tab.Delete(ctx, 1)
	we := wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrNoRow)
	if _, ok := graves.Get(1); !ok || we.Token == (lockstep.Token{}) {
		t.Error("what the trigger committed instead is not shown, or the error does not carry its token")
	}
	if got, _ := tab.Get(1); got.Name != "NUT" || tab.Len() != 2 {
		t.Errorf("the row that the triggers kept is %+v of %d", got, tab.Len())
	}
}

func TestTx(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	tab := items()
	node := start(t, db.Pool(t), tab)
	ctx := deadline(t)
	insert := func(tx pgx.Tx, id int) error {
		_, err := tx.Exec(ctx, "insert into items values ($1, 'n')", id)
		return err
	}

	tok, err := node.Tx(ctx, func(tx pgx.Tx) error { return errors.Join(insert(tx, 1), insert(tx, 2)) })
	if err != nil || tab.Len() != 2 || tok == (lockstep.Token{}) {
		t.Fatalf("%v, %d rows, %v", tok, tab.Len(), err)
	}
	t.Run("an error rolls back", func(t *testing.T) {
		no := errors.New("no")
		_, err := node.Tx(ctx, func(tx pgx.Tx) error { return errors.Join(insert(tx, 3), no) })
		wantWrite(t, err, lockstep.ErrNotCommitted, no)
	})
	t.Run("a panic rolls back and goes on", func(t *testing.T) {
		defer func() {
			if r := recover(); r != "oh" {
				t.Errorf("recovered %v", r)
			}
			if n := one[int](t, db, "select count(*)::int from pg_stat_activity where datname = current_database() and state like 'idle in tr%'"); n != 0 {
				t.Errorf("%d transactions were left open", n)
			}
		}()
		_, _ = node.Tx(ctx, func(tx pgx.Tx) error {
			_ = insert(tx, 3)
			panic("oh")
		})
	})
	t.Run("no writes give the zero token", func(t *testing.T) {
		tok, err := node.Tx(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "select 1"); return err })
		if err != nil || tok != (lockstep.Token{}) {
			t.Error(tok, err)
		}
	})
	t.Run("a swallowed error is not a commit", func(t *testing.T) {
		_, err := node.Tx(ctx, func(tx pgx.Tx) error {
			_ = insert(tx, 3)
			_ = insert(tx, 3)
			return nil
		})
		wantWrite(t, err, lockstep.ErrNotCommitted)
	})
	t.Run("the end of the transaction is not fn's", func(t *testing.T) {
		_, err := node.Tx(ctx, func(tx pgx.Tx) error { _ = insert(tx, 4); return tx.Commit(ctx) })
		wantWrite(t, err, lockstep.ErrNotCommitted)
		_, err = node.Tx(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "commit"); return err })
		wantWrite(t, err, lockstep.ErrOutcomeUnknown)
		_, err = node.Tx(ctx, func(tx pgx.Tx) error {
			return pgx.BeginFunc(ctx, tx, func(sub pgx.Tx) error { return insert(sub, 5) })
		})
		if _, ok := tab.Get(5); err != nil || !ok {
			t.Error("a savepoint:", ok, err)
		}
	})
	if n := one[int](t, db, "select count(*)::int from items"); n != 3 || tab.Len() != 3 {
		t.Errorf("%d rows in Postgres, %d in the node, want 3", n, tab.Len())
	}
}

func TestTokenOfAnotherProcess(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	tab := items()
	node := start(t, db.Pool(t), tab)
	ctx := deadline(t)
	for i, tokenOf := range []func(pgx.Tx) (lockstep.Token, error){
		func(tx pgx.Tx) (lockstep.Token, error) { return lockstep.TokenOf(ctx, tx) },
		func(tx pgx.Tx) (lockstep.Token, error) { return node.TokenOf(ctx, tx) },
	} {
		tx, err := db.Conn(t).Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, "insert into items values ($1, 'n')", i); err != nil {
			t.Fatal(err)
		}
		tok, err := tokenOf(tx)
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		if err := node.WaitFor(short, tok); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before the commit: %v", err)
		}
		cancel()
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		passed, err := lockstep.ParseToken(tok.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := node.WaitFor(ctx, passed); err != nil {
			t.Fatal(err)
		}
		if _, ok := tab.Get(i); !ok {
			t.Error("WaitFor returned before the row is there")
		}
	}
	if err := node.WaitFor(ctx, lockstep.Token{}); err != nil {
		t.Error("the zero token:", err)
	}
	if err := node.WaitFor(ctx, lockstep.Token{Xid: 7}); !errors.Is(err, lockstep.ErrHistory) {
		t.Error("a token of no history:", err)
	}
}
