package lockstep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

const (
	auditRange = 500     // rows that are compared at one instant
	auditPart  = 1 << 16 // keys of the node that are held in memory at a time
	auditTries = 8       // how often an instant is asked for before a table is left for the next sweep
	auditKeeps = 16      // Differences that the status remembers
)

// auditPause is the time between two sweeps. Tests shorten it.
var auditPause = time.Minute

// Difference is a row of a node that was not what Postgres had at the same instant.
type Difference struct {
	Table    string
	Key      string // the key as fmt prints it; of documents, its JSON
	Wrong    Wrong
	Position Position // where the node stood
	Snapshot Position // the snapshot in which Postgres was read: exactly what the node showed
	At       time.Time
}

// AuditStatus is what Config.Audit has done since Start.
type AuditStatus struct {
	Rows      uint64 // rows of Postgres that were held against the node
	Keys      uint64 // keys of the node that were looked for in Postgres
	Sweeps    uint64 // complete ones, each over all tables
	LastSweep time.Time
	// Wrong counts wrong rows by table. One that stays is counted in each sweep.
	Wrong map[string]uint64
	Found []Difference // the last 16, oldest first
	// Failures counts the tables that could not be compared to the end in a sweep.
	Failures    uint64
	LastError   error
	LastErrorAt time.Time
}

// auditAccount is the AuditStatus on its way.
type auditAccount struct {
	mu sync.Mutex
	st AuditStatus
}

func (a *auditAccount) status() AuditStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := a.st
	st.Wrong, st.Found = maps.Clone(st.Wrong), slices.Clone(st.Found)
	return st
}

func (a *auditAccount) count(f func(*AuditStatus)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.st)
}

// auditor sweeps over the tables of a node.
//
// Each range is compared at a SharedCut: what Postgres is asked for is read in
// the very snapshot in which the node made its cut, so a difference is one. The rows
// of Postgres come in the order of the key and are looked up in the node,
// which finds rows that are missing or different. Then the node's keys are looked up in
// Postgres, which finds those that should be gone.
type auditor struct {
	n       *Node
	src     *outbox.Source
	session *outbox.Session // nil: there is none now
	said    map[string]bool // tables whose failure was said, until they succeed
}

func newAuditor(n *Node) *auditor { return &auditor{n: n, said: map[string]bool{}} }

// run sweeps until ctx ends.
func (a *auditor) run(ctx context.Context) {
	defer a.hangUp()
	src, err := a.n.readingSource()
	if err != nil {
		a.failed(ctx, "", err) // cannot be: the node's own source is made of the same
		return
	}
	a.src = src
	for ctx.Err() == nil {
		for i, t := range a.n.tables {
			if err := a.table(ctx, i); err != nil {
				a.failed(ctx, t.Name(), err)
			} else if ctx.Err() == nil {
				delete(a.said, t.Name())
			}
		}
		if ctx.Err() == nil {
			a.n.audit.count(func(st *AuditStatus) { st.Sweeps, st.LastSweep = st.Sweeps+1, time.Now() })
		}
		pause.For(ctx, auditPause)
	}
}

func (a *auditor) hangUp() {
	if a.session != nil {
		a.session.Close()
		a.session = nil
	}
}

func (a *auditor) failed(ctx context.Context, table string, err error) {
	a.hangUp()
	if ctx.Err() != nil || errors.Is(err, replay.ErrClosed) {
		return
	}
	if !a.said[table] {
		a.n.cfg.Logger.Warn("audit: a table cannot be compared with Postgres", "table", table, "error", err)
	}
	a.said[table] = true
	a.n.audit.count(func(st *AuditStatus) {
		st.Failures, st.LastError, st.LastErrorAt = st.Failures+1, err, time.Now()
	})
}

// pay waits for as long as the rows may take.
func (a *auditor) pay(ctx context.Context, rows int) {
	pause.For(ctx, time.Duration(max(rows, 1))*time.Second/time.Duration(a.n.cfg.Audit))
}

// table compares one table, both ways.
func (a *auditor) table(ctx context.Context, i int) error {
	var after []string
	for n := auditRange; n == auditRange && ctx.Err() == nil; {
		err := a.at(ctx, i, func(c comparison, cut *SharedCut) (err error) {
			after, n, err = a.forth(ctx, i, c, cut, after)
			return err
		})
		if err != nil {
			return err
		}
		a.pay(ctx, n)
	}
	c, err := a.n.tables[i].compare(a.n.types)
	if err != nil {
		return err
	}
	of := uint64(a.n.tables[i].Len()/auditPart + 1) //nolint:gosec // a length
	for part := range of {
		for keys := range slices.Chunk(c.keys(part, of), auditRange) {
			if ctx.Err() != nil {
				return nil
			}
			err := a.at(ctx, i, func(c comparison, cut *SharedCut) error { return a.back(ctx, i, c, cut, keys) })
			if err != nil {
				return err
			}
			a.pay(ctx, len(keys))
		}
	}
	return nil
}

// at calls fn at one instant. An instant that could not be shared is asked for
// again; nothing was compared then.
func (a *auditor) at(ctx context.Context, i int, fn func(comparison, *SharedCut) error) error {
	for try := 1; ; try++ {
		cut, err := a.cut(ctx, i)
		if err == nil {
			return a.within(ctx, i, cut, fn)
		}
		a.hangUp()
		if !errors.Is(err, replay.ErrNotShared) || try == auditTries {
			return err
		}
		pause.For(ctx, time.Duration(try)*100*time.Millisecond)
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (a *auditor) cut(ctx context.Context, i int) (_ *SharedCut, err error) {
	if a.session == nil {
		if a.session, err = a.src.Open(ctx); err != nil {
			return nil, err //nolint:wrapcheck // logged with its place
		}
	}
	return a.n.share(ctx, a.session, []int{i})
}

func (a *auditor) within(ctx context.Context, i int, cut *SharedCut, fn func(comparison, *SharedCut) error) error {
	defer cut.View.Close()
	err := cut.problem(i)
	if err == nil {
		var c comparison
		if c, err = a.n.tables[i].compare(a.n.types); err == nil {
			err = fn(c, cut)
		}
	}
	if endErr := cut.reading.End(ctx); err == nil && endErr != nil {
		err = endErr
	}
	return err
}

// forth holds a range of Postgres' rows against the node's.
func (a *auditor) forth(ctx context.Context, i int, c comparison, cut *SharedCut, after []string) (last []string, n int, err error) {
	last, n, err = cut.reading.Range(ctx, i, after, auditRange, func(row pgx.CollectableRow) error {
		key, wrong, err := c.row(cut.View, row)
		if wrong != "" {
			a.found(i, cut, key, wrong)
		}
		return err
	})
	a.n.audit.count(func(st *AuditStatus) { st.Rows += uint64(max(n, 0)) }) //nolint:gosec // a length
	return last, n, err                                                     //nolint:wrapcheck // named there
}

// back looks for the node's keys in Postgres. Those that the node has lost since they were listed are passed by.
func (a *auditor) back(ctx context.Context, i int, c comparison, cut *SharedCut, keys []any) error {
	var b pgx.Batch
	keys = slices.DeleteFunc(keys, func(k any) bool { return !c.holds(cut.View, k) })
	for _, k := range keys {
		if err := c.exists(&b, k); err != nil {
			return err
		}
	}
	results := cut.reading.SendBatch(ctx, &b)
	for _, k := range keys {
		tag, err := results.Exec()
		if err != nil {
			return errors.Join(fmt.Errorf("look for key %v: %w", k, err), results.Close())
		}
		if tag.RowsAffected() == 0 {
			a.found(i, cut, k, WrongExtra)
		}
	}
	a.n.audit.count(func(st *AuditStatus) { st.Keys += uint64(len(keys)) })
	return results.Close() //nolint:wrapcheck // logged with its place
}

// found reports a wrong row.
func (a *auditor) found(i int, cut *SharedCut, key any, wrong Wrong) {
	d := Difference{
		Table: a.n.tables[i].Name(), Key: fmt.Sprint(key), Wrong: wrong,
		Position: cut.Position, Snapshot: cut.Snapshot, At: time.Now(),
	}
	a.n.cfg.Logger.Error("audit: a row of this node is not what Postgres has at the same instant; Reload mends the table",
		"table", d.Table, "key", d.Key, "wrong", string(wrong), "position", d.Position.String(), "snapshot", d.Snapshot.String())
	a.n.audit.count(func(st *AuditStatus) {
		if st.Wrong == nil {
			st.Wrong = map[string]uint64{}
		}
		st.Wrong[d.Table]++
		if st.Found = append(st.Found, d); len(st.Found) > auditKeeps {
			st.Found = slices.Delete(st.Found, 0, 1)
		}
	})
}

type auditJSON struct {
	Rows        uint64            `json:"rows"`
	Keys        uint64            `json:"keys"`
	Sweeps      uint64            `json:"sweeps"`
	LastSweep   time.Time         `json:"last_sweep,omitzero"`
	Wrong       map[string]uint64 `json:"wrong,omitempty"`
	Found       []differenceJSON  `json:"found,omitempty"`
	Failures    uint64            `json:"failures"`
	LastError   string            `json:"last_error,omitempty"`
	LastErrorAt time.Time         `json:"last_error_at,omitzero"`
}

type differenceJSON struct {
	Table    string    `json:"table"`
	Key      string    `json:"key"`
	Wrong    Wrong     `json:"wrong"`
	Position Position  `json:"position"`
	Snapshot Position  `json:"snapshot"`
	At       time.Time `json:"at"`
}

// auditOf is nil where nothing has been compared.
func auditOf(s AuditStatus) *auditJSON {
	if s.Rows+s.Keys+s.Sweeps+s.Failures == 0 {
		return nil
	}
	j := &auditJSON{
		Rows: s.Rows, Keys: s.Keys, Sweeps: s.Sweeps, LastSweep: s.LastSweep, Wrong: s.Wrong,
		Failures: s.Failures, LastError: text(s.LastError), LastErrorAt: s.LastErrorAt,
	}
	for _, d := range s.Found {
		j.Found = append(j.Found, differenceJSON(d))
	}
	return j
}
