//go:build unix

package robust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/triggers"
)

// Profile is a kind of traffic.
type Profile string

// The profiles.
const (
	Mixed     Profile = "mixed"     // a bit of everything
	Contended Profile = "contended" // few rows, strict isolation, many savepoints
	Large     Profile = "large"     // statements over many rows, rows too large for an event
	TwoPhase  Profile = "two-phase" // PREPARE TRANSACTION, and so no bell that notifies
)

// Profiles are all of them.
var Profiles = []Profile{Mixed, Contended, Large, TwoPhase}

// bells are those that a profile's writers can do with.
func bells(p Profile) [2]triggers.Bell {
	if p == TwoPhase {
		return [2]triggers.Bell{triggers.BellWAL, triggers.BellOff}
	}
	return [2]triggers.Bell{triggers.BellWAL, triggers.BellNotify}
}

// writer writes at random, past the nodes, and records how each transaction ended.
type writer struct {
	name    string
	dsn     string
	rec     *recorder
	rng     *rand.Rand
	profile Profile
	async   bool // its commits do not wait for the disk, and it writes table tail only
	conn    *pgx.Conn
	n       int
	stamps  []string      // of the transaction at hand
	gate    *sync.RWMutex // held by a writer that waits for the disk while it works
}

// run writes until ctx ends. It connects again for as long as it takes.
func (w *writer) run(ctx context.Context) {
	defer func() { w.drop() }()
	for pause.For(ctx, time.Duration(1+w.rng.IntN(12))*time.Millisecond) {
		if w.conn == nil || w.conn.IsClosed() {
			if !w.connect(ctx) {
				pause.For(ctx, 50*time.Millisecond)
				continue
			}
		}
		w.gated()
	}
}

// gated makes one transaction, unless writers are held.
func (w *writer) gated() {
	if !w.async {
		w.gate.RLock()
		defer w.gate.RUnlock()
	}
	w.transaction()
}

func (w *writer) drop() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.conn.Close(ctx) // it may be broken
		w.conn = nil
	}
}

func (w *writer) connect(ctx context.Context) bool {
	w.drop()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		return false
	}
	w.conn = conn
	commit := "on"
	if w.async {
		commit = "off"
	}
	if _, err := conn.Exec(ctx, "set lock_timeout = '1500ms'; set synchronous_commit = "+commit+"; set application_name = 'writer'"); err != nil {
		return false
	}
	return w.resolve(ctx) == nil
}

// resolve ends what this writer prepared before its connection broke.
func (w *writer) resolve(ctx context.Context) error {
	if w.profile != TwoPhase {
		return nil
	}
	rows, _ := w.conn.Query(ctx, "select gid from pg_prepared_xacts where gid like $1", w.name+"-%") // CollectRows has its error
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, gid := range gids {
		end := "commit"
		if w.rng.IntN(2) == 0 {
			end = "rollback"
		}
		_, endErr := w.conn.Exec(ctx, end+" prepared '"+gid+"'")
		err = errors.Join(err, endErr)
	}
	return err
}

// transaction runs one and records it.
func (w *writer) transaction() {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	w.stamps = nil
	out := &Write{Writer: w.name, Call: now(), Sync: !w.async, Outcome: Failed}
	committing, err := w.attempt(ctx, out)
	out.Return = now()
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		out.Outcome = OK
	case errors.As(err, &pgErr):
		out.Code, out.Err = pgErr.Code, err.Error()
		if committing && (strings.HasPrefix(pgErr.Code, "57P") || strings.HasPrefix(pgErr.Code, "08")) {
			out.Outcome = Unknown
		}
	default:
		out.Err = err.Error()
		if committing {
			out.Outcome = Unknown
		}
	}
	if out.Outcome == Failed {
		out.Gone = w.stamps
	}
	if out.Outcome != OK && w.conn != nil && !w.conn.IsClosed() {
		if _, err := w.conn.Exec(ctx, "rollback"); err != nil {
			w.drop()
		}
	}
	w.rec.add(record{Write: out})
}

// attempt makes one transaction. committing says that its commit was sent.
func (w *writer) attempt(ctx context.Context, out *Write) (committing bool, err error) {
	level := "read committed"
	if strict := 4; w.profile == Contended || w.rng.IntN(strict) == 0 {
		level = []string{"read committed", "repeatable read", "serializable"}[w.rng.IntN(3)]
	}
	if err := w.exec(ctx, "begin isolation level "+level); err != nil {
		return false, err
	}
	for range 1 + w.rng.IntN(3) {
		if err := w.step(ctx, out); err != nil {
			return false, err
		}
	}
	if err := w.conn.QueryRow(ctx, "select pg_current_xact_id()::text::bigint").Scan(&out.Xid); err != nil {
		return false, err
	}
	switch n := w.rng.IntN(20); {
	case n == 0:
		if err := w.exec(ctx, "insert into doomed values (-1)"); err != nil { // it fails after it has rung
			return false, err
		}
	case n < 3 && w.profile != TwoPhase:
		if err := w.exec(ctx, "set constraints all immediate"); err != nil {
			return false, err
		}
	case w.profile == TwoPhase && n < 12:
		gid := fmt.Sprintf("%s-%d", w.name, w.n)
		if err := w.exec(ctx, "prepare transaction '"+gid+"'"); err != nil {
			return true, err
		}
		return true, w.exec(ctx, "commit prepared '"+gid+"'")
	}
	return true, w.exec(ctx, "commit")
}

// step is one statement, or a few that a savepoint or nothing at all takes back.
func (w *writer) step(ctx context.Context, out *Write) error {
	savepoints := 8
	if w.profile == Contended {
		savepoints = 2
	}
	if w.rng.IntN(savepoints) != 0 {
		sql, _ := w.statement()
		out.Kept++
		return w.exec(ctx, sql)
	}
	sql, stamp := w.statement()
	out.Gone = append(out.Gone, stamp)
	for _, s := range []string{"savepoint s", sql, "rollback to savepoint s"} {
		if err := w.exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) exec(ctx context.Context, sql string) error {
	_, err := w.conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// statement draws what one message of a client does, and the stamp that its rows then have.
func (w *writer) statement() (sql, stamp string) {
	w.n++
	stamp = fmt.Sprintf("%s.%d", w.name, w.n)
	w.stamps = append(w.stamps, stamp)
	q, f := "'"+stamp+"'", fmt.Sprintf
	keys := 40
	if w.profile == Contended {
		keys = 8
	}
	k, v := w.rng.IntN(keys), w.rng.IntN(1000)
	if w.async {
		return f("insert into tail (id, v, stamp) values (%d, %d, %s) on conflict (id) do update set v = excluded.v, stamp = excluded.stamp", k, v, q), stamp
	}
	if w.rng.IntN(4) == 0 {
		amount := 1 + w.rng.IntN(50)
		from, to := "account", "saving"
		if w.rng.IntN(2) == 0 {
			from, to = to, from
		}
		return f("update %[1]s set v = v - %[3]d, stamp = %[4]s where id = %[5]d; update %[2]s set v = v + %[3]d, stamp = %[4]s where id = %[6]d", from, to, amount, q, 1+w.rng.IntN(20), 1+w.rng.IntN(20)), stamp
	}
	upsert := func(table string) string {
		return f("insert into %s (id, v, stamp) values (%d, %d, %s) on conflict (id) do update set v = excluded.v, stamp = excluded.stamp", table, k, v, q)
	}
	draw := []string{
		upsert("item"), upsert("item"), upsert("part"), upsert("echo"),
		f("update item set v = v + 1, stamp = %s where id %% 7 = %d", q, v%7),
		f("delete from item where id = %d", k),
		f("update item set id = id + 1000, stamp = %s where id = %d and not exists (select from item where id = %d)", q, k, k+1000),
		f("update item set id = id - 1000, stamp = %s where id = %d and not exists (select from item where id = %d)", q, k+1000, k),
		f("with d as (delete from item where id = %d returning v) insert into part (id, v, stamp) select %d, v, %s from d on conflict (id) do update set v = excluded.v, stamp = excluded.stamp", k, k, q),
		f("update part set id = id + 100, stamp = %s where id = %d and not exists (select from part where id = %d)", q, k, k+100),
		f("update part set id = id - 100, stamp = %s where id = %d and not exists (select from part where id = %d)", q, k+100, k),
		f("delete from part where id in (%d, %d)", k, k+100),
		f("do $x$ begin for i in 1..3 loop insert into item (id, v, stamp) values (%d + i, i, %s) on conflict (id) do update set v = item.v + i, stamp = excluded.stamp; end loop; end $x$", k, q),
		f("insert into wide (id, v, body, stamp) values (%d, %d, repeat('x', %d), %s) on conflict (id) do update set v = excluded.v, body = excluded.body, stamp = excluded.stamp", k%6, v, 10+v, q),
	}
	if w.profile == Large || w.rng.IntN(6) == 0 {
		draw = append(draw,
			f("insert into wide (id, v, body, stamp) values (%d, %d, repeat('y', %d), %s) on conflict (id) do update set v = excluded.v, body = excluded.body, stamp = excluded.stamp", k%6, v, 140_000+100*v, q),
			f("update wide set v = v + 1, stamp = %s where id = %d", q, k%6),
			f("delete from wide where id = %d", k%6),
			f("insert into part (id, v, stamp) select i, %d, %s from generate_series(%d, %d) i on conflict (id) do update set v = part.v + 1, stamp = excluded.stamp", v, q, 100+k, 160+k),
			f("update part set v = v + 1, stamp = %s where id >= 100", q),
			f("delete from part where id > %d", 100+k),
			// Rows that come in lists.
			f("insert into item (id, v, stamp) select i, %d, %s from generate_series(%d, %d) i on conflict (id) do update set v = item.v + 1, stamp = excluded.stamp", v, q, k, k+60),
			f("update item set v = v + 1, stamp = %s", q), f("update account set stamp = %s", q), f("delete from item where id > %d", k),
			f("update item set id = id + 1000, stamp = %s where id < 1000 and not exists (select from item where id >= 1000)", q),
		)
		if w.rng.IntN(30) == 0 {
			draw = []string{"truncate item", "truncate part", f("truncate item; insert into item (id, v, stamp) values (%d, 1, %s)", k, q)}
		}
	}
	return draw[w.rng.IntN(len(draw))], stamp
}
