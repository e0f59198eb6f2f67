package lockstep_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

func TestServerRefusalsAreNotCommitted(t *testing.T) {
	db := database(t, itemsSQL+`;
		alter table items add constraint positive check (qty > 0);
		create table parents (id int primary key);
		create table children (id int primary key, parent int references parents deferrable initially deferred)`,
		"public.items", "public.children")
	type child struct{ ID, Parent int }
	tab, children := items(), lockstep.NewTable("public.children", func(c child) int { return c.ID })
	node := start(t, db.Pool(t), tab, children)
	ctx := deadline(t)
	put := func(i item) error { _, err := tab.Put(ctx, i); return err }
	if err := put(item{ID: 1, Name: "nut", Qty: 1}); err != nil {
		t.Fatal(err)
	}
	_, update := tab.Update(ctx, 1, func(i item) (item, error) { i.Qty = -1; return i, nil })
	_, deferred := children.Put(ctx, child{1, 1})
	_, atCommit := node.Tx(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "insert into children values (1, 1)"); return err })
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"constraint":                    {put(item{ID: 2, Name: "x", Qty: -1}), "23514"},
		"constraint in Update":          {update, "23514"},
		"deferred constraint":           {deferred, "23503"},
		"deferred constraint at commit": {atCommit, "23503"},
		"serialization":                 {outrun(ctx, db, t, node), "40001"},
	} {
		t.Run(name, func(t *testing.T) {
			wantWrite(t, c.err, lockstep.ErrNotCommitted)
			if code(c.err) != c.code || errors.Is(c.err, lockstep.ErrUnavailable) || errors.Is(c.err, lockstep.ErrReadOnly) {
				t.Errorf("the error is %v, want the cause %s and nothing else", c.err, c.code)
			}
		})
	}
	if tab.Len() != 1 || children.Len() != 0 {
		t.Errorf("%d items and %d children", tab.Len(), children.Len())
	}
}

// outrun makes a transaction meet a row that was changed after its snapshot.
func outrun(ctx context.Context, db *pgtest.DB, t *testing.T, node *lockstep.Node) error {
	_, err := node.Tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set transaction isolation level repeatable read"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "select from items"); err != nil {
			return err
		}
		db.Exec(t, "update items set name = 'first' where id = 1")
		_, err := tx.Exec(ctx, "update items set name = 'second' where id = 1")
		return err
	})
	return err
}

func TestAValueThatCannotBeEncodedIsNotCommitted(t *testing.T) {
	type wide struct {
		ID int64
		N  int64
	}
	db := database(t, "create table wides (id bigint primary key, n smallint not null)", "public.wides")
	tab := lockstep.NewTable("public.wides", func(w wide) int64 { return w.ID })
	start(t, db.Pool(t), tab)
	_, err := tab.Put(deadline(t), wide{1, 1 << 40})
	wantWrite(t, err, lockstep.ErrNotCommitted)
	if errors.Is(err, lockstep.ErrUnavailable) {
		t.Error(err)
	}
}

func TestReaderRoleMayFollowAndNotWrite(t *testing.T) {
	db := database(t, itemsSQL+"; insert into items values (1, 'nut')", "public.items")
	role := db.Role(t)
	grants, err := triggers.Grants(triggers.Options{}, "reader", role.Name)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, grants+"; grant select on items to "+role.Name)
	tab := items()
	node := start(t, db.PoolAs(t, role), tab)
	ctx := deadline(t)
	_, put := tab.Put(ctx, item{ID: 2, Name: "x"})
	_, update := tab.Update(ctx, 1, func(i item) (item, error) { return i, nil })
	_, del := tab.Delete(ctx, 1)
	_, tx := node.Tx(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "delete from items"); return err })
	for name, err := range map[string]error{"Put": put, "Update": update, "Delete": del, "Tx": tx} {
		t.Run(name, func(t *testing.T) { wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrReadOnly) })
	}
	t.Run("read-only transactions", func(t *testing.T) {
		tab := items()
		start(t, db.Pool(t, func(c *pgxpool.Config) {
			c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
		}), tab)
		_, err := tab.Put(ctx, item{ID: 2, Name: "x"})
		wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrReadOnly)
	})
}

func TestServerAwayIsUnavailableAndReadsGoOn(t *testing.T) {
	db := database(t, itemsSQL+"; insert into items values (1, 'nut')", "public.items")
	p := newProxy(t, db)
	pool, tab := p.pool(t, db), items()
	node := start(t, pool, tab)
	ctx := deadline(t)
	pool.Reset() // what it holds idle is not what is tested
	p.cut()
	_, put := tab.Put(ctx, item{ID: 2, Name: "x"})
	_, update := tab.Update(ctx, 1, func(i item) (item, error) { return i, nil })
	_, del := tab.Delete(ctx, 1)
	_, tx := node.Tx(ctx, func(pgx.Tx) error { t.Error("fn called without a server"); return nil })
	for name, err := range map[string]error{"Put": put, "Update": update, "Delete": del, "Tx": tx} {
		t.Run(name, func(t *testing.T) { wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrUnavailable) })
	}
	if i, ok := tab.Get(1); !ok || i.Name != "nut" {
		t.Error("the node does not answer from memory")
	}
	p.heal()
	if err := node.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	if st := node.Status(); st.State != lockstep.Live || len(st.Loads) != 1 {
		t.Errorf("after the outage: %v, %d loads", st.State, len(st.Loads))
	}
	if _, err := tab.Put(ctx, item{ID: 2, Name: "x"}); err != nil {
		t.Error(err)
	}
}

func TestConnectionLostInsideATransactionIsUnavailable(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	tab := items()
	node := start(t, db.Pool(t), tab)
	ctx := deadline(t)
	_, err := node.Tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into items values (1, 'x')"); err != nil {
			return err
		}
		db.Exec(t, "select pg_terminate_backend($1)", tx.Conn().PgConn().PID())
		_, err := tx.Exec(ctx, "insert into items values (2, 'x')")
		return err
	})
	wantWrite(t, err, lockstep.ErrNotCommitted, lockstep.ErrUnavailable)
	if n := one[int](t, db, "select count(*)::int from items"); n != 0 {
		t.Errorf("%d rows are there", n)
	}
}

// simpleCommit is how a transaction of the pool's commits; the node's own
// fetches do it by another message.
const simpleCommit = "Q\x00\x00\x00\x0bcommit\x00"

func TestLostAnswerToACommitIsOutcomeUnknownAndAppliedOnce(t *testing.T) {
	db := database(t, itemsSQL+"; create table counts (id int primary key, n int not null)", "public.items", "public.counts")
	type count struct{ ID, N int }
	p := newProxy(t, db)
	tab, counts := items(), lockstep.NewTable("public.counts", func(c count) int { return c.ID })
	node := start(t, p.pool(t, db), tab, counts)
	ctx := deadline(t)

	t.Run("Put", func(t *testing.T) {
		// The statement is prepared by now, so that the row goes with the write itself.
		if _, err := tab.Put(ctx, item{ID: 1, Name: "first"}); err != nil {
			t.Fatal(err)
		}
		p.loseAnswerTo("answer to be lost")
		_, err := tab.Put(ctx, item{ID: 2, Name: "answer to be lost"})
		wantWrite(t, err, lockstep.ErrOutcomeUnknown)
		if n := one[int](t, db, "select count(*)::int from lockstep.outbox where row->>'name' = 'answer to be lost'"); n != 1 {
			t.Errorf("the row was written %d times", n)
		}
	})
	for name, write := range map[string]func() (lockstep.Token, error){
		"Tx": func() (lockstep.Token, error) {
			return node.Tx(ctx, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into counts values (1, 1) on conflict (id) do update set n = counts.n + 1")
				p.loseAnswerTo(simpleCommit)
				return err
			})
		},
		"Update": func() (lockstep.Token, error) {
			if _, err := counts.Put(ctx, count{1, 0}); err != nil {
				t.Fatal(err)
			}
			return counts.Update(ctx, 1, func(c count) (count, error) {
				p.loseAnswerTo(simpleCommit)
				c.N++
				return c, nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := write()
			we := wantWrite(t, err, lockstep.ErrOutcomeUnknown)
			if we.Token == (lockstep.Token{}) {
				t.Fatal("the error does not carry the token, which was known")
			}
			if err := node.WaitFor(ctx, we.Token); err != nil {
				t.Fatal(err)
			}
			if c, _ := counts.Get(1); c.N != 1 {
				t.Errorf("it was applied %d times", c.N)
			}
			db.Exec(t, "delete from counts")
		})
	}
}

// deafPool is a pool whose new connections can be refused: what it has goes on.
func deafPool(t *testing.T, db *pgtest.DB) (*pgxpool.Pool, *atomic.Bool) {
	t.Helper()
	var refuse atomic.Bool
	pool := db.Pool(t, func(c *pgxpool.Config) {
		c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
			if refuse.Load() {
				return errors.New("no new connections")
			}
			return nil
		}
	})
	return pool, &refuse
}

func TestCommittedButNotVisibleCarriesATokenToWaitOn(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	pool, refuse := deafPool(t, db)
	tab := items()
	node := start(t, pool, tab)
	ctx := deadline(t)
	writes := map[string]func(context.Context) (lockstep.Token, error){
		"Put": func(ctx context.Context) (lockstep.Token, error) { return tab.Put(ctx, item{ID: 1, Name: "late"}) },
		"Update": func(ctx context.Context) (lockstep.Token, error) {
			return tab.Update(ctx, 2, func(i item) (item, error) { i.Name = "late"; return i, nil })
		},
		"Tx": func(ctx context.Context) (lockstep.Token, error) {
			return node.Tx(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "insert into items values (3, 'late')"); return err })
		},
	}
	if _, err := tab.Put(ctx, item{ID: 2, Name: "early"}); err != nil {
		t.Fatal(err)
	}
	refuse.Store(true)
	db.Exec(t, "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name like 'lockstep %' and datname = current_database()")
	tokens := map[string]lockstep.Token{}
	for name, write := range writes {
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		tok, err := write(short)
		cancel()
		we := wantWrite(t, err, lockstep.ErrNotVisible, context.DeadlineExceeded)
		if we.Token != tok || tok == (lockstep.Token{}) {
			t.Errorf("%s: the error carries %v, the call returned %v", name, we.Token, tok)
		}
		tokens[name] = we.Token
	}
	if n := one[int](t, db, "select count(*)::int from items where name = 'late'"); n != 3 {
		t.Errorf("%d of 3 writes are committed", n)
	}
	refuse.Store(false)
	for name, tok := range tokens {
		if err := node.WaitFor(ctx, tok); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for id := range 3 {
		if i, _ := tab.Get(id + 1); i.Name != "late" {
			t.Errorf("row %d is %+v", id+1, i)
		}
	}
}

func TestABrokenTableDoesNotHideWritesToOthers(t *testing.T) {
	db := database(t, itemsSQL+"; create table other (id int primary key, v text)", "public.items", "public.other")
	type other struct {
		ID int
		V  string
	}
	tab, broken := items(), lockstep.NewTable("public.other", func(o other) int { return o.ID })
	node := start(t, db.Pool(t), tab, broken)
	ctx := deadline(t)
	db.Exec(t, "alter table other drop column v")
	if err := node.Reload(ctx, broken); !errors.Is(err, lockstep.ErrTable) {
		t.Fatal(err)
	}
	if _, err := tab.Put(ctx, item{ID: 1, Name: "nut"}); err != nil {
		t.Error("Put of the other table:", err)
	}
	if _, ok := tab.Get(1); !ok {
		t.Error("the row is not there")
	}
	tok, err := node.Tx(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "insert into other values (1)"); return err })
	if we := wantWrite(t, err, lockstep.ErrNotVisible, lockstep.ErrTable); we.Token != tok {
		t.Error(we.Token, tok)
	}
}

func TestEndedContextSendsNothing(t *testing.T) {
	db := database(t, itemsSQL, "public.items")
	tab := items()
	node := start(t, db.Pool(t), tab)
	ctx, cancel := context.WithCancel(deadline(t))
	cancel()
	_, put := tab.Put(ctx, item{ID: 1, Name: "x"})
	_, tx := node.Tx(ctx, func(pgx.Tx) error { t.Error("fn called"); return nil })
	for _, err := range []error{put, tx} {
		wantWrite(t, err, lockstep.ErrNotCommitted, context.Canceled)
		if errors.Is(err, lockstep.ErrUnavailable) {
			t.Error(err)
		}
	}
}
