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
	"github.com/pglockstep/lockstep/internal/human"
	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
)

// The Archive's people, whom the traffic leaves alone.
const (
	archive        = 9
	firstArchivist = 401
	lastArchivist  = 420
)

// act is one round: traffic, and an outage of one node in the middle of it,
// unless the page has the stage.
func (c *cluster) act(ctx context.Context, round int) error {
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	wrote := make(chan error, 1)
	go func() {
		defer cancel() // where it fails there is nothing more to show
		wrote <- c.traffic.run(ctx, c.Rate)
	}()
	var err error
	if !c.stage.resting() {
		if round > 0 {
			c.say(plain, "once more; Ctrl-C ends with the account")
		}
		c.say(plain, "%d transactions a second: hires, transfers, dismissals, new managers, raises, some rolled back", c.Rate)
		err = c.script(ctx, len(c.nodes)-1-round%len(c.nodes))
	}
	if err != nil {
		cancel() // as there
	}
	<-ctx.Done()
	if err == nil && !c.stage.resting() {
		c.progress(context.WithoutCancel(ctx))
	}
	return cmp.Or(<-wrote, err) // who asks the nodes fails when, and because, the writers do
}

// script is what happens while the traffic runs. It ends early when the context
// does, or when somebody presses a button.
func (c *cluster) script(ctx context.Context, victim int) error {
	ctx, cancel := c.stage.until(ctx)
	defer cancel()
	if c.stage.take(ctx) != nil {
		return nil // the round is over, or the page has it
	}
	defer c.stage.leave()
	err := c.scenes(ctx, victim)
	if errors.Is(context.Cause(ctx), errHanded) {
		return nil // what was broken off is no failure
	}
	return err
}

func (c *cluster) scenes(ctx context.Context, victim int) error {
	sixth := c.Duration / 6
	if !pause.For(ctx, sixth) {
		return nil
	}
	if _, err := c.raise(ctx); err != nil {
		return err
	}
	if err := c.promote(ctx); err != nil || !pause.For(ctx, sixth) {
		return err
	}
	c.progress(ctx)
	if err := c.outage(ctx, victim, sixth); err != nil || c.fanout == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if err := c.awaitSource(ctx, true); err != nil { // the node that was cut off
		return cause(err)
	}
	return c.drought(ctx)
}

// outage cuts a node off for a while, shows that it answers, and heals it.
func (c *cluster) outage(ctx context.Context, victim int, half time.Duration) error {
	c.cutOff(victim)
	pause.For(ctx, half)
	shown := context.WithoutCancel(ctx)
	err := c.promote(shown)
	if err == nil {
		_, err = c.raise(shown)
	}
	pause.For(ctx, half)
	c.progress(shown)
	_, e := c.heal(shown, victim)
	return errors.Join(err, e)
}

// cutOff takes a node's way to Postgres away. Caller has the stage.
func (c *cluster) cutOff(i int) {
	c.frozen[i] = c.reports()
	c.book.cut(c.nodes[i].name, time.Now())
	c.cuts[i].off()
	c.say(bad, "cut: %s has lost its way to %s; writes go on", c.nodes[i].name, c.sourceNames())
}

// sourceNames are what nodes follow.
func (c *cluster) sourceNames() string {
	if c.fanout != nil {
		return "Postgres and NATS"
	}
	return "Postgres"
}

// heal gives it back, and returns what it did once the node has caught up. Caller has the stage.
func (c *cluster) heal(ctx context.Context, i int) (string, error) {
	node := c.nodes[i]
	c.book.healed(node.name, time.Now())
	if err := c.cuts[i].on(); err != nil {
		return "", err
	}
	c.say(good, "healed: %s can reach %s again", node.name, c.sourceNames())
	token, err := c.token(ctx)
	if err != nil {
		return "", err
	}
	m, err := node.ask(ctx, request{Do: "manager", Who: lastArchivist, Token: token})
	if err != nil {
		return "", err
	}
	c.expect(node.name, m.Text, c.reports())
	how := "no table was loaded again"
	if m.Status.Reloads > 0 {
		how = fmt.Sprintf("tables were loaded again %d times", m.Status.Reloads) // which the account will find wrong
	}
	return c.sayIt(good, "%s has replayed %s events, %s: %s", node.name, thousands(m.Status.EventsReplayed), how, m.Text), nil
}

// token stands for everything that is committed by now.
func (c *cluster) token(ctx context.Context) (token lockstep.Token, err error) {
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		token, err = outbox.ReadToken(ctx, tx, c.schema)
		return err
	})
	return token, err
}

// raise is a raise for everybody, in one statement.
func (c *cluster) raise(ctx context.Context) (rows int64, err error) {
	rows, err = c.traffic.bulkRaise(ctx)
	if rows > 0 {
		c.say(plain, "a raise for everybody: %s rows in one statement", thousands(uint64(rows)))
	}
	return rows, err
}

// promote gives the Archive another manager and shows what the nodes make of
// it. One that is cut off must answer as things were. Caller has the stage.
func (c *cluster) promote(ctx context.Context) error {
	boss := firstArchivist + (c.boss-firstArchivist+1)%(lastArchivist-firstArchivist)
	var token lockstep.Token
	err := whole(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "update "+c.traffic.table("departments")+" set manager = $1 where id = $2", boss, archive); err != nil {
				return err
			}
			var err error
			token, err = outbox.ReadToken(ctx, tx, c.schema)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("give the Archive a manager: %w", err)
	}
	c.boss = boss
	c.say(plain, "the Archive has a new manager: one row of departments is written, none of employees")
	agree := 0
	for i, n := range c.nodes {
		if c.cuts[i].isOff.Load() {
			continue
		}
		m, err := n.ask(ctx, request{Do: "manager", Who: lastArchivist, Token: token})
		if err != nil {
			return err
		}
		agree += c.expect(n.name, m.Text, c.reports())
	}
	if agree > 0 {
		c.say(plain, "  %d of the nodes that can reach Postgres say: %s", agree, c.reports())
	}
	for i, n := range c.nodes {
		if !c.cuts[i].isOff.Load() {
			continue
		}
		m, err := n.ask(ctx, request{Do: "manager", Who: lastArchivist})
		if err != nil {
			return err
		}
		c.expect(n.name, m.Text, c.frozen[i])
		c.say(watch, "  %s still answers, from memory %.1f s old: %s", n.name, m.Status.Staleness, m.Text)
	}
	return nil
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

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > 90 {
		s = string(r[:90]) + "..."
	}
	return s
}

// thousands writes a number as people read it.
func thousands(n uint64) string {
	return human.Digits(fmt.Sprint(n))
}
