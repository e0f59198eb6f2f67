package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// underTraffic runs migrations while writers write each table without a pause:
// before, meanwhile, and while it is mended. The writers meet no error of
// capture's, and no other one that the migration does not explain by itself.
func underTraffic(t *testing.T, list map[string]migration) {
	t.Helper()
	r := newDriftRig(t, list)
	writers := r.write(t)
	for i, m := range r.tables {
		writers[i].turn(t)
		r.run(t, i, m.sql)
		writers[i].turn(t)
	}
	for i, m := range r.tables {
		if m.says == "" {
			writers[i].stop()
			continue
		}
		t.Run(m.what, func(t *testing.T) { r.untilSaid(t, i) })
	}
	for i, m := range r.tables {
		if m.says == "" {
			t.Run(m.what, func(t *testing.T) { r.untilEqual(t, i) })
		}
	}
	r.mend(t)
	for i, m := range r.tables {
		if m.says != "" {
			writers[i].turn(t)
			writers[i].stop()
		}
	}
	r.wantMended(t)
	for _, w := range writers {
		w.wantHarmless(t)
	}
	for i, n := range r.nodes {
		if s := n.Status(); s.Resyncs != 0 || s.Failures != 0 {
			t.Errorf("node %d: %d resyncs and %d failures, the last %v", i, s.Resyncs, s.Failures, s.LastError)
		}
	}
}

// scribe writes one table, on a connection of its own, until it is stopped.
type scribe struct {
	m       *migrated
	parity  int       // its rows: the ids that are even, or odd, so that two never wait in a circle
	tables  [2]string // what the table is called, and what it may be called by now
	columns [2]string

	stopped context.CancelFunc
	done    chan struct{}
	tries   atomic.Int64
	met     map[string]error // by SQLSTATE; "": of no server. Read once it is done
}

// crew is the writers of one table.
type crew []*scribe

// write starts the writers of every table.
func (r *driftRig) write(t *testing.T) []crew {
	t.Helper()
	crews := make([]crew, len(r.tables))
	for i, m := range r.tables {
		crews[i] = writeTo(t, r.db, m)
	}
	return crews
}

// writeTo starts the two writers of one table.
func writeTo(t *testing.T, db *pgtest.DB, m *migrated) crew {
	t.Helper()
	var c crew
	for parity := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		w := &scribe{m: m, parity: parity, tables: either(m.name, m.of(m.table)), columns: either("v", m.column), stopped: cancel, done: make(chan struct{}), met: map[string]error{}}
		go w.run(ctx, db.Conn(t))
		t.Cleanup(func() { crew{w}.stop() })
		c = append(c, w)
	}
	return c
}

// turn waits until every writer has tried a few more times.
func (c crew) turn(t *testing.T) {
	t.Helper()
	for _, w := range c {
		enough := w.tries.Load() + 5
		until(t, "the writers of a table go on: "+w.m.what, func() bool {
			select {
			case <-w.done:
				t.Fatalf("%s: a writer has ended: %v", w.m.what, w.met)
			default:
			}
			return w.tries.Load() >= enough
		})
	}
}

func (c crew) stop() {
	for _, w := range c {
		w.stopped()
	}
	for _, w := range c {
		<-w.done
	}
}

// wantHarmless checks what the writers have met.
func (c crew) wantHarmless(t *testing.T) {
	t.Helper()
	c.stop()
	for _, w := range c {
		for state, err := range w.met {
			var pgErr *pgconn.PgError
			ours := errors.As(err, &pgErr) && strings.Contains(pgErr.Where, "function capture") // as our search_path shows it
			if ours || state != "23505" && !slices.Contains(w.m.fails, state) {
				t.Errorf("%s: a writer met %v", w.m.what, err)
				if pgErr != nil {
					t.Errorf("  %s", pgErr.Where)
				}
			}
		}
	}
}

// run writes until it is stopped; what is under way then comes to its end.
func (w *scribe) run(ctx context.Context, conn *pgx.Conn) {
	defer close(w.done)
	tick := time.NewTicker(12 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		err := w.one(limit, conn)
		cancel()
		w.tries.Add(1)
		if err == nil {
			continue
		}
		state := sqlState(err)
		w.met[state] = err
		if conn.IsClosed() {
			return
		}
		switch state {
		case "42P01": // there is no such table
			w.tables[0], w.tables[1] = w.tables[1], w.tables[0]
		case "42703": // there is no such column
			w.columns[0], w.columns[1] = w.columns[1], w.columns[0]
		}
	}
}

// either is a name and, where there is one, what it may be by now.
func either(name, other string) [2]string {
	if other == "" {
		other = name
	}
	return [2]string{name, other}
}

// one runs one of the statements, or a transaction of a few.
func (w *scribe) one(ctx context.Context, conn *pgx.Conn) error {
	a, b := w.id(), w.id()
	exec := func(sql string, args ...any) error {
		_, err := conn.Exec(ctx, fmt.Sprintf(sql, w.tables[0], w.columns[0]), args...)
		return err //nolint:wrapcheck // the writer's own
	}
	switch n := rand.N(60); {
	case n < 15:
		return exec("insert into %[1]s (id, %[2]s) values ($1, $2)", a, b)
	case n < 25:
		return exec("update %[1]s set %[2]s = %[2]s + 1 where id = $1", a)
	case n < 30:
		return exec("update %[1]s set %[2]s = %[2]s + 2 where id between $1::int and $1::int + 9 and id %% 2 = $2", a, w.parity)
	case n < 35:
		return exec("update %[1]s set id = $1 where id = $2", a, b)
	case n < 45:
		return exec("delete from %[1]s where id = $1", a)
	case n < 50:
		return exec("insert into %[1]s (id, %[2]s) select i, 7 from generate_series($1::int, $1::int + 6, 2) i", a)
	case n < 51 && !w.m.shared:
		return exec("truncate %[1]s")
	}
	return pgx.BeginFunc(ctx, conn, func(pgx.Tx) error {
		return errors.Join(exec("delete from %[1]s where id = $1", a), exec("insert into %[1]s (id, %[2]s) values ($1, 1)", a),
			exec("update %[1]s set %[2]s = 3 where id = $1", a))
	})
}

// id is one of the writer's own.
func (w *scribe) id() int { return 2*rand.N(20) + w.parity }
