package outbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/outbox"
)

func awaitRing(t *testing.T, s *outbox.Session) {
	t.Helper()
	select {
	case <-s.Rings():
	case <-time.After(20 * time.Second):
		t.Fatal("nobody rang")
	}
}

func TestBellRingsForACommitAndForAForgedNotification(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	if s.Bell() != "notify" {
		t.Fatalf("the bell is %s", s.Bell())
	}
	r.Exec(t, "insert into a values (1, 'a')")
	awaitRing(t, s)
	for _, payload := range []string{"''", "'nonsense'", "repeat('9', 7999)", "'-1'"} {
		r.Exec(t, "select pg_notify('lockstep_' || 'lockstep.outbox'::regclass::oid, "+payload+")")
		awaitRing(t, s)
	}
}

func TestBellThatLosesItsConnectionSaysSo(t *testing.T) {
	r := newRig(t)
	s := r.open(t)
	r.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockstep bell'")
	select {
	case <-s.Lost():
	case <-time.After(20 * time.Second):
		t.Fatal("the bell lost its connection without a word")
	}
}

func TestBellThatIsOffOrHearsNothingIsPolledInstead(t *testing.T) {
	r := newRig(t)
	r.Exec(t, "update lockstep.meta set bell = 'off'")
	if s := r.open(t); s.Bell() != "poll" || s.Rings() != nil || s.Lost() != nil {
		t.Errorf("with the bell off the session uses %s", s.Bell())
	}
	r.Exec(t, "update lockstep.meta set bell = 'notify'")

	// A pooler in transaction mode: LISTEN succeeds, and then the server
	// connection is somebody else's. UNLISTEN by the pool's own set-up does the same.
	deaf := r.Pool(t, func(c *pgxpool.Config) {
		c.ConnConfig.OnNotification = nil
		c.ConnConfig.Tracer = unlisten{}
	})
	for bell, want := range map[outbox.Bell]string{outbox.BellDefault: "poll", outbox.BellNotify: "heard nothing"} {
		src, err := outbox.NewSource(outbox.Config{Pool: deaf, Bell: bell, ProveWithin: 100 * time.Millisecond, Tables: []outbox.TableSpec{{Name: "public.a"}}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := src.Open(t.Context())
		switch {
		case err != nil && strings.Contains(err.Error(), want):
		case err == nil && s.Bell() == want:
			s.Close()
		default:
			t.Errorf("bell %q on a deaf connection: %v, %v", bell, s, err)
		}
	}
}

// unlisten takes back every LISTEN, as a pooler in transaction mode does.
type unlisten struct{}

func (unlisten) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, unlisten{}, d.SQL)
}

func (unlisten) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(unlisten{}).(string); strings.HasPrefix(sql, "listen") {
		_, _ = conn.PgConn().Exec(ctx, "unlisten *").ReadAll() // the proof that follows tells
	}
}

func TestOpenRefusesWhatCannotBeFollowed(t *testing.T) {
	r := newRig(t)
	open := func() error {
		s, err := r.src.Open(t.Context())
		if err == nil {
			s.Close()
		}
		return err
	}
	r.Exec(t, "update lockstep.meta set min_node = 1000")
	if err := open(); !errors.Is(err, outbox.ErrSchema) || !strings.Contains(err.Error(), "newer node") {
		t.Errorf("a schema for later nodes: %v", err)
	}
	r.Exec(t, "update lockstep.meta set min_node = 1, system_identifier = 5")
	if err := open(); !errors.Is(err, outbox.ErrForeignCluster) || !strings.Contains(err.Error(), "--new-history") {
		t.Errorf("an outbox of another cluster: %v", err)
	}
	r.Exec(t, "drop schema lockstep cascade")
	if err := open(); !errors.Is(err, outbox.ErrNotInstalled) || !strings.Contains(err.Error(), "lockstep install") {
		t.Errorf("no schema: %v", err)
	}
	if _, err := outbox.NewSource(outbox.Config{}); err == nil {
		t.Error("a source without a pool")
	}
	if _, err := outbox.NewSource(outbox.Config{Pool: r.pool, Bell: "gong"}); err == nil || !strings.Contains(err.Error(), "gong") {
		t.Errorf("bell gong: %v", err)
	}
}

func TestSessionConnectsAsThePoolWould(t *testing.T) {
	r := newRig(t)
	role := r.Role(t)
	r.Exec(t, "grant usage on schema lockstep to "+role.Name+"; grant select on all tables in schema lockstep to "+role.Name+
		"; grant select on all sequences in schema lockstep to "+role.Name+"; grant select on a, b to "+role.Name)
	password := "first"
	r.Exec(t, "alter role "+role.Name+" password 'first'")
	connected := 0
	pool := r.PoolAs(t, role, func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			cc.Password = password
			return nil
		}
		c.AfterConnect = func(context.Context, *pgx.Conn) error {
			connected++
			return nil
		}
	})
	src, err := outbox.NewSource(outbox.Config{Pool: pool, Tables: []outbox.TableSpec{{Name: "public.a"}, {Name: "public.b"}}})
	if err != nil {
		t.Fatal(err)
	}
	r.src = src
	r.open(t).Close()
	r.Exec(t, "alter role "+role.Name+" password 'second'")
	if _, err := src.Open(t.Context()); err == nil {
		t.Fatal("the old password was good enough")
	}
	password = "second"
	s := r.open(t)
	r.load(t, s)
	if connected != 4 {
		t.Errorf("AfterConnect ran %d times for two sessions of two connections", connected)
	}
}

// What a connection string asks of a server is asked of the server, and not of
// the settings that a session makes for itself.
func TestASessionGoesWhereItsPoolIsLetIn(t *testing.T) {
	for _, attrs := range []string{"any", "read-write", "primary", "prefer-standby"} {
		r := newRig(t)
		config, err := pgxpool.ParseConfig(r.DSN() + "&target_session_attrs=" + attrs)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if err := pool.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		src, err := outbox.NewSource(outbox.Config{Pool: pool, Bell: outbox.BellNotify, Tables: []outbox.TableSpec{{Name: "public.a"}}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := src.Open(t.Context())
		if err != nil {
			t.Errorf("target_session_attrs=%s: %v", attrs, err)
			continue
		}
		s.Close()
	}
}
