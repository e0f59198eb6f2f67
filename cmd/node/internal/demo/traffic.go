package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// traffic is what the company does to its tables.
type traffic struct {
	pool    *pgxpool.Pool
	company string
	say     func(format string, args ...any)

	mu      sync.Mutex
	next    int                 // the next employee's number
	stamp   int64               // the last stamped write
	commits map[int64]time.Time // when each stamped write's commit had returned
	count   map[string]int
}

func newTraffic(pool *pgxpool.Pool, company string, say func(string, ...any)) *traffic {
	return &traffic{pool: pool, company: company, say: say, next: 401, commits: map[int64]time.Time{}, count: map[string]int{}}
}

// run writes at a rate, from several connections, until the context ends.
func (t *traffic) run(ctx context.Context, rate int) error {
	const writers = 4
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			tick := time.NewTicker(time.Second * writers / time.Duration(max(rate, writers)))
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if err := t.whole(ctx, t.one); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// whole lets a write end that has begun when the traffic does: one that is
// broken off may still be committed, by the server, after its tables were
// read to be compared.
func (t *traffic) whole(ctx context.Context, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return write(ctx)
}

func (t *traffic) counted(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count[what]++
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

// one does one thing that companies do.
func (t *traffic) one(ctx context.Context) error {
	department, someone := 1+rand.IntN(8), 1+rand.IntN(400)
	employees, departments := t.table("employees"), t.table("departments")
	switch n := rand.IntN(100); {
	case n < 25:
		t.counted("hires")
		id := t.hiring()
		return t.stamped(ctx, "insert into "+employees+" (id, name, department, salary, stamp) values ($2, $3, $4, 50000, $1)", id, fmt.Sprintf("Employee %d", id), department)
	case n < 60:
		t.counted("transfers")
		return t.stamped(ctx, "update "+employees+" set department = $2, stamp = $1 where id = $3", department, someone)
	case n < 80:
		t.counted("dismissals")
		_, err := t.pool.Exec(ctx, "delete from "+employees+" where id = (select id from "+employees+" where id > 400 order by random() limit 1)")
		return err
	case n < 97:
		t.counted("new managers")
		_, err := t.pool.Exec(ctx, "update "+departments+" set manager = $1 where id = $2", someone, department)
		return err
	case n < 99:
		t.counted("raises of a department")
		_, err := t.pool.Exec(ctx, "update "+employees+" set salary = salary + 100 where department = $1", department)
		return t.deadlockIsFine(err)
	}
	t.counted("rolled back raises")
	return t.rolledBack(ctx, department)
}

// deadlockIsFine: two raises may meet; Postgres ends one of them.
func (t *traffic) deadlockIsFine(err error) error {
	var state interface{ SQLState() string }
	if errors.As(err, &state) && state.SQLState() == "40P01" {
		return nil
	}
	return err
}

func (t *traffic) rolledBack(ctx context.Context, department int) error {
	tx, err := t.pool.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "update "+t.table("employees")+" set salary = 1000000 where department = $1", department)
	return errors.Join(t.deadlockIsFine(err), tx.Rollback(ctx))
}

// stamped runs a write that nodes can be timed by.
func (t *traffic) stamped(ctx context.Context, sql string, args ...any) error {
	stamp := t.newStamp()
	if _, err := t.pool.Exec(ctx, sql, append([]any{stamp}, args...)...); err != nil {
		return t.deadlockIsFine(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.commits[stamp] = time.Now()
	return nil
}

func (t *traffic) table(name string) string { return pgx.Identifier{t.company, name}.Sanitize() }

// bulkRaise is one statement over everybody.
func (t *traffic) bulkRaise(ctx context.Context) error {
	tag, err := t.pool.Exec(ctx, "update "+t.table("employees")+" set salary = salary + 1")
	if err == nil {
		t.say("a raise for everybody: %d rows in one statement", tag.RowsAffected())
	}
	return t.deadlockIsFine(err)
}
