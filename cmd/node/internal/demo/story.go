package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/outbox"
)

// The Archive's people, whom the traffic leaves alone.
const (
	archive        = 9
	firstArchivist = 401
	lastArchivist  = 420
)

// act is one round: traffic, and an outage of one node in the middle of it.
func (c *cluster) act(ctx context.Context, round int) error {
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	wrote := make(chan error, 1)
	go func() {
		defer cancel() // where it fails there is nothing more to show
		wrote <- c.traffic.run(ctx, c.Rate)
	}()
	c.say(plain, "%d transactions a second: hires, transfers, dismissals, new managers, raises, some rolled back", c.Rate)
	err := c.script(ctx, len(c.nodes)-1-round%len(c.nodes))
	if err != nil {
		cancel() // as there
	}
	return cmp.Or(<-wrote, err) // who asks the nodes fails when, and because, the writers do
}

// script is what happens while the traffic runs. It ends early when the context does.
func (c *cluster) script(ctx context.Context, victim int) error {
	sixth := c.Duration / 6
	if !pause(ctx, sixth) {
		return nil
	}
	if err := c.raise(ctx); err != nil {
		return err
	}
	if _, err := c.promote(ctx, -1); err != nil || !pause(ctx, sixth) {
		return err
	}
	c.progress(ctx)
	if err := c.outage(ctx, victim, sixth); err != nil {
		return err
	}
	<-ctx.Done()
	c.progress(context.WithoutCancel(ctx))
	return nil
}

// outage cuts a node off for a while, shows that it answers, and heals it.
func (c *cluster) outage(ctx context.Context, victim int, half time.Duration) error {
	node, wire := c.nodes[victim], c.cuts[victim]
	c.book.cut(node.name, time.Now())
	wire.off()
	c.say(bad, "cut: %s has lost its way to Postgres; writes go on", node.name)
	pause(ctx, half)
	shown := context.WithoutCancel(ctx)
	token, err := c.promote(shown, victim)
	if err == nil {
		err = c.raise(shown)
	}
	pause(ctx, half)
	c.progress(shown)
	c.book.healed(node.name, time.Now())
	if e := wire.on(); e != nil || err != nil {
		return errors.Join(err, e)
	}
	c.say(good, "healed: %s can reach Postgres again", node.name)
	m, err := node.ask(shown, request{Do: "manager", Who: lastArchivist, Token: token})
	if err != nil {
		return err
	}
	c.expect(node.name, m.Text, c.reports())
	how := "no table was loaded again"
	if m.Status.Reloads > 0 {
		how = fmt.Sprintf("tables were loaded again %d times", m.Status.Reloads) // which the account will find wrong
	}
	c.say(good, "%s has replayed %s events, %s: %s", node.name, thousands(m.Status.EventsReplayed), how, m.Text)
	return nil
}

// raise is a raise for everybody, in one statement.
func (c *cluster) raise(ctx context.Context) error {
	n, err := c.traffic.bulkRaise(ctx)
	if n > 0 {
		c.say(plain, "a raise for everybody: %s rows in one statement", thousands(uint64(n)))
	}
	return err
}

// promote gives the Archive another manager and shows what the nodes make of
// it. One that is cut off must answer as things were.
func (c *cluster) promote(ctx context.Context, away int) (token lockstep.Token, err error) {
	before := c.reports()
	c.boss = firstArchivist + (c.boss-firstArchivist+1)%(lastArchivist-firstArchivist)
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "update "+c.traffic.table("departments")+" set manager = $1 where id = $2", c.boss, archive); err != nil {
			return err
		}
		token, err = outbox.ReadToken(ctx, tx, c.schema)
		return err
	})
	if err != nil {
		return token, fmt.Errorf("give the Archive a manager: %w", err)
	}
	c.say(plain, "the Archive has a new manager: one row of departments is written, none of employees")
	agree := 0
	for i, n := range c.nodes {
		if i == away {
			continue
		}
		m, err := n.ask(ctx, request{Do: "manager", Who: lastArchivist, Token: token})
		if err != nil {
			return token, err
		}
		agree += c.expect(n.name, m.Text, c.reports())
	}
	if agree > 0 {
		c.say(plain, "  %d of the nodes that can reach Postgres say: %s", agree, c.reports())
	}
	if away < 0 {
		return token, nil
	}
	n := c.nodes[away]
	m, err := n.ask(ctx, request{Do: "manager", Who: lastArchivist})
	if err != nil {
		return token, err
	}
	c.expect(n.name, m.Text, before)
	c.say(watch, "  %s still answers, from memory %.1f s old: %s", n.name, m.Status.Staleness, m.Text)
	return token, nil
}

// reports is what a directory answers about the last archivist.
func (c *cluster) reports() string {
	return fmt.Sprintf("Archivist %d (Archive) reports to Archivist %d", lastArchivist, c.boss)
}

// expect counts an answer that is right, and keeps one that is not for the account.
func (c *cluster) expect(node, got, want string) int {
	if got == want {
		return 1
	}
	c.wrong = append(c.wrong, fmt.Sprintf("%s said %q where %q was right", node, got, want))
	return 0
}

// progress says how far everybody is.
func (c *cluster) progress(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var at []string
	for _, n := range c.nodes {
		m, err := n.ask(ctx, request{Do: "status"})
		if err != nil {
			return // the round is over; what is wrong shows in the account
		}
		text := n.name + " " + thousands(m.Status.Events)
		if m.Status.State != "live" {
			text += fmt.Sprintf(" (%.1f s old)", m.Status.Staleness)
		}
		at = append(at, text)
	}
	c.say(dim, "%s transactions so far; events applied: %s", thousands(c.traffic.total()), strings.Join(at, ", "))
}

// pause waits for a while; false: the context has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > 90 {
		s = string(r[:90]) + "..."
	}
	return s
}

// thousands writes a number as people read it.
func thousands(n uint64) string {
	s := fmt.Sprint(n)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}
