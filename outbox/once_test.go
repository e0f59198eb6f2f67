package outbox_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The header and the events of a fetch share one snapshot: whatever commits
// between the two is of the next fetch, and each event comes exactly once.
func TestEveryEventComesOnceWhileWritersWrite(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	pos, _ := r.load(t, s)
	var writing sync.WaitGroup
	for w := range 6 {
		conn := r.Conn(t)
		writing.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 250 {
				end := "commit"
				if rnd.IntN(5) == 0 {
					end = "rollback"
				}
				id := w*1_000_000 + i*10
				sql := fmt.Sprintf("begin; insert into a values (%d, 'x'); insert into b values (%d, 'y'); select pg_sleep(%g); insert into a values (%d, 'z'); %s",
					id, id, rnd.Float64()*0.004, id+1, end)
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		writing.Wait()
		close(ended)
	}()
	var seen []int64
	fetches, late := 0, 0
	for last := false; ; fetches++ {
		select {
		case <-ended:
			last = true
		default:
		}
		for _, ev := range follow(t, s, &pos).events {
			if n := len(seen); n > 0 && ev.Seq < slices.Max(seen[max(0, n-50):]) {
				late++
			}
			seen = append(seen, ev.Seq)
		}
		if last {
			break
		}
	}
	rows, _ := r.pool.Query(t.Context(), "select seq from lockstep.outbox order by seq") // CollectRows has its error
	want, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(seen)
	if !slices.Equal(seen, want) {
		t.Errorf("%d events came of %d in the outbox", len(seen), len(want))
	}
	t.Logf("%d events in %d fetches, %d below one that had come before", len(seen), fetches, late)
	if late == 0 || fetches < 100 {
		t.Errorf("%d fetches saw %d events late: this proves nothing", fetches, late)
	}
}
