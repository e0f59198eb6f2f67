package wal_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/outbox/wal"
	"github.com/pglockstep/lockstep/triggers"
)

// wantRefused holds a database without its WAL bell to what is promised: a
// session that polls and says why, in one line of the log however often it
// tries, and no session where the bell was asked for by name.
func (r *rig) wantRefused(t *testing.T, pool *pgxpool.Pool, why string) *outbox.Session {
	t.Helper()
	s := r.open(t, pool)
	if s.Bell() != "poll" || s.Rings() != nil || s.Lost() != nil || !strings.Contains(s.WhyBell(), why) || strings.Contains(s.WhyBell(), "\n") {
		t.Errorf("the bell is %s because of %q, want %q", s.Bell(), s.WhyBell(), why)
	}
	if n := len(r.said("polling")); n != 1 || len(r.said(why)) != 1 {
		t.Errorf("%d lines of the log: %q", n, r.said(""))
	}
	load(t, s)
	_, err := r.source(t, pool, func(c *outbox.Config) { c.Bell = outbox.BellWAL }).Open(t.Context())
	if !errors.Is(err, outbox.ErrBellRefused) || !strings.Contains(err.Error(), why) {
		t.Errorf("by name: %v, want %q", err, why)
	}
	return s
}

// comes waits for the bell of a session that polls.
func comes(t *testing.T, s *outbox.Session) {
	t.Helper()
	until(t, "the bell hangs", func() bool { return s.Bell() == "wal" && s.WhyBell() == "" })
	awaitRing(t, s)
}

func TestWithoutALogicalLogTheNodePollsAndSaysWhy(t *testing.T) {
	c := pgtest.Own(t)
	r := newRig(t, c.New(t))
	r.wantRefused(t, r.pool, "wal_level is replica, and must be logical").Close()
	found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
	if err != nil || len(found) != 1 || !strings.Contains(found[0].What, "wal_level is replica") || !strings.Contains(found[0].Mend, "--bell notify") {
		t.Errorf("inspect finds %v, %v", found, err)
	}
}

func TestARoleWithoutReplicationPollsAndSaysWhy(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	role := r.Role(t)
	grants, err := triggers.Grants(triggers.Options{}, "reader", role.Name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(grants, "replication") {
		t.Errorf("the reader's grants do not say what the WAL bell needs:\n%s", grants)
	}
	r.Exec(t, grants+"; grant select on a to "+role.Name)
	s := r.wantRefused(t, r.PoolAs(t, role), "role "+role.Name+" needs REPLICATION")
	r.Exec(t, "alter role "+role.Name+" replication")
	comes(t, s)
	r.Exec(t, "insert into a values (1, 'x')")
	awaitRing(t, s)
}

func TestWithoutAFreeSlotOrWalsenderTheNodePollsUntilThereIsOne(t *testing.T) {
	for setting, why := range map[string]string{
		"max_replication_slots": "no slot is free: raise max_replication_slots", "max_wal_senders": "no walsender is free: raise max_wal_senders",
	} {
		t.Run(setting, func(t *testing.T) {
			c := pgtest.Own(t, pgtest.With("wal_level", "logical"), pgtest.With(setting, "1"))
			r := newRig(t, c.New(t))
			first := r.hung(t)
			s := r.wantRefused(t, r.pool, why)
			first.Close()
			comes(t, s)
		})
	}
}

func TestWithoutItsPublicationTheNodePollsAndSaysWhatToRun(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	for _, sql := range []string{
		"alter publication lockstep_bell set (publish = 'update')",
		"alter publication lockstep_bell drop table lockstep.outbox",
		"drop publication lockstep_bell",
	} {
		r.Exec(t, sql)
		r.log.Reset()
		r.wantRefused(t, r.pool, "publication lockstep_bell of the outbox is not there: run lockstep install --bell wal").Close()
		found, err := triggers.Inspect(t.Context(), r.pool, triggers.Options{})
		if err != nil || len(found) != 1 || !strings.Contains(found[0].What, "publication lockstep_bell") || found[0].Mend != "lockstep install --bell wal" {
			t.Errorf("after %s inspect finds %v, %v", sql, found, err)
		}
		r.install(t, triggers.BellDefault) // what it mends it with
		r.hung(t).Close()
	}
	r.Exec(t, "drop publication lockstep_bell")
	r.log.Reset()
	s := r.wantRefused(t, r.pool, "lockstep_bell")
	r.install(t, triggers.BellDefault)
	comes(t, s)
}

// Postgres would let commits wait for the bell, and believe it.
func TestTheBellIsNoStandby(t *testing.T) {
	c := pgtest.Own(t, pgtest.With("wal_level", "logical"), pgtest.With("synchronous_commit", "local"), pgtest.With("synchronous_standby_names", "ANY 1 (other, lockstep)"))
	r := newRig(t, c.New(t))
	src := r.source(t, r.pool)
	s := r.hung(t)
	pos := load(t, s)
	for _, names := range []string{"*", "FIRST 1 (other, *)", `ANY 1 (other, "Lockstep Bell")`} {
		r.Exec(t, "alter system set synchronous_standby_names = '"+names+"'")
		r.Exec(t, "select pg_reload_conf()")
		var err error
		until(t, "the session ends", func() bool {
			err = s.Fetch(t.Context(), outbox.Request{From: pos}, &counter{})
			return err != nil
		})
		s.Close()
		if !isChanged(err) {
			t.Errorf("%s: %v", names, err)
		}
		if s, err = src.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		if s.Bell() != "poll" || !strings.Contains(s.WhyBell(), "would take it for a standby") {
			t.Errorf("%s: the bell is %s: %q", names, s.Bell(), s.WhyBell())
		}
	}
	r.nothingLeft(t)
}

func TestANodeUsesTheBellThatTheDatabaseHas(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	for _, c := range []struct {
		installed triggers.Bell
		asked     outbox.Bell
		without   bool // Config.WAL is nil
		rings     string
		why       string
	}{
		{triggers.BellWAL, outbox.BellAuto, false, "wal", ""},
		{triggers.BellWAL, outbox.BellWAL, false, "wal", ""},
		{triggers.BellWAL, outbox.BellPoll, false, "poll", ""},
		{triggers.BellWAL, outbox.BellAuto, true, "poll", "Config.WAL"},
		{triggers.BellWAL, outbox.BellNotify, false, "poll", "nothing notifies"},
		{triggers.BellNotify, outbox.BellAuto, false, "notify", "install --bell wal"},
		{triggers.BellNotify, outbox.BellAuto, true, "notify", ""},
		{triggers.BellNotify, outbox.BellNotify, false, "notify", ""},
		{triggers.BellNotify, outbox.BellWAL, false, "", "install --bell wal"},
		{triggers.BellOff, outbox.BellAuto, false, "poll", "the bell is off"},
		{triggers.BellOff, outbox.BellNotify, true, "poll", "the bell is off"},
		{triggers.BellOff, outbox.BellWAL, false, "", "install --bell wal"},
	} {
		r.install(t, c.installed)
		s, err := r.source(t, r.pool, func(cfg *outbox.Config) {
			cfg.Bell = c.asked
			if c.without {
				cfg.WAL = nil
			}
		}).Open(t.Context())
		switch {
		case err != nil && c.rings == "" && errors.Is(err, outbox.ErrBellRefused) && strings.Contains(err.Error(), c.why):
		case err != nil:
			t.Errorf("%+v: %v", c, err)
		default:
			if s.Bell() != c.rings || c.why == "" != (s.WhyBell() == "") || !strings.Contains(s.WhyBell(), c.why) {
				t.Errorf("%+v: the bell is %s: %q", c, s.Bell(), s.WhyBell())
			}
			s.Close()
		}
	}
	if _, err := outbox.NewSource(outbox.Config{Pool: r.pool, Bell: outbox.BellWAL}); err == nil || !strings.Contains(err.Error(), "Config.WAL") {
		t.Errorf("bell wal in a program without it: %v", err)
	}
}

// A name that leads elsewhere by now must not lead to a bell that rings for the commits of another server.
func TestABellThatWouldHangAtAnotherServerIsTriedAgain(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	other := newRig(t, pgtest.Own(t, pgtest.With("wal_level", "logical")).New(t))
	elsewhere := other.pool.Config().ConnConfig
	var away atomic.Bool
	pool := r.Pool(t, func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			if away.Load() {
				cc.Host, cc.Port, cc.User, cc.Password, cc.Database = elsewhere.Host, elsewhere.Port, elsewhere.User, elsewhere.Password, elsewhere.Database
			}
			return nil
		}
	})
	s := r.open(t, pool)
	if s.Bell() != "wal" {
		t.Fatalf("the bell is %s: %s", s.Bell(), s.WhyBell())
	}
	away.Store(true)
	s.Rest(true)
	s.Rest(false)
	until(t, "it says that it came to another server", func() bool { return strings.Contains(s.WhyBell(), "leads to another one") })
	if s.Bell() != "poll" || other.slots(t) != 0 {
		t.Errorf("the bell is %s, with %d slots at the other server", s.Bell(), other.slots(t))
	}
	away.Store(false)
	comes(t, s)
}

// Who accepts the connection and never says a word does not keep the bell from being tried again.
func TestAServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	var away atomic.Bool
	pool := r.Pool(t, func(c *pgxpool.Config) {
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if away.Load() {
				addr = mute.Addr().String()
			}
			return dial(ctx, network, addr)
		}
	})
	s := r.open(t, pool, func(c *outbox.Config) { c.WAL = wal.BellWithin(200 * time.Millisecond) })
	away.Store(true)
	s.Rest(true)
	s.Rest(false)
	until(t, "it is given up", func() bool { return strings.Contains(s.WhyBell(), "hang the WAL bell") })
	away.Store(false)
	comes(t, s)
}
