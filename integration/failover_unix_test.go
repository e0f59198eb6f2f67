//go:build unix

package integration

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// pair is a primary and a standby that streams from it.
type pair struct {
	primary, standby *pgtest.Cluster
	db               *pgtest.DB // on the primary
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{
		primary: own(t, pgtest.Trust, pgtest.Small, pgtest.With("autovacuum", "off")),
		standby: pgtest.Own(t, pgtest.Trust, pgtest.Small, pgtest.With("autovacuum", "off")),
	}
	p.db = p.primary.New(t)
	items(t, p.db)
	p.standby.BecomeCopy(t, p.primary, fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%d user=%s'\n", p.primary.Port(), pgserver.Superuser))
	p.standby.BecomeStandby(t)
	p.await(t)
	return p
}

// there is the database on the standby.
func (p *pair) there(t *testing.T) *pgtest.DB {
	t.Helper()
	return p.standby.Has(p.db)
}

// await waits until the standby has all that the primary has.
func (p *pair) await(t *testing.T) {
	t.Helper()
	var end string
	if err := p.db.Conn(t).QueryRow(deadline(t), "select pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
		t.Fatal(err)
	}
	there := p.there(t).Conn(t)
	until(t, "the standby has everything", func() bool {
		var has bool
		return there.QueryRow(deadline(t), "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", end).Scan(&has) == nil && has
	})
}

// hosts is a pool that goes to whichever of several servers takes writes.
func hosts(t *testing.T, db *pgtest.DB, attrs string, addresses ...string) *pgxpool.Pool {
	t.Helper()
	at, err := url.Parse(db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	var names, ports []string
	for _, a := range addresses {
		ap := netip.MustParseAddrPort(a)
		names, ports = append(names, ap.Addr().String()), append(ports, fmt.Sprint(ap.Port()))
	}
	return poolAt(t, fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable target_session_attrs=%s",
		strings.Join(names, ","), strings.Join(ports, ","), at.User.Username(), db.Name, attrs))
}

// A primary dies with the end of its log, which its standby never got but a
// node has applied. The ids and numbers of the lost end are given out again.
// The node finds the new primary, sees that it does not have what was applied,
// and makes good what differs.
func TestAFailoverThatLosesATailLeadsToADifferenceAndNoMore(t *testing.T) {
	p := newPair(t)
	_, proxy := proxied(t, p.there(t))
	proxy.Stop()
	pool := hosts(t, p.db, "read-write", p.primary.Addr(), proxy.Listen)
	node, table := quiet(t, pool)
	readers(t, node, table)
	told := listen(t, table)
	old, err := table.Put(deadline(t), item{150, 0})
	if err != nil {
		t.Fatal(err)
	}
	move(t, p.db.Conn(t), 1, 2, 5)
	p.await(t)

	if err := p.standby.Halt(pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	conn := p.db.Conn(t)
	move(t, conn, 3, 4, 7)
	run(t, conn, "insert into items values (200, 0)")
	run(t, conn, "delete from items where id = 150")
	move(t, conn, 51, 71, 1) // what the new primary's first transaction does, too
	barrier(t, node)
	lost := lastXid(t, conn)
	told.is(t, itemsOf(t, p.db))
	changes, had := subscribe(t, table), held(table)
	if err := p.primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.standby.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	there := p.there(t)
	refusesStandby(t, there)
	there.Exec(t, "select pg_promote()")
	moveUpTo(t, there, lost)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	barrier(t, node)
	wantResync(t, node, replay.AnchorMissing)
	wantSame(t, there, table)
	if err := node.WaitFor(deadline(t), old); err != nil {
		t.Errorf("a token of what survived: %v", err)
	}
	wantTold(t, there, changes, had)
	pool.Reset() // what it holds idle is not what is tested
	if tok, err := table.Put(deadline(t), item{300, 0}); err != nil || node.WaitFor(deadline(t), tok) != nil {
		t.Errorf("a write after the failover: %v", err)
	}
	wantSame(t, there, table)
	told.is(t, itemsOf(t, there))
}

// refusesStandby checks that a node is not started on the standby of a living or dead primary.
func refusesStandby(t *testing.T, db *pgtest.DB) {
	t.Helper()
	_, err := lockstep.Start(deadline(t), db.Pool(t), lockstep.Config{Logger: silent}, itemTable())
	if !errors.Is(err, outbox.ErrStandby) || !strings.Contains(err.Error(), "connect to the primary") {
		t.Errorf("a node started on a standby: %v", err)
	}
}

// A failover that loses nothing is replayed, and one to a server that is not
// promoted yet waits for it.
func TestAFailoverThatLosesNothingIsReplayed(t *testing.T) {
	p := newPair(t)
	pool := hosts(t, p.db, "any", p.primary.Addr(), p.standby.Addr())
	node, table := quiet(t, pool)
	readers(t, node, table)
	changes := subscribe(t, table)
	conn := p.db.Conn(t)
	for v := 1; v <= 10; v++ {
		move(t, conn, 1, 2, 1)
	}
	barrier(t, node)
	p.await(t)
	if err := p.primary.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the node says that it has a standby before it", func() bool {
		s := node.Status()
		return s.State == lockstep.Stale && errors.Is(s.LastError, outbox.ErrStandby)
	})
	there := p.there(t)
	there.Exec(t, "select pg_promote()")
	conn = there.Conn(t)
	for v := 11; v <= 20; v++ {
		move(t, conn, 1, 2, 1)
	}
	wantEach(t, values(changes.upTo(rowOneIs(20))), 1, 20)
	barrier(t, node)
	wantSame(t, there, table)
	if s := node.Status(); s.Resyncs+s.Reloads != 0 || s.Replays == 0 {
		t.Errorf("%d replays, loads %+v", s.Replays, s.Loads)
	}
	goesLive(t, node)
}

// A standby is passed over by whoever asks for a server that takes writes.
func TestANodeFindsThePrimaryAmongItsHosts(t *testing.T) {
	p := newPair(t)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := gone.Addr().String()
	_ = gone.Close() // nobody listens there
	for _, attrs := range []string{"read-write", "primary"} {
		node, table := quiet(t, hosts(t, p.db, attrs, nobody, p.standby.Addr(), p.primary.Addr()))
		if _, err := table.Put(deadline(t), item{400, 0}); err != nil {
			t.Errorf("%s: %v", attrs, err)
		}
		goesLive(t, node)
	}
	_, err = lockstep.Start(deadline(t), hosts(t, p.db, "read-only", p.standby.Addr(), p.primary.Addr()), lockstep.Config{Logger: silent}, itemTable())
	if !errors.Is(err, outbox.ErrStandby) {
		t.Errorf("a node that asks for a read-only server: %v", err)
	}
}
