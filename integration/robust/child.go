//go:build unix

package robust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// child is a process of a run, which is told lines and says lines, and ends when its input does.
type child struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines <-chan string
}

// launch starts a program in a role. It does not wait until it says anything.
func (c *child) launch(program string, stderr io.Writer, r role, env ...string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	c.cmd = exec.Command(program)
	c.cmd.Env = append(append(os.Environ(), NodeEnv+"="+string(text)), env...)
	c.cmd.Stderr = stderr
	c.cmd.SysProcAttr = endsWithParent()
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.lines = said(out)
	return nil
}

// running reports whether the process was started and has not been waited for.
func (c *child) running() bool { return c.cmd != nil && c.cmd.ProcessState == nil }

// tell gives the process a line.
func (c *child) tell(line string) error {
	_, err := fmt.Fprintln(c.in, line)
	return err
}

// await waits until the process says a line.
func (c *child) await(ctx context.Context, line string) error {
	for {
		select {
		case l, ok := <-c.lines:
			if !ok {
				return fmt.Errorf("%s ended before it said %q", c.name, line)
			}
			if strings.TrimSpace(l) == line {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("%s did not say %q: %w", c.name, line, context.Cause(ctx))
		}
	}
}

func (c *child) signal(s syscall.Signal) error { return c.cmd.Process.Signal(s) }

// kill ends the process at once.
func (c *child) kill() error {
	err := c.signal(syscall.SIGKILL)
	_ = c.cmd.Wait() // it was killed
	return err
}

// finish lets the process close, and waits until it has ended.
func (c *child) finish(ctx context.Context) error {
	err := c.in.Close()
	ended := make(chan struct{})
	var exit error
	go func() {
		defer close(ended)
		exit = c.cmd.Wait()
	}()
	select {
	case <-ended:
		return errors.Join(err, exit)
	case <-ctx.Done():
		_ = c.cmd.Process.Signal(syscall.SIGQUIT) // where it stands is in its last words
		last := time.AfterFunc(5*time.Second, func() { _ = c.cmd.Process.Kill() })
		defer last.Stop()
		<-ended
		return fmt.Errorf("%s did not end: %w", c.name, context.Cause(ctx))
	}
}
