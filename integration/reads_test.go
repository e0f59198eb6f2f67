package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

type account struct {
	ID      int
	Balance int
}

type transfer struct {
	Teller int
	N      int
}

// bank is money in two tables, which every transfer moves from one to the
// other, and a table that counts each teller's transfers.
type bank struct {
	current, savings *lockstep.Table[int, account]
	done             *lockstep.Table[int, transfer]
}

const (
	tellers  = 4
	accounts = 10
	total    = 2 * accounts * 100
)

func newBank(t *testing.T, db *pgtest.DB) (bank, *lockstep.Node) {
	t.Helper()
	byID := func(a account) int { return a.ID }
	b := bank{
		lockstep.NewTable("public.current", byID), lockstep.NewTable("public.savings", byID),
		lockstep.NewTable("public.done", func(d transfer) int { return d.Teller }),
	}
	db.Exec(t, fmt.Sprintf(`create table current (id int primary key, balance int not null);
		create table savings (id int primary key, balance int not null);
		create table done (teller int primary key, n int not null);
		insert into current select i, 100 from generate_series(1, %[1]d) i;
		insert into savings select i, 100 from generate_series(1, %[1]d) i;
		insert into done select i, 0 from generate_series(1, %[2]d) i`, accounts, tellers))
	install(t, db, "public.current", "public.savings", "public.done")
	return b, startNode(t, db.Pool(t), lockstep.Config{}, b.current, b.savings, b.done)
}

// transfer moves money in one transaction of several statements; one of four is rolled back.
func transferOnce(ctx context.Context, pool *pgxpool.Pool, rng *rand.Rand, teller int) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit it does nothing
	from, to := "current", "savings"
	if rng.IntN(2) == 0 {
		from, to = to, from
	}
	amount := 1 + rng.IntN(50)
	for _, sql := range []string{
		fmt.Sprintf("update done set n = n + 1 where teller = %d", teller),
		fmt.Sprintf("update %s set balance = balance - %d where id = %d", from, amount, 1+rng.IntN(accounts)),
		fmt.Sprintf("update %s set balance = balance + %d where id = %d", to, amount, 1+rng.IntN(accounts)),
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if rng.IntN(4) == 0 {
		return nil
	}
	return tx.Commit(ctx)
}

// seen is what a reader knows: it never goes back.
type seen [tellers + 1]int

func (s *seen) check(d transfer) error {
	if d.N < s[d.Teller] {
		return fmt.Errorf("teller %d had done %d transfers and now %d", d.Teller, s[d.Teller], d.N)
	}
	s[d.Teller] = d.N
	return nil
}

// look opens a view and holds it to the bank's rules, then reads without one.
func (b bank) look(node *lockstep.Node, s *seen) (err error) {
	node.View(func(v *lockstep.View) {
		sum := 0
		for _, a := range b.current.At(v).All() {
			sum += a.Balance
		}
		// Read last, it must still be of the same instant.
		for id := range accounts {
			a, _ := b.savings.At(v).Get(id + 1)
			sum += a.Balance
		}
		if sum != total {
			err = fmt.Errorf("a view shows %d, want %d", sum, total)
			return
		}
		for _, d := range b.done.At(v).All() {
			if err == nil {
				err = s.check(d)
			}
		}
	})
	for teller := 1; teller <= tellers && err == nil; teller++ {
		d, _ := b.done.Get(teller)
		err = s.check(d)
	}
	return err
}

// Every view adds up and no reader goes back, whatever is written meanwhile.
func TestAViewNeverShowsHalfATransactionAndNoReaderGoesBack(t *testing.T) {
	db := fresh(t)
	b, node := newBank(t, db)
	ctx, pool := deadline(t), db.Pool(t)
	const transfers = 150 // of each teller
	var writers, readers sync.WaitGroup
	errs := make(chan error, 16)
	var over atomic.Bool
	for teller := 1; teller <= tellers; teller++ {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(teller)))
			for range transfers {
				// A deadlock is the bank's own affair.
				if err := transferOnce(ctx, pool, rng, teller); err != nil && sqlState(err) != "40P01" {
					errs <- err
					return
				}
			}
		})
	}
	var looks, moved atomic.Int64
	for range 3 {
		readers.Go(func() {
			var s seen
			for !over.Load() {
				before := s
				if err := b.look(node, &s); err != nil {
					errs <- err
					return
				}
				looks.Add(1)
				if s != before {
					moved.Add(1)
				}
			}
		})
	}
	writers.Wait()
	barrier(t, node)
	over.Store(true)
	readers.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	t.Logf("%d looks, %d of them at something new, while %d cuts were published", looks.Load(), moved.Load(), node.Status().Cuts)
	if moved.Load() < 10 {
		t.Errorf("only %d looks saw something new: this proves nothing", moved.Load())
	}
	for teller, d := range b.done.All() {
		var n int
		if err := pool.QueryRow(ctx, "select n from done where teller = $1", teller).Scan(&n); err != nil || n != d.N {
			t.Errorf("teller %d: %d in the node and %d in the database, %v", teller, d.N, n, err)
		}
	}
}

// A writer sees its own write as soon as it returns, and whoever it hands the
// token to sees it once it has waited for it.
func TestAWriteIsVisibleWhereItWasMadeAndWhereverItsTokenIsWaitedFor(t *testing.T) {
	db := fresh(t)
	items(t, db)
	here, there := itemTable(), itemTable()
	startNode(t, db.Pool(t), lockstep.Config{Name: "here"}, here)
	other := startNode(t, db.Pool(t), lockstep.Config{Name: "there"}, there)
	ctx := deadline(t)
	var wg sync.WaitGroup
	for id := 1; id <= 4; id++ {
		wg.Go(func() {
			for v := 1; v <= 50; v++ {
				var token lockstep.Token
				var err error
				switch v % 3 {
				case 0:
					token, err = here.Put(ctx, item{id, v})
				case 1:
					token, err = here.Update(ctx, id, func(i item) (item, error) { return item{i.ID, v}, nil })
				default:
					if token, err = here.Delete(ctx, id); err == nil {
						if _, ok := here.Get(id); ok {
							t.Errorf("deleted row %d is still here", id)
						}
						token, err = here.Put(ctx, item{id, v})
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
				if got, _ := here.Get(id); got.V != v {
					t.Errorf("after writing %d the writer reads %d", v, got.V)
				}
				if err := other.WaitFor(ctx, token); err != nil {
					t.Error(err)
					return
				}
				if got, _ := there.Get(id); got.V != v {
					t.Errorf("after waiting for %d the other node reads %d", v, got.V)
				}
			}
		})
	}
	wg.Wait()
}

// The token of the caller's own transaction can be handed on before its end.
func TestATokenIsWaitedForUntilItsTransactionEnds(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	ctx, conn := deadline(t), db.Conn(t)
	for _, commit := range []bool{true, false} {
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, "update items set v = 77 where id = 5"); err != nil {
			t.Fatal(err)
		}
		token, err := lockstep.TokenOf(ctx, tx)
		if err != nil {
			t.Fatal(err)
		}
		barrier(t, node) // whatever is committed; this transaction is not
		waited := make(chan error, 1)
		go func() { waited <- node.WaitFor(ctx, token) }()
		barrier(t, node)
		select {
		case err := <-waited:
			t.Fatalf("the wait is over before the transaction is: %v", err)
		default:
		}
		end := tx.Rollback
		if commit {
			end = tx.Commit
		}
		if err := end(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		if got, _ := table.Get(5); got.V != 77 {
			t.Errorf("after the wait the node reads %d", got.V)
		}
	}
}

// After a barrier every commit of before it is visible, whoever made it.
func TestABarrierShowsWhateverWasCommittedBeforeIt(t *testing.T) {
	db := fresh(t)
	items(t, db)
	node, table := start(t, db.Pool(t))
	ctx := deadline(t)
	var wg sync.WaitGroup
	for id := 1; id <= 4; id++ {
		conn := db.Conn(t)
		wg.Go(func() {
			for v := 1; v <= 50; v++ {
				if _, err := conn.Exec(ctx, "update items set v = $1 where id = $2", v, id); err != nil {
					t.Error(err)
					return
				}
				if err := node.Barrier(ctx); err != nil {
					t.Error(err)
					return
				}
				if got, _ := table.Get(id); got.V != v {
					t.Errorf("after a barrier the node reads %d, want %d", got.V, v)
				}
			}
		})
	}
	wg.Wait()
}

// A subscriber to the node gets whole transactions across tables, each once.
func TestASubscriberToTheNodeGetsEachTransactionWholeAndOnce(t *testing.T) {
	db := fresh(t)
	b, node := newBank(t, db)
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	got, ready := make(chan lockstep.Tx, 1000), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for tx, err := range node.Changes(ctx) {
			switch {
			case err != nil:
				close(got)
				return
			case tx.Reset:
				close(ready)
			default:
				got <- tx
			}
		}
	})
	<-ready
	rng, conn := rand.New(rand.NewPCG(1, 2)), db.Pool(t)
	for range 100 {
		if err := transferOnce(ctx, conn, rng, 1); err != nil {
			t.Fatal(err)
		}
	}
	barrier(t, node)
	d, _ := b.done.Get(1)
	seen := map[uint64]bool{}
	for n := 1; n <= d.N; n++ {
		tx := <-got
		if len(tx.Changes) != 3 || seen[tx.Xid] || tx.Coalesced || tx.Resync {
			t.Fatalf("transfer %d of %d came as %+v", n, d.N, tx)
		}
		seen[tx.Xid] = true
		if count, ok := tx.Changes[0].New.(transfer); !ok || count.N != n {
			t.Fatalf("transfer %d came as %+v", n, tx)
		}
		if sum := delta(tx.Changes[1]) + delta(tx.Changes[2]); sum != 0 {
			t.Fatalf("transfer %d moves %d: %+v", n, sum, tx)
		}
	}
	if d.N == 0 {
		t.Error("no transfer was made")
	}
	cancel()
	wg.Wait()
}

func delta(c lockstep.RowChange) int {
	was, _ := c.Old.(account)
	is, _ := c.New.(account)
	return is.Balance - was.Balance
}
