package replay

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/cache"
)

const (
	emp  = "public.employees"
	dept = "public.departments"
)

// rig is an engine on the fake server. Every state that it publishes is
// compared with what the tables held in the snapshot of the fetch.
type rig struct {
	*testing.T
	db    *fakeDB
	store *cache.Store
	emp   *cache.Table[int, rec]
	dept  *cache.Table[int, rec]
	eng   *Engine
	cfg   Config

	mu      sync.Mutex
	cuts    []CutInfo
	first   int             // index of the first cut of the engine that runs
	exempt  map[string]bool // tables that are not compared
	onCheck func(CutInfo)
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{T: t, db: newFakeDB(emp, dept), cfg: cfg, exempt: map[string]bool{}}
	r.emp, r.dept = cache.NewTable[int, rec](emp), cache.NewTable[int, rec](dept)
	var err error
	if r.store, err = cache.NewStore(cache.Options{}, r.emp, r.dept); err != nil {
		t.Fatal(err)
	}
	r.cfg.OnCut = r.check
	r.eng, err = New(r.store, r.db, []Table{binding(r.emp), binding(r.dept)}, r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.finish)
	return r
}

func binding(t *cache.Table[int, rec]) Table {
	return &Binding[int, rec]{
		Table: t,
		Key:   func(v rec) int { return v.K },
		Row:   func(pgx.CollectableRow, *rec) error { return errors.New("the fake hands over values") },
		Equal: func(a, b rec) bool { return a == b },
	}
}

// live runs a test in a bubble of time, on an engine that has loaded.
func live(t *testing.T, cfg Config, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cfg)
		r.write(emp, 1, "one")
		r.write(dept, 1, "first")
		r.start()
		r.settle()
		f(t, r)
	})
}

func (r *rig) start() {
	r.Helper()
	if err := r.eng.Start(r.Context()); err != nil {
		r.Fatal("Start:", err)
	}
}

// finish runs inside the bubble: a goroutine that the engine has left behind
// keeps the bubble from ending.
func (r *rig) finish() {
	if err := r.eng.Close(context.Background()); err != nil {
		r.Error("Close:", err)
	}
	r.store.Close()
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	for _, b := range r.db.breaches {
		r.Error("the engine broke the contract of Session:", b)
	}
	for _, s := range r.db.sessions {
		if !s.closed.Load() {
			r.Error("a session was left open")
		}
	}
}

func content(t *cache.Table[int, rec]) rows {
	out := rows{}
	for k, v := range t.All() {
		if v.K != k {
			out[k] = "under another row's key"
			continue
		}
		out[k] = v.V
	}
	return out
}

// check runs on the engine's goroutine after every published cut.
func (r *rig) check(info CutInfo) {
	r.db.mu.Lock()
	want := r.db.expect
	r.db.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.cuts); n > r.first && info.Reason == "" {
		if last := r.cuts[n-1]; last.History != info.History || !info.Position.Includes(last.Position) {
			r.Errorf("the position has gone from %v to %v without a load", last.Position, info.Position)
		}
	}
	r.cuts = append(r.cuts, info)
	for _, t := range []*cache.Table[int, rec]{r.emp, r.dept} {
		if got := content(t); !r.exempt[t.Name()] && !maps.Equal(got, want[t.Name()]) {
			r.Errorf("cut %d at %v (%s): table %s holds %v, in the snapshot %v it held %v",
				len(r.cuts), info.Position, info.Reason, t.Name(), got, info.Snapshot, want[t.Name()])
		}
	}
	r.store.View(func(v *cache.View) {
		if meta, ok := v.Meta().(CutInfo); !ok || meta.Position.String() != info.Position.String() {
			r.Errorf("the view's position is %v, the cut's %v", v.Meta(), info.Position)
		}
	})
	if r.onCheck != nil {
		r.onCheck(info)
	}
}

func (r *rig) published() []CutInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]CutInfo(nil), r.cuts...)
}

func (r *rig) leaveOut(table string, out bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exempt[table] = out
}

// set changes the fake's script.
func (r *rig) set(f func(db *fakeDB)) {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	f(r.db)
}

// write commits one row.
func (r *rig) write(table string, k int, v string) uint64 {
	tx := r.db.begin()
	tx.put(table, k, v)
	tx.commit()
	return tx.xid
}

// settle lets the engine come to rest without time passing by more than it
// takes to look again.
func (r *rig) settle() {
	time.Sleep(20 * time.Millisecond)
	synctest.Wait()
}

func (r *rig) want(table *cache.Table[int, rec], k int, v string) {
	r.Helper()
	if got, _ := table.Get(k); got.V != v {
		r.Errorf("%s[%d] is %q, want %q", table.Name(), k, got.V, v)
	}
}

func (r *rig) wantState(s State) Status {
	r.Helper()
	st := r.eng.Status()
	if st.State != s {
		r.Errorf("the engine is %v (%s), want %v", st.State, st.Reason, s)
	}
	return st
}

func (r *rig) fetches() int {
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	return len(r.db.requests)
}

// heal lets time pass until the engine has come back and caught up.
func (r *rig) heal() {
	r.Helper()
	for range 100 {
		time.Sleep(r.eng.cfg.Beat)
		synctest.Wait()
		if r.eng.Status().State == Live {
			return
		}
	}
	r.Errorf("the engine did not come back: %+v", r.eng.Status())
}

// cutOff ends the connections and keeps the server away until heal.
func (r *rig) cutOff() {
	r.set(func(db *fakeDB) {
		db.down = errPulled
		db.cutOff()
	})
	synctest.Wait()
}

func (r *rig) cameBack() {
	r.set(func(db *fakeDB) { db.down = nil })
}
