package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// writers is how many connections write at once.
const writers = 4

// neverCommitted is a salary that is only ever written by transactions that
// are rolled back.
const neverCommitted = -1

// traffic is what the company does to its tables.
type traffic struct {
	pool    *pgxpool.Pool
	company string
	book    *book

	mu    sync.Mutex
	next  int   // the next employee's number
	stamp int64 // the last stamped write
	count map[string]int
}

func newTraffic(pool *pgxpool.Pool, company string, b *book) *traffic {
	return &traffic{pool: pool, company: company, book: b, next: lastArchivist + 1, count: map[string]int{}}
}

// run writes at a rate, from several connections, until the context ends or one
// of them fails. The error is one connection's: the others say the same.
func (t *traffic) run(ctx context.Context, rate int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			tick := time.NewTicker(time.Second * writers / time.Duration(rate))
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if err := whole(ctx, t.one); err != nil {
					errs[i] = err
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// burst writes n transactions as fast as they go.
func (t *traffic) burst(ctx context.Context, n int) error {
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			for range n / writers {
				if errs[i] = whole(ctx, t.one); errs[i] != nil || ctx.Err() != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// whole lets a write end that has begun when the traffic does: one that is
// broken off may still be committed, by the server, after its tables were
// read to be compared.
func whole(ctx context.Context, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return write(ctx)
}

// The things that companies do, as the account counts them.
const (
	hires      = "hires"
	transfers  = "transfers"
	dismissals = "dismissals"
	managers   = "new managers"
	raises     = "raises of a department"
	rollbacks  = "raises rolled back"
)

// one does one thing that companies do.
func (t *traffic) one(ctx context.Context) error {
	department, someone := 1+rand.IntN(8), 1+rand.IntN(400)
	employees, departments := t.table("employees"), t.table("departments")
	switch n := rand.IntN(100); {
	case n < 22:
		id := t.hiring()
		return t.stamped(ctx, hires, "insert into "+employees+" (id, name, department, salary, stamp) values ($2, $3, $4, 50000, $1)", id, fmt.Sprintf("Employee %d", id), department)
	case n < 58:
		return t.stamped(ctx, transfers, "update "+employees+" set department = $2, stamp = $1 where id = $3", department, someone)
	case n < 80: // as many as are hired, or a demo that runs for days would grow
		return t.exec(ctx, dismissals, "delete from "+employees+" where id = (select id from "+employees+" where id > $1 order by random() limit 1)", lastArchivist)
	case n < 97:
		return t.exec(ctx, managers, "update "+departments+" set manager = $1 where id = $2", someone, department)
	case n < 99:
		return t.exec(ctx, raises, "update "+employees+" set salary = salary + 100 where department = $1", department)
	}
	return t.rolledBack(ctx, department)
}

func (t *traffic) exec(ctx context.Context, what, sql string, args ...any) error {
	_, err := t.pool.Exec(ctx, sql, args...)
	return t.counted(what, err)
}

// stamped runs a write that nodes can be timed by.
func (t *traffic) stamped(ctx context.Context, what, sql string, args ...any) error {
	stamp := t.newStamp()
	_, err := t.pool.Exec(ctx, sql, append([]any{stamp}, args...)...)
	if err == nil {
		t.book.committed(stamp, time.Now())
	}
	return t.counted(what, err)
}

func (t *traffic) rolledBack(ctx context.Context, department int) error {
	tx, err := t.pool.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "update "+t.table("employees")+" set salary = $1 where department = $2", neverCommitted, department)
	return errors.Join(t.counted(rollbacks, err), tx.Rollback(ctx))
}

// bulkRaise is one statement over everybody; it returns how many they are.
func (t *traffic) bulkRaise(ctx context.Context) (rows int64, err error) {
	err = whole(ctx, func(ctx context.Context) error {
		tag, err := t.pool.Exec(ctx, "update "+t.table("employees")+" set salary = salary + 1")
		rows = tag.RowsAffected()
		return t.counted("raises for everybody", err)
	})
	return rows, err
}

// counted counts what was done. Two raises may meet, and then Postgres ends
// one of them: that is no error of the demo's, nor was anything done.
func (t *traffic) counted(what string, err error) error {
	var state interface{ SQLState() string }
	if errors.As(err, &state) && state.SQLState() == "40P01" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count[what]++
	return nil
}

func (t *traffic) newStamp() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stamp++
	return t.stamp
}

func (t *traffic) hiring() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	return t.next - 1
}

func (t *traffic) table(name string) string { return pgx.Identifier{t.company, name}.Sanitize() }

// total is how many transactions there were.
func (t *traffic) total() (n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.count {
		n += uint64(c)
	}
	return n
}

func (t *traffic) summary() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := ""
	for _, what := range []string{hires, transfers, dismissals, managers, raises} {
		text += fmt.Sprintf("%s %s, ", thousands(uint64(t.count[what])), what)
	}
	return text + fmt.Sprintf("%s %s", thousands(uint64(t.count[rollbacks])), rollbacks)
}
