package outbox_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

func (r *rig) left(t *testing.T) (rows int, horizon uint64, lowest uint64) {
	t.Helper()
	err := r.pool.QueryRow(t.Context(), `select (select count(*) from lockstep.outbox), (select xid from lockstep.horizon),
		coalesce((select min(xid::text::bigint) from lockstep.outbox), 0)`).Scan(&rows, &horizon, &lowest)
	if err != nil {
		t.Fatal(err)
	}
	return rows, horizon, lowest
}

func (r *rig) trim(t *testing.T, o outbox.TrimOptions) outbox.TrimResult {
	t.Helper()
	res, err := outbox.Trim(t.Context(), r.pool, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (r *rig) write(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if _, err := r.pool.Exec(t.Context(), "insert into a values ((select coalesce(max(id), 0) from a) + 1, $1)", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTrimByAgeMovesTheHorizonWithTheRows(t *testing.T) {
	r := newRig(t)
	r.write(t, 30)
	r.Exec(t, "update lockstep.outbox set at = at - interval '2 days'")
	r.write(t, 5)
	res := r.trim(t, outbox.TrimOptions{KeepNewest: 10, Step: 7})
	rows, horizon, lowest := r.left(t)
	if rows != 10 || res.Deleted != 25 || res.Steps < 4 {
		t.Errorf("%d rows are left, %+v: want the newest 10 to stay, in several steps", rows, res)
	}
	if horizon == 0 || horizon > lowest || horizon != res.Horizon {
		t.Errorf("the horizon is %d (said: %d), the lowest transaction left %d", horizon, res.Horizon, lowest)
	}
	if res := r.trim(t, outbox.TrimOptions{KeepNewest: 1}); res.Deleted != 5 {
		t.Errorf("%+v: want the 5 other old ones gone, young ones stay", res)
	}
	if res := r.trim(t, outbox.TrimOptions{KeepNewest: 1}); res.Deleted != 0 || res.Horizon != 0 {
		t.Errorf("%+v where nothing is old", res)
	}
}

func TestTrimByCount(t *testing.T) {
	r := newRig(t)
	r.write(t, 50)
	r.trim(t, outbox.TrimOptions{KeepRows: 20, KeepNewest: 5})
	if rows, _, _ := r.left(t); rows != 20 {
		t.Errorf("%d rows are left, want 20", rows)
	}
}

func TestTrimNeverPassesATransactionInFlight(t *testing.T) {
	r := newRig(t)
	r.write(t, 3)
	old := r.begin(t)
	must(t, old, "insert into b values (1, 'long')")
	r.write(t, 30)
	r.trim(t, outbox.TrimOptions{KeepAge: time.Nanosecond, KeepNewest: 1})
	_, horizon, _ := r.left(t)
	commit(t, old)
	var xid uint64
	if err := r.pool.QueryRow(t.Context(), "select xid from lockstep.outbox where table_name = 'public.b'").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	if xid < horizon {
		t.Errorf("the horizon %d passed transaction %d, which committed later", horizon, xid)
	}
	if rows, _, _ := r.left(t); rows < 30 {
		t.Errorf("%d rows are left: a long writer must hold trimming back", rows)
	}
}

func TestTrimKeepsAnOutboxSmallerThanTheNewest(t *testing.T) {
	r := newRig(t)
	r.write(t, 5)
	if res := r.trim(t, outbox.TrimOptions{KeepAge: time.Nanosecond}); res.Deleted != 0 {
		t.Errorf("%+v: the newest thousand stay", res)
	}
}

func TestTrimKeepsTheNewestTransactionWhole(t *testing.T) {
	r := newRig(t)
	r.write(t, 3)
	r.Exec(t, "do $$ begin for i in 1..50 loop insert into b values (i, 'x'); end loop; end $$")
	r.trim(t, outbox.TrimOptions{KeepAge: time.Nanosecond, KeepNewest: 10})
	if rows, _, _ := r.left(t); rows != 50 {
		t.Errorf("%d rows are left of the newest transaction's 50", rows)
	}
}

// A node that was seen a moment ago keeps what it has not fetched, up to the hard limits.
func TestTrimSparesWhatALivingNodeNeeds(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	r.write(t, 10)
	pos, _ := r.load(t, s)
	r.write(t, 20)
	beat := func(name, position, state, age string) {
		r.Exec(t, `insert into lockstep.nodes (name, position, state, beat) values ($1, $2, $3, clock_timestamp() - $4::text::interval)
			on conflict (name) do update set beat = excluded.beat, state = excluded.state`, name, position, state, age)
	}
	beat("alive", pos.String(), "live", "1 minute")
	beat("long gone", "3:3:", "live", "2 hours")
	beat("closed", "3:3:", "closed", "1 second")
	beat("still loading", "", "loading", "1 second")
	beat("nonsense", "7:x", "live", "2 hours")
	everything := outbox.TrimOptions{KeepAge: time.Nanosecond, KeepNewest: 1}
	if res := r.trim(t, everything); res.Deleted != 9 && res.Deleted != 10 { // the floor may stand on the last one
		t.Errorf("%+v: want what the living node has to go, and no more", res)
	}
	if rec := fetch(t, s, outbox.Request{From: pos}); len(rec.events) != 20 {
		t.Errorf("the living node gets %d of its 20 events", len(rec.events))
	}
	hard := everything
	hard.HardRows = 5
	r.trim(t, hard)
	if rows, _, _ := r.left(t); rows != 5 {
		t.Errorf("%d rows under a hard limit of 5", rows)
	}
	r.write(t, 5)
	beat("alive", pos.String(), "live", "61 minutes")
	r.trim(t, everything)
	if rows, _, _ := r.left(t); rows != 1 {
		t.Errorf("%d rows are left for a node that was last seen an hour ago", rows)
	}
}

func TestTrimmersTakeTurns(t *testing.T) {
	r := newRig(t)
	r.write(t, 10)
	other := r.begin(t)
	must(t, other, "select pg_advisory_xact_lock(hashtext('lockstep trim'), hashtext('lockstep'))")
	o := outbox.TrimOptions{KeepAge: time.Nanosecond, KeepNewest: 1, Turn: true}
	if res := r.trim(t, o); res.Deleted != 0 {
		t.Errorf("%+v out of turn", res)
	}
	commit(t, other)
	if res := r.trim(t, o); res.Deleted != 9 {
		t.Errorf("%+v in turn", res)
	}
}
