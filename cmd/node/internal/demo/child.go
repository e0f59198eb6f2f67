package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// child is a process of the demo as the parent sees it.
type child struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when its output has ended
	heed func(*child, message)

	source atomic.Value // a string: what it last said it follows; nil: it has not changed
	ready  chan message
	mu     sync.Mutex
	next   int
	asked  map[int]chan message
}

// startChild runs this program again with other arguments and more in its environment, as a node process
// or a NATS server, and waits until it is ready. The context bounds the wait, not the process: that ends
// when its input does, after its last answer.
func startChild(ctx context.Context, name string, env []string, heed func(*child, message), args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	c := &child{name: name, done: make(chan struct{}), heed: heed, ready: make(chan message, 1), asked: map[int]chan message{}}
	c.cmd = exec.Command(self, args...)
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stderr = os.Stderr
	newGroup(c.cmd)
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go c.listen(out)
	select {
	case m := <-c.ready:
		if m.Kind == "failed" {
			c.stop()
			return nil, fmt.Errorf("%s: %s", name, m.Text)
		}
		heed(c, m)
		return c, nil
	case <-c.done:
		c.stop()
		return nil, fmt.Errorf("%s ended before it was ready: %w", name, &exec.ExitError{ProcessState: c.cmd.ProcessState})
	case <-ctx.Done():
		c.stop()
		return nil, fmt.Errorf("start %s: %w", name, ctx.Err())
	}
}

// listen reads what the process says until it ends.
func (c *child) listen(out io.Reader) {
	defer close(c.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 256<<20) // all rows of a company are one line
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			continue // not ours
		}
		switch m.Kind {
		case "ready", "failed":
			select {
			case c.ready <- m:
			default:
				c.heed(c, m)
			}
		case "reply":
			c.mu.Lock()
			to := c.asked[m.ID]
			delete(c.asked, m.ID)
			c.mu.Unlock()
			if to != nil {
				to <- m
			}
		default:
			c.heed(c, m)
		}
	}
}

// ask sends a request and waits for the answer.
func (c *child) ask(ctx context.Context, r request) (message, error) {
	to := make(chan message, 1)
	c.mu.Lock()
	c.next++
	r.ID = c.next
	c.asked[r.ID] = to
	b, err := json.Marshal(r)
	if err == nil {
		_, err = c.in.Write(append(b, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		return message{}, fmt.Errorf("%s has ended: %w", c.name, err)
	}
	select {
	case m := <-to:
		if m.Failed != "" {
			return m, fmt.Errorf("%s: %s", c.name, m.Failed)
		}
		return m, nil
	case <-c.done:
		return message{}, fmt.Errorf("%s has ended", c.name)
	case <-ctx.Done():
		return message{}, fmt.Errorf("ask %s: %w", c.name, ctx.Err())
	}
}

// stop ends the process and waits for it.
func (c *child) stop() {
	_ = c.in.Close() // it ends when its input does
	late := time.AfterFunc(8*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	<-c.done
	_ = c.cmd.Wait() // it was told to end
}
