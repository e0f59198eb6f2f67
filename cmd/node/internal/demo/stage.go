package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pglockstep/lockstep/cmd/node/internal/window"
)

// stage is what the script and the page's buttons act on, one at a time: whoever
// asks a node what it must answer has to know which ones can reach Postgres.
type stage struct {
	turn   chan struct{} // holds one for whoever has it
	handed chan struct{} // closed once somebody has pressed a button: the script rests from then on
	once   sync.Once
}

// errHanded ends the script.
var errHanded = errors.New("the page has the stage")

func newStage() *stage {
	return &stage{turn: make(chan struct{}, 1), handed: make(chan struct{})}
}

// take waits for the stage; leave gives it up.
func (s *stage) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the stage is taken: %w", ctx.Err())
	}
}

func (s *stage) leave() { <-s.turn }

// hand makes the script rest, and reports whether it had not before.
func (s *stage) hand() (first bool) {
	s.once.Do(func() {
		first = true
		close(s.handed)
	})
	return first
}

// resting reports whether the script rests.
func (s *stage) resting() bool {
	select {
	case <-s.handed:
		return true
	default:
		return false
	}
}

// until is a context that also ends, with errHanded, when the script is to rest.
func (s *stage) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.handed:
			cancel(errHanded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// burst is how many transactions the button writes.
const burst = 1000

// buttons are the page's. What they have begun goes on without the page that pressed them, until
// the demo ends.
func (c *cluster) buttons(life context.Context) []window.Action {
	of := func(do func(ctx context.Context, i int) (string, error)) func(context.Context, string) (string, error) {
		return func(_ context.Context, node string) (string, error) { return c.press(life, node, do) }
	}
	actions := []window.Action{
		{Name: "burst", Label: "Write a burst", Hint: "1,000 transactions, as fast as they go", Do: of(func(ctx context.Context, _ int) (string, error) {
			began := time.Now()
			if err := c.traffic.burst(ctx, burst); err != nil {
				return "", err
			}
			return c.sayIt(plain, "a burst: %s transactions in %.1f s", thousands(burst), time.Since(began).Seconds()), nil
		})},
		{Name: "raise", Label: "A raise for everybody", Hint: "one statement over every employee", Do: of(func(ctx context.Context, _ int) (string, error) {
			n, err := c.raise(ctx)
			return fmt.Sprintf("a raise for everybody: %s rows in one statement", thousands(uint64(n))), err
		})},
		{Name: "manager", Label: "Change a manager", Hint: "of the Archive: one row of departments, none of employees", Do: of(func(ctx context.Context, _ int) (string, error) {
			err := c.promote(ctx)
			return "the Archive has a new manager; whoever can reach Postgres says: " + c.reports(), err
		})},
		{Name: "cut", Label: "Cut off", Hint: "from Postgres; it goes on answering from memory", Node: true, Do: of(func(_ context.Context, i int) (string, error) {
			if c.cuts[i].isOff.Load() {
				return "", fmt.Errorf("%s is cut off already", c.nodes[i].name)
			}
			c.cutOff(i)
			return c.nodes[i].name + " has lost its way to Postgres; writes go on", nil
		})},
		{Name: "heal", Label: "Heal", Hint: "let it reach Postgres again", Node: true, Do: of(func(ctx context.Context, i int) (string, error) {
			if !c.cuts[i].isOff.Load() {
				return "", fmt.Errorf("%s is not cut off", c.nodes[i].name)
			}
			return c.heal(ctx, i)
		})},
	}
	if c.Fanout {
		actions = append(actions, window.Action{Name: "drought", Label: "Stop NATS", Hint: "until every node follows Postgres; then it comes back", Do: of(func(ctx context.Context, _ int) (string, error) {
			return returned, c.drought(ctx)
		})})
	}
	return actions
}

// press takes the stage and does what a button says. i is -1 unless it is a node's.
func (c *cluster) press(life context.Context, node string, do func(ctx context.Context, i int) (string, error)) (string, error) {
	if c.ready.Load() == nil {
		return "", errors.New("the demo has not begun yet")
	}
	if c.stage.hand() {
		c.say(plain, "the page has the stage: the script rests, traffic goes on")
	}
	ctx, cancel := context.WithTimeout(life, 30*time.Second)
	defer cancel()
	if err := c.stage.take(ctx); err != nil {
		if life.Err() != nil {
			err = errors.New("the demo is ending")
		}
		return "", err
	}
	defer c.stage.leave()
	i := -1
	for at, n := range c.nodes {
		if n.name == node {
			i = at
		}
	}
	if i < 0 && node != "" {
		return "", fmt.Errorf("there is no node %s", node)
	}
	return do(ctx, i)
}
