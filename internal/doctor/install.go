package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// drifts says what each kind of drift does. Of those that are not listed, the
// table is not kept: its changes are not captured as they should be.
var drifts = map[string]struct {
	level Level
	why   string
}{
	"renamed":           {Warning, "events go on under the name that it had, and nodes follow it under that one only"},
	"excluded column":   {Warning, "each changed row is sent by its key, and every node asks for it"},
	"owner cannot read": {Warning, "rows that are written twice in one statement are sent by key, and every node asks for them"},
	"wrong owner":       {Warning, "capture runs a type's own casts, and should not run them as somebody who matters"},
	"unguarded":         {Warning, "what a publication brings into lockstep's own tables is taken for this server's"},
	"bell":              {Warning, "nobody rings: nodes learn of changes at their next beat"},
	"another cluster":   {Wrong, "the outbox's transaction ids mean nothing here: nodes refuse it"},
	"gone":              {Wrong, "nodes that keep it call it not live"},
	"trigger disabled":  {Wrong, "changes are not captured: nodes would go on with old rows, so they call the table not live"},
	"trigger not ALWAYS": {Wrong,
		"where session_replication_role is replica, as in apply workers and restores, changes are not captured: nodes call the table not live"},
	"fed by a subscription": {Wrong, "what the subscription brings is not captured: nodes call the table not live"},
}

func (e *exam) checkDrift(ctx context.Context) error {
	found, err := triggers.Inspect(ctx, e.pool, triggers.Options{Schema: e.Schema, Owner: e.Owner})
	if err != nil {
		return err
	}
	for _, d := range found {
		f := Finding{Check: "drift", Level: Wrong, What: orElse(d.Table, "the install") + ": " + d.Kind + ": " + d.What, Mend: d.Mend,
			Why: "its changes are not captured as they should be: nodes call the table not live"}
		if kind, ok := drifts[d.Kind]; ok {
			f.Level, f.Why = kind.level, kind.why
		}
		e.add(f)
	}
	return nil
}

func (e *exam) checkPolicies(ctx context.Context) error {
	type policy struct {
		Table string
		Hides bool // from this role
	}
	found, err := query[policy](ctx, e, "policies.sql")
	if err != nil {
		return err
	}
	for _, p := range found {
		f := Finding{
			Check: "row-level security", Level: Note, What: "table " + p.Table + " has row-level security",
			Why:  "a node's role must see all rows, or it refuses the table; rows that are written twice in one statement are sent by key",
			Mend: "ALTER ROLE ... BYPASSRLS for the nodes' role, if it has not been done",
		}
		if p.Hides {
			f.Level, f.What = Warning, f.What+", which hides rows from role "+e.server.Role
			f.Mend = "ALTER ROLE " + quote(e.server.Role) + " BYPASSRLS, if it is the nodes' role"
		}
		e.add(f)
	}
	return nil
}

func (e *exam) checkSubscriptions(ctx context.Context) error {
	type fed struct{ Table, Subscription, Mode string }
	found, err := query[fed](ctx, e, "subscriptions.sql")
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Mode == "row" { // else it is drift
			e.add(Finding{
				Check: "subscriptions", Level: Note, What: "subscription " + f.Subscription + " feeds table " + f.Table,
				Why: "it is captured row by row, as apply workers fire no statement triggers; when the subscription has gone, lockstep install --table " + f.Table + " captures it by statement again",
			})
		}
	}
	return nil
}

// checkSession opens a session as a node of this role would.
func (e *exam) checkSession(ctx context.Context) error {
	src, err := outbox.NewSource(outbox.Config{Schema: e.Schema, Pool: e.pool})
	if err != nil {
		return err
	}
	log, err := e.overview(ctx)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := src.Open(asking)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.add(Finding{
			Check: "a node's session", Level: Wrong, What: "a node that connects as this role is refused: " + strings.TrimPrefix(err.Error(), "outbox: "),
			Why: "it does not start, and one that runs stays stale", Mend: "see the refusal",
		})
		return nil
	}
	defer s.Close()
	if log.Bell == string(outbox.BellNotify) && s.Bell() == string(outbox.BellPoll) {
		e.add(Finding{
			Check: "a node's session", Level: Warning, What: "the bell is on, and LISTEN hears nothing of it on these connections",
			Why:  "a node polls at every beat (250 ms): changes arrive later, and an idle database is asked all the same",
			Mend: "let nodes connect past the pooler, or in its session mode",
		})
	}
	return nil
}

// announceLock is the upper half of announce.sql's advisory lock: "lock" in ASCII.
const announceLock = 1819239275

func (e *exam) checkBell(ctx context.Context) error {
	log, err := e.overview(ctx)
	if err != nil {
		return err
	}
	type listener struct {
		PID        int
		Role, From string
	}
	listeners, err := query[listener](ctx, e, "listeners.sql")
	if err != nil {
		return err
	}
	f := Finding{Check: "bell", Level: Note, What: fmt.Sprintf("the bell is %s; %d sessions named \"lockstep bell\" listen", log.Bell, len(listeners)),
		Why: "nodes that poll, or whose connection string names an application, are not among them"}
	for _, l := range listeners {
		f.Detail = append(f.Detail, who(l.PID, l.Role, l.From))
	}
	e.add(f)
	return e.holder(ctx)
}

// holder is a session that has been about to ring for a second: others pass by.
func (e *exam) holder(ctx context.Context) error {
	type holder struct {
		PID                        int
		Transaction, Program, Wait string
	}
	before, err := query[holder](ctx, e, "holder.sql", announceLock)
	if err != nil || len(before) == 0 {
		return err
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	now, err := query[holder](ctx, e, "holder.sql", announceLock)
	if err != nil || len(now) == 0 || now[0].Transaction != before[0].Transaction {
		return err
	}
	f := Finding{
		Check: "bell", Level: Warning, What: who(now[0].PID, now[0].Program) + " has held the bell for more than a second, and does not let go",
		Why:  "whoever commits passes by a bell that is held: nodes learn of changes at their next beat only",
		Mend: terminate(now[0].PID),
	}
	if now[0].Wait == "SyncRep" {
		f.Why, f.Mend = "its commit waits for a synchronous standby; "+f.Why, "bring the standby back, or change synchronous_standby_names"
	}
	e.add(f)
	return nil
}

// overview is the outbox and its nodes, read once.
func (e *exam) overview(ctx context.Context) (*outbox.Overview, error) {
	if e.log != nil {
		return e.log, nil
	}
	log, err := outbox.Look(ctx, e.pool, e.Schema)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("the schema's own rows are gone: run lockstep install: %w", err)
	}
	e.log = log
	return log, err
}
