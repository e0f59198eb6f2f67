package appsql

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// how is one way to run a script.
type how struct {
	captured bool
	extended bool
	bell     triggers.Bell
}

func (h how) String() string {
	if h.extended {
		return "extended protocol, bell " + string(h.bell)
	}
	return "simple protocol, bell " + string(h.bell)
}

// player runs a script and keeps what its sessions see.
type player struct {
	t        *testing.T
	ctx      context.Context
	how      how
	db       *pgtest.DB
	monitor  *pgx.Conn
	sessions map[string]*session
	seen     strings.Builder
	past     bool // the place where capture is put on
}

// session is one of a script's sessions.
type session struct {
	*client
	name  string
	done  chan struct{} // closed when its statement has ended; nil while it has none
	waits bool          // was told to wait
}

// play runs a script in a database of its own and returns the transcript.
func play(t *testing.T, s *script, h how) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	// Roles outlive databases: they are made first, and go last, whatever they own.
	withRoles(t, s.roles)
	db := pgtest.New(t)
	p := &player{t: t, ctx: ctx, how: h, db: db, monitor: db.Conn(t), sessions: map[string]*session{}}
	t.Cleanup(p.close)
	for _, st := range s.steps {
		p.step(st)
	}
	for _, name := range p.names() {
		if p.sessions[name].done != nil {
			t.Fatalf("%s: session %s still waits at the end", s.name, name)
		}
	}
	p.leftBehind()
	return p.seen.String()
}

func withRoles(t *testing.T, roles []string) {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), pgtest.Server(t).DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, r := range roles {
			if _, err := admin.Exec(context.Background(), "drop role "+pgx.Identifier{r}.Sanitize()); err != nil {
				t.Error(err)
			}
		}
		_ = admin.Close(context.Background())
	})
	for _, r := range roles {
		if _, err := admin.Exec(t.Context(), "create role "+pgx.Identifier{r}.Sanitize()+" login password 'x'"); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *player) step(st step) {
	switch st.kind {
	case captures:
		p.past = true
		p.capture(st.sql)
	case opens:
		p.open(st.session, st.role)
	case hears:
		p.hear(p.open(st.session, ""))
	case runs:
		s := p.open(st.session, "")
		if s.done != nil {
			p.t.Fatalf("session %s has another statement while one still waits: %s", s.name, st.sql)
		}
		fmt.Fprintf(&p.seen, "%s> %s\n", s.name, strings.ReplaceAll(st.sql, "\n", "\n   "))
		s.done = make(chan struct{})
		go func() {
			defer close(s.done)
			s.run(p.ctx, st)
		}()
		if st.toEnd {
			<-s.done
		}
		p.settle(s)
		if !p.past && strings.Contains(p.seen.String(), "\n   ERROR") {
			p.t.Fatalf("an error before capture:\n%s", p.seen.String())
		}
	}
}

// open is the session of that name, connected at its first use.
func (p *player) open(name, role string) *session {
	if s := p.sessions[name]; s != nil {
		return s
	}
	dsn := p.db.DSN()
	if role != "" {
		dsn = p.db.Server().DSNAs(p.db.Name, role, "x")
	}
	c, err := dial(p.ctx, dsn, p.how.extended)
	if err != nil {
		p.t.Fatal(err)
	}
	s := &session{client: c, name: name}
	p.sessions[name] = s
	return s
}

func (p *player) names() []string { return slices.Sorted(maps.Keys(p.sessions)) }

// settle waits until every session has ended its statement, or waits for one that has none: only the
// script can help it then. What came out is printed in the order of the sessions' names, the acting one's first.
func (p *player) settle(acting *session) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !p.settled() {
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			p.t.Fatalf("never settled after\n%s", p.seen.String())
		}
	}
	list := []*session{acting}
	for _, name := range p.names() {
		if s := p.sessions[name]; s != acting {
			list = append(list, s)
		}
	}
	for _, s := range list {
		switch {
		case s.done == nil:
		case isClosed(s.done):
			if s != acting || s.waits {
				fmt.Fprintf(&p.seen, "%s< goes on\n", s.name)
			}
			p.take(s)
			s.done, s.waits = nil, false
		case !s.waits:
			fmt.Fprintf(&p.seen, "%s< waits\n", s.name)
			s.waits = true
		}
	}
}

// take moves what a session has printed to the transcript.
func (p *player) take(s *session) {
	p.seen.Write(s.out.Bytes())
	s.out.Reset()
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// settled reports whether each busy session has ended or waits, by way of others or not, for an idle
// one of the script. Sessions that wait for each other in a circle have not settled: the server will end one.
func (p *player) settled() bool {
	busy := map[uint32]*session{}
	idle := map[uint32]bool{0: true} // 0 stands for a prepared transaction
	var pids []int64
	for _, s := range p.sessions {
		if pid := s.conn.PID(); s.done != nil && !isClosed(s.done) {
			busy[pid] = s
			pids = append(pids, int64(pid))
		} else {
			idle[pid] = true
		}
	}
	if len(busy) == 0 {
		return true
	}
	rows, _ := p.monitor.Query(p.ctx, "select pid, pg_blocking_pids(pid::int) from unnest($1::bigint[]) pid", pids)
	type edge struct {
		PID uint32
		By  []int32
	}
	edges, err := pgx.CollectRows(rows, pgx.RowToStructByPos[edge])
	if err != nil {
		p.t.Fatal(err)
	}
	// Who waits for an idle one, then who waits for those.
	held := map[uint32]bool{}
	for range edges {
		for _, e := range edges {
			for _, by := range e.By {
				if idle[uint32(by)] || held[uint32(by)] {
					held[e.PID] = true
				}
			}
		}
	}
	for pid, s := range busy {
		if !held[pid] && !isClosed(s.done) {
			return false
		}
	}
	// Somebody may have ended between the look at the channels and the question.
	for pid, s := range busy {
		if isClosed(s.done) || !held[pid] {
			return p.settled()
		}
	}
	return true
}

// hear takes one notification: one that has come already, or the next.
func (p *player) hear(s *session) {
	if len(s.heard) == 0 {
		if err := s.conn.WaitForNotification(p.ctx); err != nil {
			p.t.Fatalf("session %s heard nothing: %v", s.name, err)
		}
	}
	n := s.heard[0]
	s.heard = s.heard[1:]
	from := "?"
	for _, other := range p.sessions {
		if other.conn.PID() == n.PID {
			from = other.name
		}
	}
	fmt.Fprintf(&p.seen, "%s< %s says %q on %q\n", s.name, from, n.Payload, n.Channel)
}

func (p *player) close() {
	for _, s := range p.sessions {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = s.conn.Close(ctx)
		cancel()
	}
}
